"""Kafka Connect's REST API, as far as one connector needs it; every refusal has a name."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from typing import Any

import requests

from lake.config import without_login
from lake.errors import DuckLakeError, ServiceUnreachable, SourceError

TIMEOUT = (5.0, 30.0)
CONFLICT_SECONDS = 0.2
REASON_CHARACTERS = 500
# What Debezium's validation says when the database does not answer, rather than refuses.
_NO_ANSWER = ("Failed to establish connection", "Communications link failure")
POLICY = re.compile(r"Refused by the policy of this Connect: ([^\"]+)")
"""How connect/converter's RestPolicy says that a setting is not allowed."""
NO_JAR = re.compile(
    r"ClassNotFoundException: ducklake\.|Class ducklake\.\w+ could not be found"
    r"|Failed to find any class that implements"
)


class ConnectRest:
    """One connector of a Connect cluster.

    Args:
        url: The REST address.
        connector: The connector's name.
        secrets: What must never stand in an error.
        place: Where the connection of the source stands in `ducklake.yml`.
    """

    def __init__(
        self,
        url: str,
        connector: str,
        secrets: tuple[str, ...] = (),
        place: str = "the source's connection",
    ) -> None:
        self.connector = connector
        self._url = url
        self._shown = without_login(url)
        self._place = place
        self._secrets = tuple(secret for secret in secrets if secret)
        self._http = requests.Session()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def configuration(self) -> dict[str, str] | None:
        """The connector's configuration; None where there is no connector."""
        found = self._get(f"/connectors/{self.connector}/config")
        return {k: v for k, v in found.items() if k != "name"} if found is not None else None

    def configure(self, wanted: Mapping[str, str]) -> None:
        """Make the connector, or give it another configuration.

        Raises:
            SourceError: Connect refuses the configuration, with what is wrong in it.
            ServiceUnreachable: Connect, or the database that it has to ask, does not answer.
        """
        response = self._request("PUT", f"/connectors/{self.connector}/config", wanted)
        if not response.ok:
            raise self._explain(wanted, response)

    def status(self) -> dict[str, Any]:
        """The states of the connector and its tasks; empty where there is no connector."""
        return self._get(f"/connectors/{self.connector}/status") or {}

    def offsets(self) -> list[dict[str, Any]]:
        """The source offsets that Connect has committed."""
        answer = self._get(f"/connectors/{self.connector}/offsets") or {}
        return [entry.get("offset") or {} for entry in answer.get("offsets", [])]

    def restart(self, all_of_it: bool = False) -> None:
        """Restart what has failed, or everything."""
        only = "" if all_of_it else "&onlyFailed=true"
        path = f"/connectors/{self.connector}/restart?includeTasks=true{only}"
        response = self._request("POST", path)
        if not response.ok:
            raise self._unexpected("POST", path, response.status_code)

    def pause(self) -> None:
        """Have the connector read no further, until `resume`; it stays paused over restarts."""
        self._change("PUT", "/pause")

    def resume(self) -> None:
        """Have a paused or stopped connector run."""
        self._change("PUT", "/resume")

    def stop(self) -> None:
        """End the connector's tasks; only then can its offsets be deleted."""
        self._change("PUT", "/stop")

    def remove(self) -> bool:
        """Delete the connector; its offsets stay in Connect. Whether there was one."""
        path = f"/connectors/{self.connector}"
        response = self._request("DELETE", path)
        if response.status_code == requests.codes.not_found:
            return False
        if not response.ok:
            raise self._unexpected("DELETE", path, response.status_code)
        return True

    def delete_offsets(self) -> None:
        """Forget how far a stopped connector has read: it begins with a new snapshot."""
        self._change("DELETE", "/offsets")

    def _change(self, method: str, what: str) -> None:
        path = f"/connectors/{self.connector}{what}"
        response = self._request(method, path)
        if not response.ok:
            raise self._unexpected(method, path, response.status_code)

    def clean(self, text: str) -> str:
        """The text's first line without any secret, cut to a readable length."""
        line = text.strip().partition("\n")[0]
        for secret in self._secrets:
            line = line.replace(secret, "***")
        return line[:REASON_CHARACTERS]

    def _shown_error(self, wanted: Mapping[str, str], key: str, text: str) -> str:
        """An error, without the value that a reference stands for: Connect quotes it."""
        reference = wanted.get(key, "")
        if "${" in reference:
            return f"the value of {reference} is refused"
        return self.clean(text)

    def _get(self, path: str) -> Any:
        response = self._request("GET", path)
        if response.status_code == requests.codes.not_found:
            return None
        if not response.ok:
            raise self._unexpected("GET", path, response.status_code)
        return response.json()

    def _request(
        self, method: str, path: str, body: Mapping[str, str] | None = None
    ) -> requests.Response:
        deadline = time.monotonic() + TIMEOUT[1]
        while True:
            try:
                response = self._http.request(
                    method, f"{self._url}{path}", json=body, timeout=TIMEOUT
                )
            except requests.RequestException as error:
                raise ServiceUnreachable(
                    f"Kafka Connect at {self._shown}: {type(error).__name__}.", "Is it up?"
                ) from None
            # 409: Connect is rebalancing, for a moment
            if response.status_code != requests.codes.conflict or time.monotonic() > deadline:
                return response
            time.sleep(CONFLICT_SECONDS)

    def _unexpected(self, method: str, path: str, status: int) -> DuckLakeError:
        what = f"Kafka Connect at {self._shown}: {method} {path} answered {status}."
        if status in {requests.codes.unauthorized, requests.codes.forbidden}:
            return SourceError(what, "Check user and password of services.connect.")
        return ServiceUnreachable(what, "It is retried.")

    def _explain(self, wanted: Mapping[str, str], response: requests.Response) -> DuckLakeError:
        """What is wrong with a configuration that was not taken.

        Connect is asked to validate it: its answer to the PUT itself is a bare 500 where Debezium
        declares an option that has no value (a NullPointerException while it lists the errors).
        """
        if NO_JAR.search(response.text):
            return no_jar(self.connector)
        if refusal := POLICY.search(response.text):
            return SourceError(
                f"Kafka Connect's policy refuses the connector {self.connector}:"
                f" {self.clean(refusal[1])}",
                "Take it out of the source's options: it could read files or secrets"
                " (docs/CONFIGURATION.md).",
            )
        path = f"/connector-plugins/{wanted['connector.class'].rpartition('.')[2]}/config/validate"
        answer = self._request("PUT", path, {**wanted, "name": self.connector})
        if not answer.ok:
            status = response.status_code
            return self._unexpected("PUT", f"/connectors/{self.connector}/config", status)
        values = [entry.get("value") or {} for entry in answer.json().get("configs", [])]
        wrong = [
            f"{value.get('name')}: {self._shown_error(wanted, value.get('name', ''), text)}"
            for value in values
            for text in value.get("errors", [])
        ]
        if any(NO_JAR.search(text) for text in wrong):
            return no_jar(self.connector)
        if not wrong:
            status = response.status_code
            return self._unexpected("PUT", f"/connectors/{self.connector}/config", status)
        what = (
            f"Kafka Connect refuses the connector {self.connector}: {'; '.join(wrong).rstrip('.')}."
        )
        if any(sign in text for text in wrong for sign in _NO_ANSWER):
            return ServiceUnreachable(what, "Is MySQL up, as seen from Connect?")
        return SourceError(
            what,
            f"Mend {self._place} (Connect has its own copy of the password, see connect_password)"
            " or the source's options.",
        )


def no_jar(connector: str) -> SourceError:
    """Connect lacks the project's jar."""
    return SourceError(
        f"Kafka Connect does not find ducklake.MysqlConnector and the converter that keep MySQL's"
        f" values exact, for the connector {connector}.",
        "Write them with `ducklake converter FILE`, put it into the folder of Debezium's MySQL"
        " connector, and restart Kafka Connect.",
    )
