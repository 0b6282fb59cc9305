"""The one configuration file, `ducklake.yml`: typed, validated, with the line of every error.

`settings` has its sections, `connections` the servers of sources, `endpoints` resolves what is
`embedded`, `relations` names tables, `loading` reads the file, `suggestions` words what is wrong.
"""

from lake.config.catalogs import IcebergCatalog
from lake.config.connections import (
    Connection,
    ConnectionEntry,
    LoginConnection,
    MysqlConnection,
    SftpConnection,
)
from lake.config.endpoints import NOWHERE, Endpoints, PostgresEndpoint, StackState
from lake.config.files import with_files_of
from lake.config.live import Live
from lake.config.loading import CONFIG_NAME, find_config, json_schema, load_config
from lake.config.project import Config
from lake.config.relations import DEAD_LETTERS, TableRef
from lake.config.secrecy import is_reference, masked, names_a_secret, without_login
from lake.config.section import EMBEDDED, Name, Port, Positive, Section
from lake.config.services import Services
from lake.config.settings import (
    FOREIGN,
    MYSQL,
    MYSQL_CDC,
    MYSQL_POLL,
    Consumer,
    DeadLetterPolicy,
    EmbeddedPorts,
    Logs,
    Settings,
    Source,
    Table,
)
from lake.config.suggestions import nearest
from lake.config.watching import AlertCommand, Lineage, seconds_of

__all__ = [
    "CONFIG_NAME",
    "DEAD_LETTERS",
    "EMBEDDED",
    "FOREIGN",
    "MYSQL",
    "MYSQL_CDC",
    "MYSQL_POLL",
    "NOWHERE",
    "AlertCommand",
    "Config",
    "Connection",
    "ConnectionEntry",
    "Consumer",
    "DeadLetterPolicy",
    "EmbeddedPorts",
    "Endpoints",
    "IcebergCatalog",
    "Lineage",
    "Live",
    "LoginConnection",
    "Logs",
    "MysqlConnection",
    "Name",
    "Port",
    "Positive",
    "PostgresEndpoint",
    "Section",
    "Services",
    "Settings",
    "SftpConnection",
    "Source",
    "StackState",
    "Table",
    "TableRef",
    "find_config",
    "is_reference",
    "json_schema",
    "load_config",
    "masked",
    "names_a_secret",
    "nearest",
    "seconds_of",
    "with_files_of",
    "without_login",
]
