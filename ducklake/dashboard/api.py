"""The REST API: every answer of the monitoring module as JSON, and what changes something."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import APIRouter, HTTPException, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field

from batcher.failures import Failure
from batcher.project_docs import Exposure
from ducklake.dashboard.actions import Body, action_routes
from ducklake.dashboard.sql_box import MOST_CHARACTERS, query
from ducklake.monitoring.cycles import CycleView, cycles
from ducklake.monitoring.dead_letters import (
    DeadLetterContent,
    DeadLetterCount,
    DeadLetterView,
    dead_letter_content,
    dead_letter_counts,
    dead_letters_of,
)
from ducklake.monitoring.flow import TableFlow
from ducklake.monitoring.models import ModelView, exposures, model_views
from ducklake.monitoring.observation import opened_ledger
from ducklake.monitoring.pipeline import Pipeline
from ducklake.monitoring.tables import TableDetail, TableStorage, table_detail, table_storage
from lake.storage.paths import LakePaths

if TYPE_CHECKING:
    from ducklake.dashboard.app import Dashboard

EVENT_SECONDS = 0.5
PACE_SECONDS = 0.03
"""For each open page: fifty of them are told of changes every 1.5 s, not each second."""
BEAT_SECONDS = 15.0
MOST_OFFSET = 2**63 - 1
_MEDIA = {
    "json": "application/json",
    "csv": "text/csv; charset=utf-8",
    "parquet": "application/vnd.apache.parquet",
}
_ERRORS: dict[int | str, dict[str, Any]] = {
    401: {"description": "The token is needed."},
    403: {"description": "It comes from another site, or without the token."},
    409: {"description": "The lake cannot do that now; the answer says why."},
}


class SqlQuery(Body):
    """One SELECT over the published file."""

    sql: Annotated[str, Field(min_length=1, max_length=MOST_CHARACTERS)]
    format: Literal["json", "csv", "parquet"] = "json"


class State(BaseModel):
    """The lake in short, as `ducklake status --json` says it."""

    at: float
    commit: int
    healthy: bool
    lights: dict[str, int]
    problems: list[dict[str, Any]]
    held_back: dict[str, str]


class LiveFigures(BaseModel):
    """What `ducklake live` counts, as in the topic live.kpis."""

    stale: bool
    window: dict[str, Any]
    today: dict[str, Any]


def api_routes(shared: Dashboard) -> APIRouter:
    """All routes below `/api`."""
    router = APIRouter(responses=_ERRORS)
    _reading(router, shared)
    _ledger(router, shared)
    _letters(router, shared)
    _events(router, shared)
    action_routes(router, shared)
    return router


def _reading(router: APIRouter, shared: Dashboard) -> None:
    @router.get("/api/state", summary="The lake in short")
    def state() -> State:
        seen = shared.watcher.latest().seen
        counts: dict[str, int] = {}
        for light in seen.lights:
            counts[light.colour] = counts.get(light.colour, 0) + 1
        problems = seen.condition.dump()["problems"]
        return State(
            at=seen.at,
            commit=seen.commit,
            healthy=seen.condition.healthy and not seen.is_held_back,
            lights=counts,
            problems=problems,
            held_back=dict(seen.held_back),
        )

    @router.get("/api/trust", summary="One light per table and model")
    def trust() -> dict[str, list[dict[str, Any]]]:
        seen = shared.watcher.latest().seen
        return {
            "tables": [table.dump() for table in seen.tables],
            "models": [model.dump() for model in seen.models],
        }

    @router.get("/api/flow", summary="The way of each table, and its lag over the last hour")
    def flow() -> tuple[TableFlow, ...]:
        return shared.watcher.latest().flows

    @router.get("/api/pipeline", summary="Speed and lag at each hop, and snapshots with their ETA")
    def whole() -> Pipeline | None:
        return shared.watcher.latest().pipeline

    @router.get("/api/live", summary="The live figures: the last minutes, and today")
    def live_figures() -> LiveFigures:
        view = shared.live.latest()
        return LiveFigures(stale=view.is_stale(), window=dict(view.window), today=dict(view.today))

    @router.get("/api/failures", summary="Failing tests with their rows and query")
    def failing() -> tuple[Failure, ...]:
        return shared.watcher.latest().seen.failures

    @router.post("/api/sql", summary="One SELECT over the published file, read-only, within limits")
    def sql(wish: SqlQuery) -> Response:
        found = query(shared.config.data_dir, wish.sql, wish.format)
        return Response(found, media_type=_MEDIA[wish.format])


def _ledger(router: APIRouter, shared: Dashboard) -> None:
    paths = LakePaths(shared.config.data_dir)

    @router.get("/api/tables", summary="Rows, files and sizes of each table")
    def tables() -> tuple[TableStorage, ...]:
        with opened_ledger(paths) as ledger:
            return table_storage(shared.config, ledger)

    @router.get("/api/tables/{table}", summary="One table from near", responses=_missing("table"))
    def table(table: str) -> TableDetail:
        with opened_ledger(paths) as ledger:
            found = table_detail(shared.config, ledger, shared.watcher.latest().seen, table)
        if found is None:
            raise HTTPException(404, "There is no such table.")
        return found

    @router.get("/api/models", summary="The dbt project's models, their documentation and lineage")
    def models() -> tuple[ModelView, ...]:
        return model_views(paths, shared.watcher.latest().seen)

    @router.get("/api/exposures", summary="Who reads the models outside the project")
    def readers() -> tuple[Exposure, ...]:
        return exposures(paths)

    @router.get("/api/cycles", summary="The batch's cycles, newest first")
    def newest(limit: Annotated[int, Query(ge=1, le=2000)] = 60) -> tuple[CycleView, ...]:
        with opened_ledger(paths) as ledger:
            return cycles(ledger, limit)


def _letters(router: APIRouter, shared: Dashboard) -> None:
    paths = LakePaths(shared.config.data_dir)

    @router.get("/api/dead-letters", summary="How many dead letters each table has")
    def counts() -> tuple[DeadLetterCount, ...]:
        with opened_ledger(paths) as ledger:
            return dead_letter_counts(ledger)

    @router.get("/api/dead-letters/{table}", summary="The newest dead letters of a table")
    def letters(table: str) -> tuple[DeadLetterView, ...]:
        with opened_ledger(paths) as ledger:
            return dead_letters_of(ledger, table)

    @router.get(
        "/api/dead-letters/{topic}/{partition}/{offset}",
        summary="One dead letter with its bytes",
        responses=_missing("dead letter"),
    )
    def letter(
        topic: str,
        partition: Annotated[int, Field(ge=0, le=MOST_OFFSET)],
        offset: Annotated[int, Field(ge=0, le=MOST_OFFSET)],
    ) -> DeadLetterContent:
        with opened_ledger(paths) as ledger:
            found = dead_letter_content(ledger, topic, partition, offset)
        if found is None:
            raise HTTPException(404, "There is no such dead letter.")
        return found


@dataclass(slots=True)
class _OpenPages:
    """How many listen."""

    count: int = 0


def _events(router: APIRouter, shared: Dashboard) -> None:
    pages = _OpenPages()

    @router.get(
        "/api/events",
        summary="Server-sent events: a number, whenever something has changed",
        include_in_schema=False,
    )
    async def events(request: Request) -> StreamingResponse:
        changes = _changes(request, shared, pages)
        return StreamingResponse(changes, media_type="text/event-stream")


async def _changes(request: Request, shared: Dashboard, pages: _OpenPages) -> AsyncIterator[str]:
    told, shown, quiet = -1, shared.live.latest().version, 0.0
    pages.count += 1
    try:
        while not await request.is_disconnected():
            is_news = False
            if (live := shared.live.latest().version) != shown:
                shown, is_news = live, True
                yield f"event: live\ndata: {json.dumps(live)}\n\n"
            if (version := shared.watcher.latest().version) != told:
                told, is_news = version, True
                yield f"event: change\ndata: {json.dumps(version)}\n\n"
            if not is_news and quiet >= BEAT_SECONDS:
                quiet = 0.0
                yield ": still here\n\n"
            pause = max(EVENT_SECONDS, PACE_SECONDS * pages.count) if is_news else EVENT_SECONDS
            await asyncio.sleep(pause)
            quiet = 0.0 if is_news else quiet + pause
    finally:
        pages.count -= 1


def _missing(what: str) -> dict[int | str, dict[str, Any]]:
    return {404: {"description": f"There is no such {what}."}}
