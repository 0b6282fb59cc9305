"""The public APIs whose answers the demo's own server imitates."""

from __future__ import annotations

from collections.abc import MutableMapping

PUBLIC_APIS = {
    "argentinadatos": "https://api.argentinadatos.com",
    "dolarapi": "https://dolarapi.com",
}
"""By the name of their connection in the demo's `ducklake.yml`."""


def use_public_apis(environment: MutableMapping[str, str]) -> None:
    """Point the demo's connections at the public addresses, in this process and those it starts."""
    for name, url in PUBLIC_APIS.items():
        environment[f"DUCKLAKE_CONNECTIONS__{name.upper()}__BASE_URL"] = url
