"""No value is altered on its way to raw: it is there, or its column is text, or it is a reject."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any, NamedTuple

import pytest
from confluent_kafka import Message
from hypothesis import example, given, settings
from hypothesis import strategies as st

from consumers.ingest.decoding import Decoded, make_decoder
from consumers.ingest.decoding.exact_numbers import exact_text
from lake.config import Table, TableRef
from lake.storage.schema import Schema

NUMBERS = st.one_of(
    st.integers(-(2**70), 2**70).map(str),
    st.decimals(allow_nan=False, allow_infinity=False).map(
        lambda number: str(number).replace("E+", "e+")
    ),
    st.decimals(-1000, 1000, places=2).map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.sampled_from(["1e999", "1e-999", "9007199254740993", "12345678901234.5678", "-0", "1.50"]),
)
"""As they stand in a JSON text."""
SPELLINGS = st.one_of(
    st.text(max_size=6),
    NUMBERS,
    st.from_regex(r"[-+0]?[0-9]{1,4}(\.[0-9]{0,3})?", fullmatch=True),
    st.sampled_from(["00123", "+5", " 5", "1_000", "nan", "inf", "t", "yes", "True", "on", ""]),
    st.dates().map(str),
    st.datetimes().map(str),
)
"""Texts that a cast could take for something else."""
JSON_VALUES = st.one_of(
    NUMBERS, SPELLINGS.map(json.dumps), st.sampled_from(["true", "false", "null", '{"b": 1.5}'])
)


class Batches:
    """A table's decoder, given one batch after the other."""

    def __init__(self, **declared: str) -> None:
        table = Table(columns=dict(declared))
        self._decoder = make_decoder(TableRef("s", "t"), table, "plain")
        self._schema = Schema()
        self._offset = 0

    def decode(self, *texts: str) -> Decoded:
        messages = [
            Message(
                "s.t",
                0,
                self._offset + n,
                b"k",
                text.encode(),
                None,
                None,
                (1, 1_700_000_000),
                0.0,
                0,
            )
            for n, text in enumerate(texts)
        ]
        self._offset += len(texts)
        decoded = self._decoder.decode(messages, self._schema, 0)
        self._schema = decoded.schema
        return decoded


def values(decoded: Decoded, count: int, first: int = 0) -> list[Any]:
    """The values of the column `a`, with the reason of a dead letter in the place of one."""
    found: dict[int, Any] = {letter.offset: letter.reason for letter in decoded.dead_letters}
    if decoded.rows is not None:
        offsets = decoded.rows.column("_offset").to_pylist()
        found |= dict(zip(offsets, decoded.rows.column("a").to_pylist(), strict=True))
    return [found[first + n] for n in range(count)]


def same(found: Any, came: str) -> bool:
    """Whether a value in raw, printed, is the JSON value that came."""
    if came[0] == '"':
        text = json.loads(came)
        if isinstance(found, float):
            return bool(repr(found) == text or Fraction(found) == Fraction(text))
        return bool((str(found).lower() if isinstance(found, bool) else str(found)) == text)
    if came in ("true", "false"):
        return str(found).lower() == came
    if came == "null":
        return found is None
    if came[0] == "{":
        return bool(json.loads(found) == json.loads(came))
    return not isinstance(found, bool) and Decimal(repr(found).strip("'")) == Decimal(came)


def same_json(found: Any, came: str) -> bool:
    """Whether a column of JSON holds what came; a number that no DOUBLE holds is a text there."""
    if found is None:
        return came == "null"
    there = json.loads(found, parse_float=Decimal, parse_int=Decimal)
    expected = json.loads(came, parse_float=Decimal, parse_int=Decimal)
    return bool(there in (expected, came))


