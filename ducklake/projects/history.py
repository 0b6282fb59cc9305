"""The history of a table as a model: its SQL."""

from __future__ import annotations

from ducklake.projects.found import FoundTable
from ducklake.projects.names import in_jinja, in_sql


def history_sql(table: FoundTable, relation: str) -> str:
    """The model: one row for each version, and from when to when it held."""
    key = [in_sql(name) for name in table.key_columns]
    fields = [in_sql(name) for name in table.columns.values()]
    partition = f"partition by {', '.join(key)} order by _topic_epoch, _offset"
    image = f"row({', '.join(fields)})"
    return _HISTORY.format(
        source="{{ source('raw', " + in_jinja(relation) + ") }}",
        partition=partition,
        image=image,
        columns=",\n".join(f"        {name}" for name in fields),
    )


_HISTORY = """\
with

versions as (

    select
        *,
        coalesce(_op = 'd', false) as is_deleted,
        lag(_op) over ({partition}) as op_before,
        {image} is not distinct from lag({image}) over ({partition}) as is_same
    from {source}
    where _op is distinct from 't'

),

-- a row that was read again is no new version of it
changes as (

    select * from versions
    where op_before is null or op_before = 'd' or is_deleted or not is_same

),

periods as (

    select
        *,
        row_number() over ({partition}) as version,
        _source_ts as valid_from,
        lead(_source_ts) over ({partition}) as next_from
    from changes

),

-- TRUNCATE and DROP end every row that was there
emptied as (

    select _source_ts as emptied_at from {source} where _op = 't'

),

history as (

    select
{columns},
        version,
        valid_from,
        least(
            next_from,
            (select min(emptied_at) from emptied where emptied_at > periods.valid_from)
        ) as valid_to
    from periods
    where not is_deleted

)

select
    *,
    valid_to is null as is_current
from history
"""
