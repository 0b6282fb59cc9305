{#-
    The current row of every key of a table whose records are versions of rows.

    A key always travels in the same partition, so its greatest offset is its latest version, in
    the newest epoch of its topic (offsets begin again where a topic was made anew); the same row
    twice (an interrupted snapshot) collapses. A key whose latest version is a delete is
    gone. Deletes are dropped after the choice: dropped before it, the version before the delete
    would come back.

    A record with `_op` t empties the table (TRUNCATE, DROP): rows that came before it, and stood
    before it in the binlog, are gone. Both are asked for: a binlog that begins again counts its
    positions anew, and a record of another partition may have come in the same millisecond. Only
    tables from a binlog have such records, and the columns that tell.
-#}
{% macro latest_version(relation, key) -%}
    {%- set is_cdc = true -%}
    {%- if execute and not relation.is_cte -%}
        {%- set names = adapter.get_columns_in_relation(relation) | map(attribute='name') | list -%}
        {%- set is_cdc = '_binlog_file' in names -%}
    {%- endif %}
    select *
    from (
        select *
        from {{ relation }}
        where _op is distinct from 't'
        qualify row_number() over (partition by {{ key }} order by _topic_epoch desc, _offset desc) = 1
    ) as versions
    where
        _op is distinct from 'd'
        {%- if is_cdc %}
        and not exists (
            select 1
            from {{ relation }} as emptied
            where
                emptied._op = 't'
                and emptied._topic_epoch >= versions._topic_epoch
                and emptied._kafka_ts >= versions._kafka_ts
                and (
                    emptied._source_ts > versions._source_ts
                    or {{ binlog_order('emptied') }} > {{ binlog_order('versions') }}
                )
        )
        {%- endif %}
{%- endmacro %}


{#- Where a row stands in the binlog, to be compared: binlog.999999 comes before binlog.1000000. -#}
{% macro binlog_order(relation) -%}
    (
        coalesce(try_cast(regexp_extract({{ relation }}._binlog_file, '[0-9]+$') as bigint), 0),
        coalesce({{ relation }}._binlog_pos, 0)
    )
{%- endmacro %}