@settings(deadline=None, max_examples=25)
@given(
    st.lists(JSON_VALUES, min_size=1, max_size=5),
    st.lists(JSON_VALUES, min_size=1, max_size=5),
)
@example(["1"], ['"00123"'])
@example(["1.5"], ["9007199254740993"])
@example(["true"], ['"t"', '"1"'])
@example(["1"], ["1.50", "12345678901234.5678"])
@example(['{"b": 1}'], ['{"b": 12345678901234.5678}'])
@example(['{"b": 1.5}'], ['""', "1e999", '"00123"', "12345678901234.5678"])
def test_an_inferred_type_never_alters_a_value(first: list[str], later: list[str]) -> None:
    """What does not print as it came makes its column text, also in the batch after the first."""
    batches = Batches()
    for at, batch in ((0, first), (len(first), later)):
        decoded = batches.decode(*(f'{{"a": {value}}}' for value in batch))
        is_json = any(c.name == "a" and c.type == "JSON" for c in decoded.schema.columns)
        for found, came in zip(values(decoded, len(batch), at), batch, strict=True):
            if is_json and came != '{"b": 12345678901234.5678}':
                assert same_json(found, came), (found, came)
            elif came == '{"b": 12345678901234.5678}':
                assert found.replace(" ", "") == '{"b":"12345678901234.5678"}'
            else:
                assert same(found, came), (found, came)


NUMERIC = ["TINYINT", "BIGINT", "UBIGINT", "DECIMAL(20,4)", "DECIMAL(38,10)", "DOUBLE"]


@settings(deadline=None, max_examples=25)
@given(st.sampled_from(NUMERIC), st.lists(st.one_of(NUMBERS, SPELLINGS), min_size=1, max_size=8))
@example("DECIMAL(20,4)", ["12345678901234.5678"])
@example("DOUBLE", ["9007199254740993", "0.10000000000000001", "4.9e-324", "3e-324", "1e999"])
@example("DECIMAL(20,4)", ["1_000"])
def test_a_declared_number_is_the_one_that_came_or_a_dead_letter(
    type_: str, texts: list[str]
) -> None:
    """Both as a number and as a text of JSON, as files of texts give it."""
    came = [json.dumps(text) for text in texts]
    for text in texts:
        try:
            json.loads(text)
            came.append(text)
        except ValueError:
            continue
    decoded = Batches(a=type_).decode(*(f'{{"a": {value}}}' for value in came))
    for found, text in zip(values(decoded, len(came)), came, strict=True):
        if isinstance(found, str):
            assert found.startswith("column a: the value does not fit"), (found, text)
        elif found is not None and repr(found) not in ("nan", "inf", "-inf"):
            number = Decimal(text.strip('"').strip())
            if isinstance(found, float):
                digits = len(number.as_tuple().digits)
                shown = Decimal(repr(found))
                as_many = Decimal(f"{found:.{digits - 1}e}")
                is_exact = Fraction(found) == Fraction(number)
                is_shortest = shown == number or (digits <= 17 and as_many == number)
                assert is_exact or is_shortest, (found, text)
            else:
                assert found == number, (found, text)


class Moment(NamedTuple):
    """A moment as a file spells it, and what it means."""

    text: str
    day: date
    clock: time
    fraction: str
    offset: str

    @property
    def micros(self) -> int | None:
        """The fraction in microseconds; None where these do not hold it."""
        digits = self.fraction.rstrip("0")
        return int(digits.ljust(6, "0") or "0") if len(digits) <= 6 else None


@st.composite
def moments(draw: st.DrawFn) -> Moment:
    day = draw(st.dates(date(1000, 1, 2), date(9998, 12, 30)))
    clock = draw(st.times().map(lambda t: t.replace(microsecond=0)))
    if draw(st.booleans()):
        clock = time(0)
    fraction = draw(st.sampled_from(["", "0", "123", "123456", "123456789", "123456000", "000"]))
    offset = draw(st.sampled_from(["", "Z", "+00:00", "-03:00", "+05:30"]))
    between = draw(st.sampled_from("T "))
    text = f"{day}{between}{clock}{'.' if fraction else ''}{fraction}{offset}"
    return Moment(text, day, clock, fraction, offset)


