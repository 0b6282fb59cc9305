"""What the page can change, each with a dry run: redrive and drop, replay, backfill; and login."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from ducklake.dashboard.access import COOKIE
from ducklake.dashboard.commands import run_command

if TYPE_CHECKING:
    from ducklake.dashboard.app import Dashboard

Name = Annotated[str, Field(min_length=1, max_length=400)]


class Body(BaseModel):
    """What is sent; nothing that is not asked for."""

    model_config = ConfigDict(extra="forbid")


class Login(Body):
    """The token, once; a cookie stands for it from then on."""

    token: Annotated[str, Field(max_length=1000)]


class DeadLetterWish(Body):
    """Which dead letters: tables or addresses."""

    what: Annotated[list[Name], Field(min_length=1, max_length=500)]
    dry_run: bool = True


class ReplayWish(Body):
    """A topic to be compared with the lake; what is missing there is filled."""

    table: Name
    dry_run: bool = True


class BackfillWish(Body):
    """A table to be read again at its source."""

    table: Name
    where: Annotated[str, Field(max_length=2000)] = ""
    dry_run: bool = True


def action_routes(router: APIRouter, shared: Dashboard) -> None:
    """Add the routes that change something; each needs the token and a page of ours."""
    access = shared.access

    def run(
        request: Request,
        words: Sequence[str],
        arguments: Sequence[str],
        dry_run: bool,
        options: Sequence[str] = (),
    ) -> dict[str, Any]:
        if not access.may_change(request):
            raise HTTPException(403, "Sign in with the token first.")
        return run_command(shared.config, words, arguments, dry_run, options)

    @router.post("/api/login", summary="Give the token, get a cookie")
    async def login(wish: Login) -> JSONResponse:
        if not access.is_token(wish.token):
            await asyncio.sleep(0.2 + secrets.randbelow(100) / 1000)
            raise HTTPException(401, "That is not the token.")
        response = JSONResponse({"signed_in": True})
        response.set_cookie(COOKIE, access.cookie, httponly=True, samesite="strict", path="/")
        return response

    @router.post("/api/dead-letters/redrive", summary="Decode dead letters again")
    def redrive(request: Request, wish: DeadLetterWish) -> dict[str, Any]:
        return run(request, ("dead-letters", "redrive"), wish.what, wish.dry_run)

    @router.post("/api/dead-letters/drop", summary="Drop dead letters for good")
    def drop(request: Request, wish: DeadLetterWish) -> dict[str, Any]:
        return run(request, ("dead-letters", "drop"), wish.what, wish.dry_run, ("--yes",))

    @router.post("/api/replay", summary="Read a topic again, and fill what the lake lacks")
    def replay(request: Request, wish: ReplayWish) -> dict[str, Any]:
        return run(request, ("replay",), [wish.table], wish.dry_run)

    @router.post("/api/backfill", summary="Have a table read again at its source")
    def backfill(request: Request, wish: BackfillWish) -> dict[str, Any]:
        options = ("--no-wait", *([f"--where={wish.where}"] if wish.where else []))
        return run(request, ("backfill",), [wish.table], wish.dry_run, options)
