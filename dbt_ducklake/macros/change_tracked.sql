{#-
    A table whose changes are kept: old and new images of every row that a build changed.

    `meta.primary_key` names the columns of its key; `group_by` (the key, if it is not given) names the
    columns by which a build that is not whole computes it: groups of which nothing changed before
    it are left as they are. A model that names no touched groups and reads no versions is computed
    whole each time, and its changes are found by comparison.

    A build that is whole writes rows in the order of `cluster_by` (`group_by`, if it is not given):
    DuckDB skips the row groups in which none of the touched groups can be.
-#}
{% materialization change_tracked, adapter='duckdb' %}
    {%- set target = this.incorporate(type='table') -%}
    {%- set existing = load_cached_relation(this) -%}
    {%- set key = dbt_ducklake.key_columns() -%}
    {%- set touched = dbt_ducklake.marked(sql, 'touched') -%}
    {%- set versions = dbt_ducklake.marked(sql, 'versions') -%}
    {%- set whole = dbt_ducklake.builds_whole() -%}

    {%- if dbt_ducklake.asks_for_scripts() -%}
        {%- do store_raw_result(
            name='main', message=tojson(dbt_ducklake.script(target, sql)), code='SCRIPT',
            rows_affected=0
        ) -%}
        {{ return({'relations': []}) }}
    {%- endif -%}

    {{ run_hooks(pre_hooks, inside_transaction=False) }}
    {{ run_hooks(pre_hooks, inside_transaction=True) }}

    {%- if existing is not none and not existing.is_table -%}
        {%- do adapter.drop_relation(existing) -%}
        {%- set existing = none -%}
    {%- endif -%}

    {%- if whole -%}
        {%- call statement('main') -%}
            create or replace temp table ducklake_rows as
            {{ sql.replace(dbt_ducklake.equals(), '=') }}
        {%- endcall -%}
        {%- do dbt_ducklake.check_contract() -%}
        {#- A model without groups may be built whole for what was built before it, and yet have
            changed in a few rows. -#}
        {%- set compares = existing is not none and not flags.FULL_REFRESH and not versions
            and not touched and not dbt_ducklake.computes_groups()
            and dbt_ducklake.asked(dbt_ducklake.same_columns(target)) -%}
        {%- if compares -%}
            {%- do dbt_ducklake.run(dbt_ducklake.logged_changes(target, target)) -%}
        {%- else -%}
            {%- do dbt_ducklake.forget_changes(target) -%}
        {%- endif -%}
        {%- do dbt_ducklake.run(
            'create or replace table ' ~ target ~ ' as from ducklake_rows'
            ~ (dbt_ducklake.clustered() if versions or dbt_ducklake.computes_groups() else '')
        ) -%}
        {%- if versions -%}{%- do dbt_ducklake.keep_all_positions(versions, key) -%}{%- endif -%}
        {%- do dbt_ducklake.run('drop table if exists temp.ducklake_rows') -%}
    {%- else -%}
        {%- do dbt_ducklake.run_script(target, dbt_ducklake.script(target, sql)) -%}
    {%- endif -%}

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
    {{ return(dbt_ducklake.names(key)) }}
{%- endmacro %}


{% macro clustered() -%}
    {%- set columns = config.get('cluster_by') or config.get('group_by') -%}
    {{ return(
        ' order by ' ~ (dbt_ducklake.names(columns) if columns else dbt_ducklake.key_columns())
            | join(', ')
    ) }}
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
    {%- set names_groups = 'dbt_ducklake.touched' in model.raw_code -%}
    {{ return(names_groups and not dbt_ducklake.is_computed_whole()) }}
{%- endmacro %}


{#- Every tracked model that is read must say what it touches: else a change would be missed. One
    that stands in `touched` itself does not: a group that went away is not in it. -#}
{% macro check_touched(touched) -%}
    {%- for node in dbt_ducklake.inputs() if node.config.materialized == 'change_tracked' -%}
        {%- set log = '"changes.' ~ node.schema ~ '.' ~ node.alias ~ '"' -%}
        {%- if log not in touched -%}
            {%- do exceptions.raise_compiler_error(
                "It reads " ~ node.name ~ ", but `touched` does not say which groups a change of it"
                ~ " touches: add its changes there, or list it in the config `untracked`."
            ) -%}
        {%- endif -%}
    {%- endfor -%}
{%- endmacro %}


{#- New records are all that such a model reads: of the rest of the relation it would see what the
    last whole build has left. -#}
{% macro check_versions(sql) -%}
    {%- for node in dbt_ducklake.inputs() if node.resource_type == 'source' -%}
        {%- if node.relation_name in sql or sql.count('/*ducklake:versions') > 1 -%}
            {%- do exceptions.raise_compiler_error(
                "It reads " ~ node.name ~ " beside the latest version of its keys: read that in a model"
                ~ " of its own, and join the two."
            ) -%}
        {%- endif -%}
    {%- endfor -%}
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


{#-
    How a build that is not whole changes a model: statements and questions, as text. The
    materialization runs them; the batch asks for them once, and then does the same in each cycle
    without dbt.

    `touch`: statements that find the groups to be computed. `is_touched`: whether there are any.
    `has_null`: whether a group has a NULL, so that equality does not find it.
    `rows`: computes rows. `is_applicable`: whether they have the columns of the table; where not,
    the model is built anew. `log`: statements that keep what differs. `written`: rows that changed
    since the last cycle that came to its end, and those of them that there are now. `apply`:
    statements that change the table. `end`: statements that come last, also where no row changed.
    Empty is what a model does not need.
-#}
{% macro script(target, sql) -%}
    {%- set key = dbt_ducklake.key_columns() -%}
    {%- set group_by = dbt_ducklake.names(config.get('group_by') or key) -%}
    {%- set touched = dbt_ducklake.marked(sql, 'touched') -%}
    {%- set versions = dbt_ducklake.marked(sql, 'versions') -%}
    {%- set log = dbt_ducklake.change_log(target) -%}
    {%- set script = {
        'touch': '', 'is_touched': '', 'has_null': '', 'is_applicable': '', 'end': '',
        'rows': 'create or replace temp table ducklake_rows as ' ~ sql,
        'written': 'select count(*), count(*) filter (_image = \'new\') from ' ~ log
            ~ ' where _cycle > (select seen from ducklake.models where relation = \''
            ~ dbt_ducklake.relation_name(target) ~ '\')'
    } -%}
    {%- if versions -%}
        {%- do dbt_ducklake.check_versions(sql) -%}
        {%- do script.update({'touch': dbt_ducklake.take_newer(versions, key)}) -%}
    {%- elif touched -%}
        {%- do dbt_ducklake.check_touched(touched) -%}
        {%- do script.update({
            'touch': 'create or replace temp table ducklake_touched as select distinct * from ('
                ~ touched ~ ') as t(' ~ dbt_ducklake.numbered(group_by) ~ ')'
        }) -%}
    {%- endif -%}
    {%- if versions or touched -%}
        {%- do script.update({
            'is_touched': 'select count(*) > 0 from ducklake_touched',
            'has_null': dbt_ducklake.has_null(group_by),
            'log': dbt_ducklake.log_groups(target, group_by),
            'apply': dbt_ducklake.replace_groups(target, group_by),
            'end': 'drop table temp.ducklake_before; drop table temp.ducklake_touched;'
                ~ (dbt_ducklake.keep_positions(key) if versions else '')
        }) -%}
    {%- else -%}
        {%- do script.update({
            'is_applicable': dbt_ducklake.same_columns(target),
            'log': dbt_ducklake.logged_changes(target, target),
            'apply': 'create or replace table ' ~ target ~ ' as from ducklake_rows'
        }) -%}
    {%- endif -%}
    {%- do script.update({'end': script['end'] ~ 'drop table temp.ducklake_rows'}) -%}
    {{ return(script) }}
{%- endmacro %}


{% macro run_script(target, script) -%}
    {%- set equals = '=' -%}
    {%- if script['touch'] -%}
        {%- do dbt_ducklake.run(script['touch']) -%}
        {%- if dbt_ducklake.asked(script['has_null']) -%}
            {%- set equals = 'is not distinct from' -%}
        {%- endif -%}
    {%- endif -%}
    {%- call statement('main') -%}
        {{ script['rows'].replace(dbt_ducklake.equals(), equals) }}
    {%- endcall -%}
    {%- if not script['is_applicable'] or dbt_ducklake.asked(script['is_applicable']) -%}
        {%- for part in ('log', 'apply', 'end') -%}
            {%- do dbt_ducklake.run(script[part].replace(dbt_ducklake.equals(), equals)) -%}
        {%- endfor -%}
    {%- else -%}
        {%- do dbt_ducklake.check_contract() -%}
        {%- do dbt_ducklake.forget_changes(target) -%}
        {%- do dbt_ducklake.run(
            'create or replace table ' ~ target ~ ' as from ducklake_rows;'
            ~ 'drop table temp.ducklake_rows'
        ) -%}
    {%- endif -%}
{%- endmacro %}


{#- What was computed has the columns that the project promises. Rows of a build that is not whole
    go into columns that were checked before. -#}
{% macro check_contract() -%}
    {%- if config.get('contract').enforced -%}
        {%- do get_assert_columns_equivalent('select * from ducklake_rows') -%}
    {%- endif -%}
{%- endmacro %}


{#- The answer to a question that has one. -#}
{% macro asked(question) -%}
    {{ return(run_query(question).columns[0].values()[0]) }}
{%- endmacro %}


{#- Whether a touched group has a NULL: equality, which lets DuckDB skip blocks, misses it. -#}
{% macro has_null(columns) -%}
    {%- set parts = [] -%}
    {%- for column in columns -%}
        {%- do parts.append('k' ~ loop.index ~ ' is null') -%}
    {%- endfor -%}
    {{ return(
        'select coalesce(bool_or(' ~ parts | join(' or ') ~ '), false) from ducklake_touched'
    ) }}
{%- endmacro %}


{#- Both images of the rows of touched groups. -#}
{% macro log_groups(target, group_by) -%}
    {{ return(
        'create or replace temp table ducklake_before as select target.* from ' ~ target
        ~ ' as target semi join ducklake_touched as touched on '
        ~ dbt_ducklake.same_group('touched', 'target', group_by, dbt_ducklake.equals()) ~ ';'
        ~ dbt_ducklake.logged_changes(target, 'ducklake_before')
    ) }}
{%- endmacro %}


{#- The rows of touched groups give way to what was computed. -#}
{% macro replace_groups(target, group_by) -%}
    {{ return(
        'delete from ' ~ target ~ ' as target using ducklake_touched as touched where '
        ~ dbt_ducklake.same_group('touched', 'target', group_by, dbt_ducklake.equals())
        ~ ';insert into ' ~ target ~ ' by name from ducklake_rows'
    ) }}
{%- endmacro %}


{#- Nobody knows which rows change: what was known of them is another table's. -#}
{% macro forget_changes(target) -%}
    {%- do dbt_ducklake.run(
        'create or replace table ' ~ dbt_ducklake.change_log(target)
        ~ " as select 0::bigint as _cycle, '' as _image, * from ducklake_rows where false"
    ) -%}
    {%- do dbt_ducklake.run(
        "insert into ducklake.rebuilt select '" ~ dbt_ducklake.relation_name(target) ~ "', "
        ~ dbt_ducklake.cycle_number()
    ) -%}
{%- endmacro %}


{#- Each row counts for what was computed, or against what was there: what is left differs. -#}
{% macro logged_changes(target, before) -%}
    {{ return(
        'insert into ' ~ dbt_ducklake.change_log(target) ~ ' by name select '
        ~ dbt_ducklake.cycle_number() ~ " as _cycle, case when _ducklake_sum < 0 then 'old' else 'new'"
        ~ ' end as _image, * exclude (_ducklake_sum, _ducklake_copy) from ('
        ~ ' select *, unnest(range(abs(_ducklake_sum)::bigint)) as _ducklake_copy from ('
        ~ ' select * exclude (_ducklake_count), sum(_ducklake_count) as _ducklake_sum from ('
        ~ ' select *, 1 as _ducklake_count from ducklake_rows'
        ~ ' union all by name select *, -1 as _ducklake_count from ' ~ before
        ~ ') group by all having sum(_ducklake_count) <> 0))'
    ) }}
{%- endmacro %}


{#- Whether the table of a model's changes has the columns of what was computed. -#}
{% macro same_columns(target) -%}
    {%- set log = 'changes.' ~ dbt_ducklake.relation_name(target) -%}
    {{ return(
        "select (select list((column_name, data_type) order by column_index) from duckdb_columns()"
        ~ " where schema_name = 'ducklake' and table_name = '" ~ log ~ "' and column_index > 2)"
        ~ ' is not distinct from '
        ~ "(select list((column_name, data_type) order by column_index) from duckdb_columns()"
        ~ " where database_name = 'temp' and table_name = 'ducklake_rows')"
    ) }}
{%- endmacro %}


{#- New records that are newer than the version the model has, by key: `ducklake_newer`. -#}
{% macro take_newer(versions, key) -%}
    {%- set name, columns = versions.split('|', 1) -%}
    {%- set schema, table = name.split('.', 1) -%}
    {%- set source = api.Relation.create(schema='raw_new', identifier=table) -%}
    {%- set columns = dbt_ducklake.terms(columns) -%}
    {%- if columns != key -%}
        {%- do exceptions.raise_compiler_error(
            "Its key is " ~ key | join(', ') ~ ", and it reads the latest versions by "
            ~ columns | join(', ') ~ ": use the same columns, under the same names."
        ) -%}
    {%- endif -%}
    {{ return(
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
    ) }}
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
    {{ return(
        'delete from ' ~ table ~ ' as known using ducklake_newer as record where '
        ~ dbt_ducklake.same_group('known', 'record', key, '=') ~ ';'
        ~ 'insert into ' ~ table ~ ' select ' ~ dbt_ducklake.renamed(key)
        ~ ', _topic_epoch, _offset, _is_deleted from ducklake_newer;'
        ~ 'drop table temp.ducklake_newer; drop table temp.ducklake_records;'
    ) }}
{%- endmacro %}


{% macro keep_all_positions(versions, key) -%}
    {%- set name, columns = versions.split('|', 1) -%}
    {%- set schema, table = name.split('.', 1) -%}
    {%- set source = api.Relation.create(schema=schema, identifier=table) -%}
    {%- set emptied = dbt_ducklake.emptied_table(this) -%}
    {%- set where = " where _op = 't'" if dbt_ducklake.is_cdc(source) else ' where false' -%}
    {%- do dbt_ducklake.run('create or replace table ' ~ emptied ~ ' as from ' ~ source ~ where) -%}
    {%- do dbt_ducklake.run(
        'create or replace table ' ~ dbt_ducklake.versions_table(this) ~ ' as select '
        ~ dbt_ducklake.renamed(key) ~ ', _topic_epoch as epoch, _offset as position,'
        ~ ' _is_deleted as is_deleted from (' ~ dbt_ducklake.newest_versions(source, key | join(', '))
        ~ ') as newest order by ' ~ dbt_ducklake.numbered(key)
    ) -%}
{%- endmacro %}
