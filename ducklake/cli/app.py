"""`ducklake COMMAND`: thin commands over the packages, one sentence for every failure."""

from __future__ import annotations

import json
import os
import sys
from typing import Annotated

import structlog
import typer

from ducklake import __version__
from ducklake.cli import (
    catalog_commands,
    connector_commands,
    dagster_ui,
    doctor,
    export,
    failures,
    file_commands,
    lake_commands,
    monitor_commands,
    pipeline_commands,
    project_commands,
    service,
    stack_commands,
)
from ducklake.cli.commands import Commands
from ducklake.cli.options import ConfigOption, OfflineOption
from ducklake.cli.output import note
from ducklake.exit_codes import FENCED, INTERRUPTED
from lake.certificates import use_system_certificates
from lake.config import CONFIG_NAME, json_schema
from lake.config.secrecy import without_login
from lake.errors import DuckLakeError, ProducerFenced, UnexpectedError

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
config_app = typer.Typer(
    cls=Commands, no_args_is_help=True, help=f"Validate {CONFIG_NAME}, or print its JSON Schema."
)
app.add_typer(config_app, name="config")
generations_app = typer.Typer(
    cls=Commands, no_args_is_help=True, help="List and delete the generations of rebuilt tables."
)
app.add_typer(generations_app, name="generations")
generations_app.command("list")(lake_commands.list_generations)
generations_app.command("remove")(lake_commands.remove_generation)
connector_app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    help="Show, pause, resume, restart and remove Kafka Connect's connectors.",
)
app.add_typer(connector_app, name="connector")
for _connector_command in (
    connector_commands.status,
    connector_commands.pause,
    connector_commands.resume,
    connector_commands.restart,
    connector_commands.remove,
):
    connector_app.command()(_connector_command)
ledger_app = typer.Typer(cls=Commands, no_args_is_help=True, help="Maintain the ledger.")
app.add_typer(ledger_app, name="ledger")
ledger_app.command("rebuild")(lake_commands.rebuild_ledger)
dead_letters_app = typer.Typer(
    cls=Commands, no_args_is_help=True, help="List, redrive and drop what could not be decoded."
)
app.add_typer(dead_letters_app, name="dead-letters")
dead_letters_app.command("list")(lake_commands.list_dead_letters)
dead_letters_app.command("show")(lake_commands.show_dead_letter)
dead_letters_app.command("redrive")(lake_commands.redrive_dead_letters)
dead_letters_app.command("drop")(lake_commands.drop_dead_letters)
catalog_app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    help="Register the lake's public files in catalogues of other engines.",
)
app.add_typer(catalog_app, name="catalog")
catalog_app.command()(catalog_commands.iceberg)
catalog_app.command()(catalog_commands.ducklake)
service_app = typer.Typer(cls=Commands, no_args_is_help=True, help="The roles as systemd's units.")
app.add_typer(service_app, name="service")
service_app.command("install")(service.install)
service_app.command("remove")(service.remove)
alerts_app = typer.Typer(cls=Commands, no_args_is_help=True, help="Try the targets of alerts.")
app.add_typer(alerts_app, name="alerts")
alerts_app.command("test")(monitor_commands.alerts_test)
# In the order of `ducklake --help`.
for _command in (
    stack_commands.up,
    stack_commands.down,
    stack_commands.status,
    doctor.doctor,
    stack_commands.reset,
    project_commands.init,
    project_commands.plan,
    stack_commands.converter,
    pipeline_commands.produce,
    connector_commands.backfill,
    file_commands.files,
    file_commands.preview,
    pipeline_commands.consume,
    pipeline_commands.live,
    pipeline_commands.dashboard,
    monitor_commands.monitor,
    monitor_commands.metrics,
    monitor_commands.trace,
    monitor_commands.logs,
    pipeline_commands.compact,
    lake_commands.verify,
    lake_commands.schema,
    lake_commands.accept_loss,
    lake_commands.replay,
    lake_commands.gc,
    lake_commands.backup,
    lake_commands.restore,
    pipeline_commands.batch,
    export.export,
    dagster_ui.dagster,
    failures.failures,
    pipeline_commands.run,
    pipeline_commands.simulate,
    pipeline_commands.demo,
    lake_commands.report,
):
    app.command()(_command)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"ducklake {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Stream MySQL, SFTP and API data through Kafka into Parquet, DuckDB and PostgreSQL."""


@config_app.command()
def check(config: ConfigOption = None, offline: OfflineOption = False) -> None:
    """Validate the configuration, and check each source against its server.

    Every error names its line. A server that does not answer is named, and is no error.
    """
    from ducklake.cli import configuration

    configuration.check(config, offline)


@config_app.command()
def schema() -> None:
    """Print the JSON Schema of the configuration, for editors."""
    print(json.dumps(json_schema(), indent=2))


def _set_up_logging() -> None:
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.format_exc_info,
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty()),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


def main() -> None:
    """The entry point: a named failure is one sentence and an exit code, never a traceback."""
    _set_up_logging()
    use_system_certificates()
    os.environ.setdefault("PYTHONWARNINGS", "ignore::DeprecationWarning")
    try:
        app()
    except ProducerFenced as error:
        note(f"ducklake: {error}")
        sys.exit(FENCED)
    except DuckLakeError as error:
        note(f"ducklake: {without_login(str(error))}")
        sys.exit(1)
    except Exception as error:  # its message may quote a row: its type and place are enough
        remedy = "This is a defect; what was committed is safe. Run it again, and report this line."
        note(f"ducklake: {UnexpectedError.of('Unexpected error', error, remedy)}")
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
