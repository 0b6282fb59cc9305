"""What others ask of whoever polls a source: small files beside the roles' state.

`ducklake backfill` and `ducklake verify --repair` have rows read again; `ducklake verify` waits
until everything that MySQL had committed is in Kafka. A request is gone once it was served; why one
was refused stays for whoever waits for it.
"""

from __future__ import annotations

import time
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path

from lake.config import Config
from lake.errors import SourceError
from lake.storage.json_files import read_json, write_json
from lake.storage.operations import make_scratch_folder, remove_file
from lake.storage.paths import LakePaths

READ, LOOK, TRUST = "read", "look", "trust"
"""Rows are to be read again; the source is to be polled once; a table was found equal."""
REFUSED_SECONDS = 7 * 86_400.0


@dataclass(frozen=True, slots=True)
class PollRequest:
    """A request.

    Attributes:
        id: Its identity.
        kind: `read`, `look` or `trust`.
        table: The table's name in the lake; empty of `look`.
        where: A condition in MySQL's SQL; empty for all rows.
        moment: When it was made, in seconds of the epoch.
    """

    id: str
    kind: str
    table: str
    where: str
    moment: float


class PollRequests:
    """The requests to one source.

    Args:
        config: The configuration.
        source: The source.
    """

    def __init__(self, config: Config, source: str) -> None:
        self._folder = LakePaths(config.data_dir).run / f"{source}.requests"

    def add(self, kind: str, table: str = "", where: str = "") -> PollRequest:
        """Make a request; one that is made already is not made twice."""
        for known in self.all():
            if (known.kind, known.table, known.where) == (kind, table, where) and kind == READ:
                return known
        request = PollRequest(uuid.uuid4().hex, kind, table, where, time.time())
        make_scratch_folder(self._folder)
        write_json(self._path(request), asdict(request))
        return request

    def all(self, *kinds: str) -> list[PollRequest]:
        """Those that are to be served, the oldest first; of all kinds by default."""
        found = []
        for path in self._folder.glob("*.json") if self._folder.is_dir() else ():
            try:
                found.append(PollRequest(**read_json(path)))
            except TypeError:
                continue  # it was served meanwhile, or somebody else has put it there
        chosen = (request for request in found if not kinds or request.kind in kinds)
        return sorted(chosen, key=lambda request: (request.moment, request.id))

    def is_open(self, request: PollRequest) -> bool:
        """Whether it is still to be served."""
        return self._path(request).exists()

    def served(self, request: PollRequest) -> None:
        """Forget it."""
        remove_file(self._path(request))

    def refuse(self, request: PollRequest, error: SourceError) -> None:
        """Note why it cannot be served, for whoever waits; it is still to be forgotten."""
        for old in self._folder.glob("*.refused"):  # nobody has waited
            if read_json(old).get("moment", 0.0) < time.time() - REFUSED_SECONDS:
                remove_file(old)
        said = {"what": error.what, "remedy": error.remedy, "moment": time.time()}
        write_json(self._path(request).with_suffix(".refused"), said)

    def refusal(self, request: PollRequest) -> SourceError | None:
        """Why a request that is no longer open was not served; None if it was."""
        said = read_json(self._path(request).with_suffix(".refused"))
        return SourceError(said["what"], said["remedy"]) if said else None

    def _path(self, request: PollRequest) -> Path:
        return self._folder / f"{request.id}.json"
