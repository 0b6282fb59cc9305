{#-
    What a data test reads: rows that changed since its model's tests last passed, and rows that
    share their key.

    Tests that judge each row by itself read the changed rows; tests of uniqueness read all rows that
    have the changed rows' values; tests of relationships read the changed rows, and those that refer
    to a row that is gone; every other test reads the whole table. So do all of them before a first
    publication, after a build from nothing, when a test was edited, in the full tests
    (`batch.full_tests_hours`), and until what these have found is green.
    Tests of your own that judge each row by itself are named in the variable `row_tests`.
-#}
{% macro duckdb__get_where_subquery(relation) -%}
    {%- set where = config.get('where', '') -%}
    {%- set rows = dbt_ducklake.tested_rows(relation) -%}
    {%- if where -%}
        {{ return('(select * from ' ~ (rows or relation) ~ ' where ' ~ where ~ ') dbt_subquery') }}
    {%- endif -%}
    {{ return((rows ~ ' dbt_subquery') if rows else relation) }}
{%- endmacro %}


{#- The rows that a test reads, as a subquery; empty where it reads the whole table. -#}
{% macro tested_rows(relation) -%}
    {%- if not dbt_ducklake.reads_state() or model.resource_type != 'test'
        or model.test_metadata is none or dbt_ducklake.tested_rows_of() == 'whole' -%}
        {{ return('') }}
    {%- endif -%}
    {%- if relation.schema == 'raw' -%}
        {%- set found = run_query(
            "select 1 from ducklake.cycle, duckdb_views() where schema_name = 'raw_new'"
            ~ " and view_name = '" ~ relation.identifier ~ "'"
            ~ ('' if dbt_ducklake.tested_rows_of() == 'changed' else ' and not tests_all')
        ) -%}
        {%- set new = '(select * from raw_new."' ~ relation.identifier ~ '")' -%}
        {{ return(dbt_ducklake.tested_of(relation, new, []) if found | length else '') }}
    {%- endif -%}
    {%- set tested = dbt_ducklake.tested_since(relation) -%}
    {%- if tested is none -%}{{ return('') }}{%- endif -%}
    {%- set key = dbt_ducklake.key_of(relation) -%}
    {%- if not key -%}{{ return('') }}{%- endif -%}
    {#- As they are now: what a row was in between concerns nobody any more. -#}
    {%- set changed = '(select * exclude (_cycle, _image, _newest) from (select *, max(_cycle) over'
        ~ ' (partition by ' ~ key | join(', ') ~ ') as _newest from ' ~ dbt_ducklake.change_log(relation)
        ~ ' where _cycle > ' ~ tested ~ ") as logged where _image = 'new' and _cycle = _newest)" -%}
    {{ return(dbt_ducklake.tested_of(relation, changed, key)) }}
{%- endmacro %}


{#- The rows that a test reads where some have changed. -#}
{% macro tested_of(relation, changed, key) -%}
    {%- set test = model.test_metadata -%}
    {%- set by_row = ['not_null', 'accepted_values', 'accepted_range'] -%}
    {%- if test.name in by_row + var('row_tests', []) -%}
        {{ return(changed) }}
    {%- elif test.name == 'relationships' -%}
        {{ return(dbt_ducklake.rows_related(relation, key, changed)) }}
    {%- elif test.name in ('unique', 'unique_combination', 'unique_combination_of_columns') -%}
        {%- set columns = test.kwargs.get('columns') or test.kwargs.get('combination_of_columns')
            or [test.kwargs.get('column_name')] -%}
        {#- That no offset is committed twice is the ledger's to know: old rows need no look. -#}
        {%- if relation.schema == 'raw' and '_offset' in columns -%}
            {{ return(changed) }}
        {%- endif -%}
        {{ return(dbt_ducklake.rows_like(relation, changed, columns)) }}
    {%- endif -%}
    {{ return('') }}
{%- endmacro %}


{#-
    Which rows tests shall read that the batch has compiled, to ask them itself: `whole` or `changed`;
    empty where dbt runs them, and the state of their model tells.
-#}
{% macro tested_rows_of() -%}
    {{ return(env_var('DUCKLAKE_TESTED_ROWS', '') if flags.WHICH == 'compile' else '') }}
{%- endmacro %}


{% macro reads_state() -%}
    {{ return(dbt_ducklake.is_running() or (execute and dbt_ducklake.tested_rows_of() != '')) }}
{%- endmacro %}


{#-
    The cycle since whose changes a model has to be tested, as an expression; none: all of its rows
    have to be.
-#}
{% macro tested_since(relation) -%}
    {%- set name = dbt_ducklake.relation_name(relation) -%}
    {%- set since = "(select tested from ducklake.models where relation = '" ~ name ~ "')" -%}
    {%- if dbt_ducklake.tested_rows_of() == 'whole' -%}{{ return(none) }}{%- endif -%}
    {%- if dbt_ducklake.tested_rows_of() == 'changed' -%}{{ return(since) }}{%- endif -%}
    {%- set found = run_query(
        "select 1 from ducklake.models where tested >= 0 and relation = '" ~ name ~ "' and not"
        ~ " (select coalesce(bool_or(tests_all), true) from ducklake.cycle) and not exists"
        ~ " (select 1 from ducklake.rebuilt where relation = '" ~ name ~ "' and cycle > tested)"
    ) -%}
    {{ return(since if found | length else none) }}
{%- endmacro %}


{#- The columns of the key of a tracked model; nothing where it is none. -#}
{% macro key_of(relation) -%}
    {%- for unique_id in model.depends_on.nodes if unique_id in graph.nodes -%}
        {%- set node = graph.nodes[unique_id] -%}
        {%- if node.schema == relation.schema and node.alias == relation.identifier
            and node.config.materialized == 'change_tracked' -%}
            {{ return(dbt_ducklake.names(
                node.config.get('unique_key') or node.config.get('meta', {}).get('primary_key') or []
            )) }}
        {%- endif -%}
    {%- endfor -%}
    {{ return([]) }}
{%- endmacro %}


{#- All rows of a relation that have the values of changed rows. -#}
{% macro rows_like(relation, changed, columns) -%}
    {%- set parts = [] -%}
    {%- set equals = '=' if columns | length == 1 else 'is not distinct from' -%}
    {%- for column in dbt_ducklake.terms(columns) -%}
        {%- do parts.append('changed.' ~ column ~ ' ' ~ equals ~ ' whole.' ~ column) -%}
    {%- endfor -%}
    {{ return(
        '(select whole.* from ' ~ relation ~ ' as whole semi join ' ~ changed ~ ' as changed on '
        ~ parts | join(' and ') ~ ')'
    ) }}
{%- endmacro %}


{#-
    What a test of relationships reads: changed rows, and rows that refer to a value which the other
    relation has lost; the whole table where that relation does not tell what it has lost. Raw loses
    nothing.
-#}
{% macro rows_related(relation, key, changed) -%}
    {%- set test, lost, keys = model.test_metadata, [], [] -%}
    {%- set own, field = dbt_ducklake.terms([test.kwargs.column_name, test.kwargs.field]) -%}
    {%- for other in dbt_ducklake.referred_to(relation) if other.schema != 'raw' -%}
        {%- set tested = dbt_ducklake.tested_since(other) -%}
        {%- if tested is none or not dbt_ducklake.key_of(other) -%}{{ return('') }}{%- endif -%}
        {%- do lost.append(
            'select ' ~ field ~ ' from ' ~ dbt_ducklake.change_log(other)
            ~ ' where _cycle > ' ~ tested ~ ' group by ' ~ field
            ~ " having max(_cycle) filter (where _image = 'old')"
            ~ " > coalesce(max(_cycle) filter (where _image = 'new'), -1)"
        ) -%}
    {%- endfor -%}
    {%- if not lost -%}{{ return(changed) }}{%- endif -%}
    {%- for column in key -%}
        {%- do keys.append('changed.' ~ column ~ ' = referring.' ~ column) -%}
    {%- endfor -%}
    {%- set others = ' anti join ' ~ changed ~ ' as changed on ' ~ keys | join(' and ') -%}
    {{ return(
        '(select * from ' ~ changed ~ ' union all by name select referring.* from ' ~ relation
        ~ ' as referring semi join (' ~ lost | join(' union all ') ~ ') as lost on lost.'
        ~ field ~ ' = referring.' ~ own
        ~ (others if keys else '') ~ ')'
    ) }}
{%- endmacro %}


{#- The models in which a test of relationships looks values up; the relation itself where it refers
    to itself. -#}
{% macro referred_to(relation) -%}
    {%- set found, own = [], [] -%}
    {%- for unique_id in model.depends_on.nodes -%}
        {%- set node = graph.nodes.get(unique_id) -%}
        {%- if node and node.schema == relation.schema and node.alias == relation.identifier -%}
            {%- do own.append(relation) -%}
        {%- elif node -%}
            {%- do found.append(api.Relation.create(schema=node.schema, identifier=node.alias)) -%}
        {%- endif -%}
    {%- endfor -%}
    {{ return(own if model.depends_on.nodes | length == 1 else found) }}
{%- endmacro %}


{#-
    For tests of your own that are a query: rows of a model that share a column with rows that changed
    in any of some models since their tests last passed; all rows where whole tables are tested.

        from {{ dbt_ducklake.tested_like(ref('orders'), 'order_id', [ref('orders'), ref('items')]) }}
-#}
{% macro tested_like(relation, column, changed) -%}
    {%- if not dbt_ducklake.reads_state() -%}{{ return(relation) }}{%- endif -%}
    {%- set parts, column = [], dbt_ducklake.terms([column])[0] -%}
    {%- for each in changed -%}
        {%- set tested = dbt_ducklake.tested_since(each) -%}
        {%- if tested is none -%}{{ return(relation) }}{%- endif -%}
        {%- do parts.append(
            'select ' ~ column ~ ' from ' ~ dbt_ducklake.change_log(each) ~ ' where _cycle > ' ~ tested
        ) -%}
    {%- endfor -%}
    {{ return(
        '(select whole.* from ' ~ relation ~ ' as whole semi join (' ~ parts | join(' union all ')
        ~ ') as changed on changed.' ~ column ~ ' = whole.' ~ column ~ ')'
    ) }}
{%- endmacro %}
