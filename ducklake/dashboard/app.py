"""The web application: pages, REST API, live events, and what each answer's headers allow."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, RedirectResponse
from fastapi.staticfiles import StaticFiles
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ducklake.dashboard.access import Access
from ducklake.dashboard.api import api_routes
from ducklake.dashboard.pages import Pages
from ducklake.dashboard.watcher import Watcher
from ducklake.monitoring.live_figures import LiveReader
from lake.config import Config
from lake.errors import DuckLakeError

STATIC = Path(__file__).parent / "static"
_OPEN = ("/static/", "/login", "/api/login", "/health")
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self';"
    " img-src 'self' data:; connect-src 'self'; font-src 'self'; form-action 'self';"
    " base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


@dataclass(frozen=True, slots=True)
class Dashboard:
    """What all routes share."""

    config: Config
    access: Access
    watcher: Watcher
    live: LiveReader


def create_app(config: Config, access: Access) -> FastAPI:
    """The application of one lake.

    Args:
        config: The configuration.
        access: Who may do what.
    """
    watcher, live = Watcher(config), LiveReader(config)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        watcher.start()
        live.start()
        yield
        live.stop()
        watcher.stop()

    app = FastAPI(
        title="DuckLake Stream",
        version="1",
        description="Read-only answers about the lake, and what may be done about dead letters.",
        docs_url=None,
        redoc_url=None,
        openapi_url="/api/openapi.json",
        lifespan=lifespan,
    )
    shared = Dashboard(config, access, watcher, live)
    app.include_router(api_routes(shared))
    app.include_router(Pages(shared).router)
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    app.add_middleware(_Guard, access=access)
    app.add_exception_handler(DuckLakeError, _named)
    return app


class _Guard:
    """What holds for every request: who may ask, and what each answer's headers allow.

    Args:
        app: What answers.
        access: Who may do what.
    """

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or refuse to."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        is_static = request.url.path.startswith("/static/")

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                if not is_static:
                    headers.setdefault("Cache-Control", "no-store")
            await send(message)

        answer = _refusal(request, self._access) or self._app
        await answer(scope, receive, guarded)


async def _named(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, DuckLakeError)
    return JSONResponse({"detail": error.what, "remedy": error.remedy}, 409)


def _refusal(request: Request, access: Access) -> Response | None:
    if not access.is_ours(request):
        return JSONResponse({"detail": "This request comes from another site."}, 403)
    if request.url.path.startswith(_OPEN) or access.is_known(request):
        return None
    if request.url.path.startswith("/api/"):
        return JSONResponse({"detail": "Give the token."}, 401, {"WWW-Authenticate": "Bearer"})
    return RedirectResponse("/login", 303)
