"""Where an API is, how one logs in, and the limits of a request."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator

from lake.config import Connection, Section
from lake.config.section import Positive
from producers.http.gate import Origin, origin_of


class BasicAuth(Section):
    """User and password."""

    type: Literal["basic"]
    user: str
    password: SecretStr


class BearerAuth(Section):
    """A token that does not change."""

    type: Literal["bearer"]
    token: SecretStr


class ApiKeyAuth(Section):
    """A key in a header, or in the query."""

    type: Literal["api_key"]
    api_key: SecretStr
    header: str | None = None
    parameter: str | None = None

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.header is None) == (self.parameter is None):
            raise ValueError("name either the `header` or the query's `parameter` of the key")
        return self


class OAuth2Auth(Section):
    """OAuth 2.0 with client credentials: a token is asked for, and asked for again in time.

    Attributes:
        client_auth: Whether id and secret go as basic authentication, or in the `body`.
        parameters: Further parameters of the request for a token, such as `audience`.
    """

    type: Literal["oauth2"]
    token_url: str
    client_id: str
    client_secret: SecretStr
    scope: str | None = None
    client_auth: Literal["basic", "body"] = "basic"
    parameters: dict[str, str] = {}

    @field_validator("token_url")
    @classmethod
    def _is_an_address(cls, url: str) -> str:
        origin_of(url)
        return url


Auth = Annotated[BasicAuth | BearerAuth | ApiKeyAuth | OAuth2Auth, Field(discriminator="type")]


class RestConnection(Connection):
    """An HTTP API.

    Attributes:
        headers: Sent with every request to this API, and shown nowhere.
        connect_seconds: Until the connection stands.
        read_seconds: Between two pieces of an answer.
        total_seconds: For a whole answer, however it comes.
        max_mb: The largest body, unpacked.
        allow_private_addresses: Whether redirects and links may lead to private addresses; the
            host of `base_url` itself always may be one.
    """

    base_url: str
    headers: dict[str, SecretStr] = {}
    auth: Auth | None = None
    connect_seconds: Positive = 5
    read_seconds: Positive = 20
    total_seconds: Positive = 60
    max_mb: Positive = 256
    allow_private_addresses: bool = False

    @field_validator("base_url")
    @classmethod
    def _is_an_address(cls, url: str) -> str:
        origin_of(url)
        if "@" in url.split("://")[1].split("/")[0]:
            raise ValueError("no user and password in the address: use `auth`")
        return url.rstrip("/")

    @property
    def origin(self) -> Origin:
        """The origin that gets the credentials."""
        return origin_of(self.base_url)

    def secrets(self) -> list[str]:
        """Everything that must be shown nowhere."""
        found = [value.get_secret_value() for value in self.headers.values()]
        match self.auth:
            case BasicAuth():
                found.append(self.auth.password.get_secret_value())
            case BearerAuth():
                found.append(self.auth.token.get_secret_value())
            case ApiKeyAuth():
                found.append(self.auth.api_key.get_secret_value())
            case OAuth2Auth():
                found.append(self.auth.client_secret.get_secret_value())
            case None:
                pass
        return found
