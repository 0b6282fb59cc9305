{#-
    The rows of the newest complete version of each file of a table.

    A version is a content (sha256) with its time of change. It counts once all its rows have arrived,
    in the table or, where a value does not fit, among the dead letters: a reader never sees half a
    file. A file without rows is one record, whose row number is 0.
-#}
{% macro newest_files(relation) -%}
    select * exclude (_ducklake_age)
    from (
        select
            arrived.*,
            row_number() over (
                partition by arrived._file, arrived._file_row
                order by arrived._kafka_ts desc, arrived._offset desc
            ) as _ducklake_age
        from {{ relation }} as arrived
        inner join (
            select
                counted._file,
                counted._file_sha256,
                counted._source_ts
            from (
                select
                    _file,
                    _file_sha256,
                    _source_ts,
                    count(distinct _file_row) filter (where _file_row > 0) as good_rows,
                    max(_file_rows) as file_rows,
                    max(_kafka_ts) as arrived_at,
                    max(_offset) as last_offset
                from {{ relation }}
                group by _file, _file_sha256, _source_ts
            ) as counted
            left join (
                select
                    json_extract_string(headers, '$.file_sha256') as file_sha256,
                    try_cast(json_extract_string(headers, '$.source_ts') as timestamptz) as source_ts,
                    count(distinct json_extract_string(headers, '$.file_row')) as dead_rows
                from {{ source('raw', 'dead_letters') }}
                where _topic <> 'ducklake.rejects'
                group by 1, 2
            ) as dead
                on counted._file_sha256 = dead.file_sha256
                and counted._source_ts = dead.source_ts
            where counted.good_rows + coalesce(dead.dead_rows, 0) = counted.file_rows
            qualify row_number() over (
                partition by counted._file
                order by counted.arrived_at desc, counted._source_ts desc, counted.last_offset desc
            ) = 1
        ) as newest
            on arrived._file = newest._file
            and arrived._file_sha256 = newest._file_sha256
            and arrived._source_ts = newest._source_ts
        where arrived._file_row > 0
    ) as ranked
    where _ducklake_age = 1
{%- endmacro %}
