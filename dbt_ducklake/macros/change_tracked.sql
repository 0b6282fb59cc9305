{#-
    A table whose changes are kept: old and new images of every row that a build changed.

    `meta.primary_key` names the columns of its key; `group_by` (the key, if it is not given) names the
    columns by which a build that is not whole computes it: groups of which nothing changed before
    it are left as they are. A model that names no touched groups and reads no versions is computed
    whole each time, and its changes are found by comparison.
-#}
{% materialization change_tracked, adapter='duckdb' %}
    {%- set target = this.incorporate(type='table') -%}
    {%- set existing = load_cached_relation(this) -%}
    {%- set key = dbt_ducklake.key_columns() -%}
    {%- set group_by = dbt_ducklake.as_list(config.get('group_by') or key) -%}
    {%- set touched = dbt_ducklake.marked(sql, 'touched') -%}
    {%- set versions = dbt_ducklake.marked(sql, 'versions') -%}
    {%- set whole = dbt_ducklake.builds_whole() -%}

    {{ run_hooks(pre_hooks, inside_transaction=False) }}
    {{ run_hooks(pre_hooks, inside_transaction=True) }}

    {%- if existing is not none and not existing.is_table -%}
        {%- do adapter.drop_relation(existing) -%}
        {%- set existing = none -%}
    {%- endif -%}

    {%- if versions and not whole -%}
        {%- do dbt_ducklake.take_newer(versions, key) -%}
    {%- elif touched and not whole -%}
        {%- do dbt_ducklake.check_touched(touched) -%}
        {%- do dbt_ducklake.run(
            'create or replace temp table ducklake_touched as select distinct * from ('
            ~ touched ~ ') as t(' ~ dbt_ducklake.numbered(group_by) ~ ')'
        ) -%}
    {%- endif -%}

    {%- set equals = '=' -%}
    {%- if (versions or touched) and not whole -%}
        {%- set equals = dbt_ducklake.comparison(group_by) -%}
    {%- endif -%}
    {%- set query = sql.replace(dbt_ducklake.equals(), equals) -%}
    {%- call statement('main') -%}
        create or replace temp table ducklake_rows as
        {{ query }}
    {%- endcall -%}
    {#- What a build of groups computes goes into columns whose types were checked before. -#}
    {%- set has_same_columns = existing is not none and not flags.FULL_REFRESH and not versions
        and not touched and dbt_ducklake.has_same_columns(dbt_ducklake.change_log(this)) -%}
    {%- if config.get('contract').enforced and (whole or not (touched or has_same_columns)) -%}
        {%- do get_assert_columns_equivalent('select * from ducklake_rows') -%}
    {%- endif -%}

    {%- if (versions or touched) and not whole -%}
        {%- do dbt_ducklake.replace_groups(target, group_by, equals) -%}
        {%- if versions -%}{%- do dbt_ducklake.keep_positions(key) -%}{%- endif -%}
    {%- else -%}
        {%- set compares = has_same_columns and not dbt_ducklake.computes_groups() -%}
        {%- do dbt_ducklake.replace_all(target, compares) -%}
        {%- if versions -%}{%- do dbt_ducklake.keep_all_positions(versions, key) -%}{%- endif -%}
    {%- endif -%}

    {%- do dbt_ducklake.run('drop table if exists temp.ducklake_rows') -%}
    {{ run_hooks(post_hooks, inside_transaction=True) }}
    {%- do persist_docs(target, model) -%}
    {{ adapter.commit() }}
    {{ run_hooks(post_hooks, inside_transaction=False) }}
    {{ return({'relations': [target]}) }}
{% endmaterialization %}


{#- Runs statements, divided by semicolons, of which no result is asked for: dbt's `run_query`
    guesses the types of one each time, which takes longer than most of them. -#}
{% macro run(statements) -%}
    {%- call statement('ducklake', fetch_result=False, auto_begin=False) -%}
        {{ statements }}
    {%- endcall -%}
{%- endmacro %}


{#- The columns of the model's key: `unique_key`, or `primary_key` in its `meta`. -#}
{% macro key_columns() -%}
    {%- set key = config.get('unique_key') or config.get('meta', {}).get('primary_key') -%}
    {%- if not key -%}
        {%- do exceptions.raise_compiler_error(
            "A model that is change_tracked needs a key: name its columns in `meta.primary_key`."
        ) -%}
    {%- endif -%}
    {{ return(dbt_ducklake.as_list(key)) }}
{%- endmacro %}


{% macro as_list(columns) -%}
    {{ return([columns] if columns is string else columns) }}
{%- endmacro %}


{% macro numbered(columns) -%}
    {%- set names = [] -%}
    {%- for column in columns -%}{%- do names.append('k' ~ loop.index) -%}{%- endfor -%}
    {{ return(names | join(', ')) }}
{%- endmacro %}


{#- What a macro wrote into the model's text for the materialization; empty where there is none. -#}
{% macro marked(sql, what) -%}
    {%- set found = modules.re.search(
        '/\\*ducklake:' ~ what ~ '\\s+(.*?)\\s*ducklake:end\\*/', sql, modules.re.DOTALL
    ) -%}
    {{ return(found.group(1) if found else '') }}
{%- endmacro %}


{#- Whether the model's source names touched groups; its text does only where it is not whole. -#}
{% macro computes_groups() -%}
    {{ return('dbt_ducklake.touched' in model.raw_code) }}
{%- endmacro %}


{#- Every tracked model that is read must say what it touches: else a change would be missed. -#}
{% macro check_touched(touched) -%}
    {%- set left_out = dbt_ducklake.as_list(config.get('untracked') or []) -%}
    {%- for unique_id in model.depends_on.nodes if unique_id in graph.nodes -%}
        {%- set node = graph.nodes[unique_id] -%}
        {%- set log = 'changes.' ~ node.schema ~ '.' ~ node.alias -%}
        {%- if log not in touched and node.alias not in touched and node.name not in left_out -%}
            {%- do exceptions.raise_compiler_error(
                "It reads " ~ node.name ~ ", but `touched` does not say which groups a change of it"
                ~ " touches: add its changes there, or list it in the config `untracked`."
            ) -%}
        {%- endif -%}
    {%- endfor -%}
{%- endmacro %}


{#- How groups are compared: by equality, which lets DuckDB skip blocks, unless one has a NULL. -#}
{% macro comparison(columns) -%}
    {%- set parts = [] -%}
    {%- for column in columns -%}
        {%- do parts.append('k' ~ loop.index ~ ' is null') -%}
    {%- endfor -%}
    {%- set found = run_query(
        'select coalesce(bool_or(' ~ parts | join(' or ') ~ '), false) from ducklake_touched'
    ) -%}
    {{ return('is not distinct from' if found.columns[0].values()[0] else '=') }}
{%- endmacro %}


{#- Condition: a row's columns are those of a group in `keys`. -#}
{% macro same_group(keys, alias, columns, equals) -%}
    {%- set parts = [] -%}
    {%- for column in columns -%}
        {%- do parts.append(
            keys ~ '.k' ~ loop.index ~ ' ' ~ equals ~ ' ' ~ alias ~ '.' ~ column
        ) -%}
    {%- endfor -%}
    {{ return(parts | join(' and ')) }}
{%- endmacro %}


{#- The rows of touched groups give way to what was computed; both images are kept. -#}
{% macro replace_groups(target, group_by, equals) -%}
    {%- set log = dbt_ducklake.change_log(target) -%}
    {%- do dbt_ducklake.run(
        'create or replace temp table ducklake_before as select target.* from ' ~ target
        ~ ' as target semi join ducklake_touched as touched on '
        ~ dbt_ducklake.same_group('touched', 'target', group_by, equals) ~ ';'
        ~ dbt_ducklake.logged_changes(log, 'ducklake_before') ~ ';'
        ~ 'delete from ' ~ target ~ ' as target using ducklake_touched as touched where '
        ~ dbt_ducklake.same_group('touched', 'target', group_by, equals) ~ ';'
        ~ 'insert into ' ~ target ~ ' by name from ducklake_rows;'
        ~ 'drop table temp.ducklake_before; drop table temp.ducklake_touched'
    ) -%}
{%- endmacro %}


{#- What was computed takes the place of the table; where the two are not compared, nobody knows
    which rows changed. -#}
{% macro replace_all(target, compares) -%}
    {%- set log = dbt_ducklake.change_log(target) -%}
    {%- if compares -%}
        {%- do dbt_ducklake.run(dbt_ducklake.logged_changes(log, target)) -%}
    {%- else -%}
        {%- do dbt_ducklake.run(
            'create or replace table ' ~ log ~ " as select 0::bigint as _cycle, '' as _image, *"
            ~ ' from ducklake_rows where false'
        ) -%}
        {%- do dbt_ducklake.run(
            "insert into ducklake.rebuilt select '" ~ dbt_ducklake.relation_name(target) ~ "', "
            ~ dbt_ducklake.cycle_number()
        ) -%}
    {%- endif -%}
    {%- do dbt_ducklake.run('create or replace table ' ~ target ~ ' as from ducklake_rows') -%}
{%- endmacro %}


{% macro logged_changes(log, before) -%}
    {{ return(
        'insert into ' ~ log ~ ' by name select ' ~ dbt_ducklake.cycle_number() ~ ' as _cycle, * from ('
        ~ ' select \'old\' as _image, * from (from ' ~ before ~ ' except all from ducklake_rows)'
        ~ ' union all by name'
        ~ ' select \'new\' as _image, * from (from ducklake_rows except all from ' ~ before ~ '))'
    ) }}
{%- endmacro %}


{#- Whether the table of a model's changes has the columns of what was computed. -#}
{% macro has_same_columns(log) -%}
    {%- set name = log.replace('ducklake."', '').replace('"', '') -%}
    {%- set found = run_query(
        "select (select list((column_name, data_type) order by column_index) from duckdb_columns()"
        ~ " where schema_name = 'ducklake' and table_name = '" ~ name ~ "' and column_index > 2)"
        ~ ' is not distinct from '
        ~ "(select list((column_name, data_type) order by column_index) from duckdb_columns()"
        ~ " where database_name = 'temp' and table_name = 'ducklake_rows')"
    ) -%}
    {{ return(found.columns[0].values()[0]) }}
{%- endmacro %}


{#- New records that are newer than the version the model has, by key: `ducklake_newer`. -#}
{% macro take_newer(versions, key) -%}
    {%- set name, columns = versions.split('|') -%}
    {%- set schema, table = name.split('.', 1) -%}
    {%- set source = api.Relation.create(schema='raw_new', identifier=table) -%}
    {%- set columns = modules.re.split('\\s*,\\s*', columns.strip()) -%}
    {%- if columns != key -%}
        {%- do exceptions.raise_compiler_error(
            "Its key is " ~ key | join(', ') ~ ", and it reads the latest versions by "
            ~ columns | join(', ') ~ ": use the same columns, under the same names."
        ) -%}
    {%- endif -%}
    {%- do dbt_ducklake.run(
        'create or replace temp table ducklake_records as select * from ('
        ~ dbt_ducklake.newest_versions(
            source, columns | join(', '), dbt_ducklake.emptied_table(this)
        )
        ~ ');'
        ~ 'create or replace temp table ducklake_newer as select record.* from ducklake_records as record'
        ~ ' left join ' ~ dbt_ducklake.versions_table(this) ~ ' as known on '
        ~ dbt_ducklake.same_group('known', 'record', columns, '=')
        ~ ' where known.epoch is null'
        ~ ' or (known.epoch, known.position) < (record._topic_epoch, record._offset);'
        ~ 'create or replace temp table ducklake_touched as select ' ~ dbt_ducklake.renamed(columns)
        ~ ' from ducklake_newer'
    ) -%}
{%- endmacro %}


{% macro renamed(columns) -%}
    {%- set parts = [] -%}
    {%- for column in columns -%}
        {%- do parts.append(column ~ ' as k' ~ loop.index) -%}
    {%- endfor -%}
    {{ return(parts | join(', ')) }}
{%- endmacro %}


{% macro keep_positions(key) -%}
    {%- set table = dbt_ducklake.versions_table(this) -%}
    {%- do dbt_ducklake.run(
        'delete from ' ~ table ~ ' as known using ducklake_newer as record where '
        ~ dbt_ducklake.same_group('known', 'record', key, '=') ~ ';'
        ~ 'insert into ' ~ table ~ ' select ' ~ dbt_ducklake.renamed(key)
        ~ ', _topic_epoch, _offset, _is_deleted from ducklake_newer;'
        ~ 'drop table temp.ducklake_newer; drop table temp.ducklake_records'
    ) -%}
{%- endmacro %}


{% macro keep_all_positions(versions, key) -%}
    {%- set name, columns = versions.split('|') -%}
    {%- set schema, table = name.split('.', 1) -%}
    {%- set source = api.Relation.create(schema=schema, identifier=table) -%}
    {%- set emptied = dbt_ducklake.emptied_table(this) -%}
    {%- set where = " where _op = 't'" if dbt_ducklake.is_cdc(source) else ' where false' -%}
    {%- do dbt_ducklake.run('create or replace table ' ~ emptied ~ ' as from ' ~ source ~ where) -%}
    {%- do dbt_ducklake.run(
        'create or replace table ' ~ dbt_ducklake.versions_table(this) ~ ' as select '
        ~ dbt_ducklake.renamed(key) ~ ', _topic_epoch as epoch, _offset as position,'
        ~ ' _is_deleted as is_deleted from (' ~ dbt_ducklake.newest_versions(source, key | join(', '))
        ~ ') as newest'
    ) -%}
{%- endmacro %}
