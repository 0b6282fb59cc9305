"""Files that suppliers drop on an SFTP server."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from lake.config import SftpConnection
from lake.openlineage.datasets import Dataset, remote_file
from producers.files.connector import FileConnector
from producers.files.folder import Folder
from producers.sftp.folder import SftpFolder
from producers.sftp.session import open_session


class SftpConnector(FileConnector):
    """Reads the files of a folder on an SFTP server."""

    Connection = SftpConnection
    embedded_service = "sftp"
    connection: SftpConnection

    def origin(self, table: str) -> Sequence[Dataset]:
        """The file, or the pattern of its files."""
        path = f"{self.source.directory.rstrip('/')}/{self.source.tables[table].file}"
        return (remote_file(self.connection.host, self.connection.port, path),)

    @contextmanager
    def open_folder(self) -> Iterator[Folder]:
        """Log in."""
        with open_session(self.connection) as sftp:
            yield SftpFolder(sftp, self.source.directory)
