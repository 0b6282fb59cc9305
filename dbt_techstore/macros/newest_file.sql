{#-
    The rows of the newest complete version of a file that is a full snapshot.

    A version is a content (sha256) with its time of change: a file put back as it was before is a
    version of its own. A version counts once all its rows have arrived, so a reader never sees half
    a file. Partitions have offsets of their own, so arrival (`_kafka_ts`) decides which is newest.
-#}
{% macro newest_file(relation) -%}
    select arrived.*
    from {{ relation }} as arrived
    inner join (
        select _file_sha256, _source_ts
        from {{ relation }}
        group by _file_sha256, _source_ts
        having count(distinct _file_row) = max(_file_rows)
        order by max(_kafka_ts) desc, _source_ts desc, max(_offset) desc
        limit 1
    ) as newest
        on arrived._file_sha256 = newest._file_sha256
        and arrived._source_ts = newest._source_ts
    qualify row_number() over (partition by _file_row order by _kafka_ts desc, _offset desc) = 1
{%- endmacro %}