@settings(deadline=None, max_examples=25)
@given(st.lists(moments(), min_size=1, max_size=8))
def test_a_declared_moment_loses_neither_its_offset_nor_a_digit(found: list[Moment]) -> None:
    """A DATE no time, a TIMESTAMP no offset from UTC, and none of them a nanosecond."""
    texts = [f'{{"a": {json.dumps(moment.text)}}}' for moment in found]
    for type_ in ("DATE", "TIMESTAMP", "TIMESTAMPTZ"):
        decoded = Batches(a=type_).decode(*texts)
        for value, moment in zip(values(decoded, len(found)), found, strict=True):
            assert value == expected(type_, moment), (type_, moment.text)


def expected(type_: str, moment: Moment) -> Any:
    """What raw has of a moment: its value, or the reason of a dead letter."""
    is_utc = moment.offset in ("", "Z", "+00:00")
    stored = "TIMESTAMP WITH TIME ZONE" if type_ == "TIMESTAMPTZ" else type_
    refused = f"column a: the value does not fit {stored}"
    if moment.micros is None or (type_ != "TIMESTAMPTZ" and not is_utc):
        return refused
    at = datetime.combine(moment.day, moment.clock.replace(microsecond=moment.micros))
    if type_ == "DATE":
        return moment.day if at.time() == time(0) else refused
    if type_ == "TIMESTAMP":
        return at
    ahead = {"-03:00": -180, "+05:30": 330}.get(moment.offset, 0)
    return at.replace(tzinfo=UTC) - timedelta(minutes=ahead)


@pytest.mark.parametrize(
    ("type_", "text"),
    [
        ("TIME", "10:00:00.1234567"),
        ("TIME", "10:00:00-03:00"),
        ("TIME", "2024-01-02 10:00:00"),
        ("BLOB", "YWJ="),
        ("DATE", "epoch"),
        ("TIMESTAMP", "2024-01-02 10:00:00 America/New_York"),
    ],
)
def test_what_a_declared_type_would_cut_off_is_a_dead_letter(type_: str, text: str) -> None:
    decoded = Batches(a=type_).decode(f'{{"a": {json.dumps(text)}}}')
    assert decoded.rows is None
    assert [letter.reason for letter in decoded.dead_letters] == [
        f"column a: the value does not fit {type_}"
    ]


def test_a_key_that_stands_twice_costs_its_record_and_no_value() -> None:
    batches = Batches()
    decoded = batches.decode('{"a": 1}', '{"a": 1, "a": 2}', '{"a": 3}')
    assert values(decoded, 3) == [1, "the object has a key twice", 3]
    decoded = batches.decode('{"a": 4}', '{"a": 1, "a": 2}')  # the fast way notices it as well
    assert values(decoded, 2, 3) == [4, "the object has a key twice"]


@settings(deadline=None, max_examples=60)
@given(
    st.recursive(
        st.one_of(st.text(), st.none(), st.integers(), st.floats(allow_nan=False)),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_exact_numbers_leave_all_else_as_it_is(value: Any) -> None:
    text = json.dumps(value)
    if "Infinity" not in text:
        assert exact_text(text) == text


@pytest.mark.parametrize(
    ("later", "kept"),
    [
        ("5", 5.0),
        ('"5"', 5.0),
        ("-7", -7.0),
        ('"-0"', -0.0),
        ('"1.5"', 1.5),
        ("9007199254740993", "9007199254740993"),
        *((f'"{text}"', text) for text in ("05", "5.", "5.00", "+5", " 5", "5e0", "")),
    ],
)
def test_an_inferred_double_takes_whole_numbers_and_no_other_spelling(
    later: str, kept: float | str
) -> None:
    batches = Batches()
    batches.decode('{"a": 1.5}')
    assert values(batches.decode(f'{{"a": {later}}}'), 1, first=1) == [kept]
