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

    In a model that is `change_tracked` by the same key, a build that is not whole reads only new
    records, and only those that are newer than the version the model has: positions are kept for
    every key, those of deleted rows too. A model that reads something else besides is computed as a
    whole: changes of that are not in the new records.
-#}
{% macro latest_version(relation, key) -%}
    {%- if dbt_ducklake.reads_versions(relation) -%}
/*ducklake:versions {{ relation.schema }}.{{ relation.identifier }}|{{ dbt_ducklake.terms(key) | join(', ') }} ducklake:end*/
    {%- endif %}
    {%- if dbt_ducklake.reads_versions(relation) and not dbt_ducklake.builds_whole() %}
    select * from ducklake_newer where not _is_deleted
    {%- else %}
    select {{ dbt_ducklake.all_but('_is_deleted') }}
    from ({{ dbt_ducklake.newest_versions(relation, key) }}) as newest
    where not _is_deleted
    {%- endif %}
{%- endmacro %}


{% macro reads_versions(relation) -%}
    {{ return(
        execute and model.resource_type != 'unit_test' and not relation.is_cte
        and config.get('materialized') == 'change_tracked' and not dbt_ducklake.is_computed_whole()
    ) }}
{%- endmacro %}


{% macro is_cdc(relation) -%}
    {%- if not execute or relation.is_cte -%}{{ return(true) }}{%- endif -%}
    {%- set names = adapter.get_columns_in_relation(relation) | map(attribute='name') | list -%}
    {{ return('_binlog_file' in names) }}
{%- endmacro %}


{#-
    The newest version of every key, deletes too (`_is_deleted`).

    `emptied` is where the records are that emptied the table; the relation itself, or the table in
    which the model keeps them.
-#}
{% macro newest_versions(relation, key, emptied=none) -%}
    {%- set key = dbt_ducklake.terms(key) | join(', ') -%}
    {{ return(adapter.dispatch('newest_versions', 'dbt_ducklake')(relation, key, emptied)) }}
{%- endmacro %}

{% macro duckdb__newest_versions(relation, key, emptied) -%}
    select
        *,
        coalesce(_op = 'd', false)
        {%- if dbt_ducklake.is_cdc(relation) %}
        or exists (
            select 1
            from {{ emptied or relation }} as emptied
            where
                emptied._op = 't'
                and emptied._topic_epoch >= versions._topic_epoch
                and emptied._kafka_ts >= versions._kafka_ts
                and (
                    emptied._source_ts > versions._source_ts
                    or {{ dbt_ducklake.binlog_order('emptied') }}
                        > {{ dbt_ducklake.binlog_order('versions') }}
                )
        )
        {%- endif %} as _is_deleted
    from (
        select *
        from {{ relation }}
        where _op is distinct from 't'
        qualify row_number() over (partition by {{ key }} order by _topic_epoch desc, _offset desc) = 1
    ) as versions
{%- endmacro %}


{#- Where a row stands in the binlog, to be compared: binlog.999999 comes before binlog.1000000. -#}
{% macro binlog_order(relation) -%}
    (
        coalesce(try_cast(regexp_extract({{ relation }}._binlog_file, '[0-9]+$') as bigint), 0),
        coalesce({{ relation }}._binlog_pos, 0)
    )
{%- endmacro %}


{#- All columns but some. -#}
{% macro all_but(columns) -%}
    {{ return(adapter.dispatch('all_but', 'dbt_ducklake')(columns)) }}
{%- endmacro %}

{% macro duckdb__all_but(columns) -%}
    * exclude ({{ columns }})
{%- endmacro %}
