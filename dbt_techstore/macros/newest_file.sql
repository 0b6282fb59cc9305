{#-
    The rows of the newest complete version of a file that is a full snapshot.

    A version is a content (sha256) with its time of change: a file put back as it was before is a
    version of its own. A version counts once all its rows have arrived, in the table or, where a
    value does not fit, among the dead letters: so a reader never sees half a file, and one bad
    value does not keep a file from ever counting. A file without rows is one end-of-file record,
    whose row number is 0. Partitions have offsets of their own, so arrival (`_kafka_ts`) decides
    which version is newest.
-#}
{% macro newest_file(relation) -%}
    select {{ dbt_ducklake.all_but('_ducklake_age') }}
    from (
        select
            arrived.*,
            row_number() over (
                partition by arrived._file_row order by arrived._kafka_ts desc, arrived._offset desc
            ) as _ducklake_age
        from {{ relation }} as arrived
        inner join (
            select
                counted._file_sha256,
                counted._source_ts
            from (
                select
                    _file_sha256,
                    _source_ts,
                    count(distinct _file_row) filter (where _file_row > 0) as good_rows,
                    max(_file_rows) as file_rows,
                    max(_kafka_ts) as arrived_at,
                    max(_offset) as last_offset
                from {{ relation }}
                group by _file_sha256, _source_ts
            ) as counted
            left join (
                select
                    {{ json_text('headers', 'file_sha256') }} as file_sha256,
                    {{ try_moment(json_text('headers', 'source_ts')) }} as source_ts,
                    count(distinct {{ json_text('headers', 'file_row') }}) as dead_rows
                from {{ source('raw', 'dead_letters') }}
                where _topic <> 'ducklake.rejects'
                group by 1, 2
            ) as dead
                on counted._file_sha256 = dead.file_sha256
                and counted._source_ts = dead.source_ts
            where counted.good_rows + coalesce(dead.dead_rows, 0) = counted.file_rows
            order by counted.arrived_at desc, counted._source_ts desc, counted.last_offset desc
            limit 1
        ) as newest
            on arrived._file_sha256 = newest._file_sha256
            and arrived._source_ts = newest._source_ts
        where arrived._file_row > 0
    ) as ranked
    where _ducklake_age = 1
{%- endmacro %}
