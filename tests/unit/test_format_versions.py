"""Durable formats: round trips, what version 1 wrote, and what a later release wrote."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lake.errors import UnsupportedFormatVersion
from lake.formats import (
    BackupManifest,
    CompactionIntent,
    DateRewriteIntent,
    Footer,
    PlannedFile,
    PublishedIndex,
    PublishedModel,
    RunSummary,
)
from lake.records import OffsetRange
from lake.storage.schema import Column, Schema

TEXT = st.text(max_size=12)
COUNT = st.integers(0, 2**62)
SMALL = st.integers(0, 50)
RANGES = st.builds(OffsetRange, TEXT, SMALL, COUNT, COUNT, COUNT)
SCHEMAS = st.builds(
    Schema, st.lists(st.builds(Column, TEXT, TEXT, TEXT, st.booleans()), max_size=3).map(tuple)
)
PLANNED = st.builds(
    PlannedFile, TEXT, TEXT, COUNT, COUNT, TEXT, st.lists(COUNT, max_size=3).map(tuple)
)
INPUTS = st.lists(COUNT, max_size=4).map(tuple)
OUTPUTS = st.lists(PLANNED, max_size=3).map(tuple)
FOOTERS = st.builds(
    Footer,
    TEXT,
    COUNT,
    st.lists(RANGES, max_size=3).map(tuple),
    COUNT,
    st.none() | SCHEMAS,
    st.booleans(),
    TEXT,
)
PUBLISHED = st.builds(
    PublishedModel,
    TEXT,
    COUNT,
    TEXT,
    st.lists(TEXT, max_size=2).map(tuple),
    TEXT,
    st.dictionaries(TEXT, TEXT, max_size=2),
)
TEXTS: dict[str, tuple[Callable[[str], Any], st.SearchStrategy[Any]]] = {
    "compaction": (CompactionIntent.load, st.builds(CompactionIntent, INPUTS, OUTPUTS)),
    "date rewrite": (
        DateRewriteIntent.load,
        st.builds(DateRewriteIntent, TEXT, TEXT, INPUTS, OUTPUTS),
    ),
    "run": (
        RunSummary.load,
        st.builds(
            RunSummary,
            COUNT,
            COUNT,
            COUNT,
            COUNT,
            COUNT,
            st.dictionaries(TEXT, TEXT, max_size=2),
            st.dictionaries(TEXT, st.floats(0, 1e6), max_size=2),
            st.none() | TEXT,
            st.dictionaries(TEXT, TEXT, max_size=2),
            st.dictionaries(TEXT, TEXT, max_size=2),
            st.dictionaries(TEXT, COUNT, max_size=2),
            st.dictionaries(TEXT, st.floats(0, 1e6), max_size=2),
            st.dictionaries(TEXT, COUNT, max_size=2),
            st.lists(TEXT, max_size=2).map(tuple),
            st.dictionaries(TEXT, TEXT, max_size=2),
        ),
    ),
    "published": (
        PublishedIndex.load,
        st.builds(
            PublishedIndex,
            st.dictionaries(TEXT, PUBLISHED, max_size=3),
        ),
    ),
    "backup": (BackupManifest.load, st.builds(BackupManifest, TEXT, TEXT, TEXT, COUNT, COUNT)),
}


@given(FOOTERS)
def test_a_footer_comes_back_as_it_went(footer: Footer) -> None:
    assert Footer.load({"other.key": "x", **footer.dump()}, "a file") == footer


@pytest.mark.parametrize("name", TEXTS)
@given(data=st.data())
def test_every_format_comes_back_as_it_went(name: str, data: st.DataObject) -> None:
    load, values = TEXTS[name]
    value = data.draw(values)
    assert load(value.dump()) == value
    assert json.loads(value.dump())["version"] == value.VERSION


@pytest.mark.parametrize("name", TEXTS)
@given(data=st.data())
def test_what_a_later_release_wrote_is_refused_by_name(name: str, data: st.DataObject) -> None:
    load, values = TEXTS[name]
    later = {**json.loads(data.draw(values).dump()), "version": 9, "unheard": "of"}
    with pytest.raises(UnsupportedFormatVersion, match=r"version 9.*Use the release"):
        load(json.dumps(later))


@given(FOOTERS)
def test_a_footer_of_a_later_release_is_refused_by_name(footer: Footer) -> None:
    with pytest.raises(UnsupportedFormatVersion, match=r"x\.parquet.*version 9"):
        Footer.load({**footer.dump(), "ducklake.version": "9"}, "x.parquet")


@given(FOOTERS)
def test_a_footer_of_version_1_is_read(footer: Footer) -> None:
    """It had the same keys, but for the version; the first releases wrote the first three only."""
    written = {k: v for k, v in footer.dump().items() if k != "ducklake.version"}
    assert Footer.load(written, "a file") == footer
    first = {k: written[f"ducklake.{k}"] for k in ("table", "generation", "ranges")}
    found = Footer.load({f"ducklake.{k}": v for k, v in first.items()}, "a file")
    assert found == replace(footer, after=0, schema=None, building=False, replaces="")


def test_a_file_that_somebody_else_wrote_has_no_footer() -> None:
    assert Footer.load({"pandas": "{}"}, "a file") is None


@given(st.builds(DateRewriteIntent, TEXT, TEXT, INPUTS, OUTPUTS))
def test_intents_of_version_1_are_read(intent: DateRewriteIntent) -> None:
    moves = [[o.staged, o.final, o.rows, o.size, o.sha256] for o in intent.outputs]
    commits = [list(o.commits) for o in intent.outputs]
    places = [intent.folder, intent.staging]
    assert DateRewriteIntent.load(json.dumps([*places, intent.inputs, moves, commits])) == intent
    compaction = CompactionIntent(intent.inputs, intent.outputs)
    assert CompactionIntent.load(json.dumps([intent.inputs, moves, commits])) == compaction


@pytest.mark.parametrize("name", ["run", "backup"])
@given(data=st.data())
def test_what_had_no_version_is_read(name: str, data: st.DataObject) -> None:
    load, values = TEXTS[name]
    value = data.draw(values)
    assert load(json.dumps(asdict(value))) == value


def test_an_index_of_version_1_is_read() -> None:
    text = json.dumps({"staging.stg_orders": ["published/x.parquet", 3, "abc"]})
    assert PublishedIndex.load(text) == PublishedIndex(
        {"staging.stg_orders": PublishedModel("published/x.parquet", 3, "abc")}
    )
