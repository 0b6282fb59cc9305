{#-
    What the batch tells a build, in schema `ducklake` of the warehouse:

    `cycle`: the number of this cycle, and whether tests read whole tables. Between two cycles it is
    the number of the next one.
    `models`: of each model, the cycle in which it was last built (`seen`), the one in which its
    tests last passed (`tested`), and whether it has to be built from nothing.
    `rebuilt`: which models were built from nothing, and in which cycle: their changes up to it are
    not known.

    Where these tables are empty (dbt called by hand, in a warehouse of its own) every build is
    whole.
-#}
{% macro create_state() -%}
    create schema if not exists ducklake;
    create table if not exists ducklake.cycle (number bigint, tests_all boolean);
    create table if not exists ducklake.models (
        relation varchar, seen bigint, tested bigint, is_full boolean
    );
    create table if not exists ducklake.rebuilt (relation varchar, cycle bigint)
{%- endmacro %}


{#- Whether a model or test is about to run: else there is no state to ask. -#}
{% macro is_running() -%}
    {{ return(
        execute and model.resource_type != 'unit_test' and flags.WHICH in ('build', 'run', 'test')
    ) }}
{%- endmacro %}


{#- Whether models are not to be built: the batch wants to know how they are changed. -#}
{% macro asks_for_scripts() -%}
    {{ return(execute and env_var('DUCKLAKE_SCRIPTS', '') != '' and flags.WHICH == 'run') }}
{%- endmacro %}


{#- `schema.name` of a relation, as the batch's tables and the names of change logs have it. -#}
{% macro relation_name(relation) -%}
    {{ return(relation.schema ~ '.' ~ relation.identifier) }}
{%- endmacro %}


{#- The log of a tracked model's changes: columns of the model, `_cycle` and `_image`. -#}
{% macro change_log(relation) -%}
    {{ return('ducklake."changes.' ~ dbt_ducklake.relation_name(relation) ~ '"') }}
{%- endmacro %}


{#- Positions of the newest version of each key, deleted keys included. -#}
{% macro versions_table(relation) -%}
    {{ return('ducklake."versions.' ~ dbt_ducklake.relation_name(relation) ~ '"') }}
{%- endmacro %}


{#- Records that emptied the table. -#}
{% macro emptied_table(relation) -%}
    {{ return('ducklake."emptied.' ~ dbt_ducklake.relation_name(relation) ~ '"') }}
{%- endmacro %}


{% macro cycle_number() -%}
    {{ return('(select coalesce(max(number), 0) from ducklake.cycle)') }}
{%- endmacro %}


{#- Names of the tracked models that this one reads, as SQL strings. -#}
{% macro tracked_before() -%}
    {%- set names = [] -%}
    {%- for unique_id in model.depends_on.nodes if unique_id in graph.nodes -%}
        {%- set node = graph.nodes[unique_id] -%}
        {%- if node.config.materialized == 'change_tracked' -%}
            {%- do names.append("'" ~ node.schema ~ '.' ~ node.alias ~ "'") -%}
        {%- endif -%}
    {%- endfor -%}
    {{ return(names) }}
{%- endmacro %}


{#- What this model reads, as nodes of the graph, without what its config `untracked` names, and
    without seeds: an edited seed is an edited model. -#}
{% macro inputs() -%}
    {%- set left_out = dbt_ducklake.as_list(config.get('untracked') or []) -%}
    {%- set found = [] -%}
    {%- for unique_id in model.depends_on.nodes -%}
        {%- set node = graph.nodes.get(unique_id) or graph.sources.get(unique_id) -%}
        {%- if node and node.name not in left_out and node.resource_type != 'seed' -%}
            {%- do found.append(node) -%}
        {%- endif -%}
    {%- endfor -%}
    {{ return(found) }}
{%- endmacro %}


{#-
    Whether what this model reads leaves changes of its groups unknown: a table, a view or a source
    does not tell what changed in it. New records of a source do, where nothing else is read.
-#}
{% macro is_computed_whole() -%}
    {%- set inputs, silent = dbt_ducklake.inputs(), [] -%}
    {%- for node in inputs if node.config.materialized != 'change_tracked' -%}
        {%- do silent.append(node.name) -%}
    {%- endfor -%}
    {{ return(silent and (inputs | length > 1 or 'dbt_ducklake.touched' in model.raw_code)) }}
{%- endmacro %}


{#-
    Whether this model has to be built from nothing: at first sight, on request, after an edit, and
    where changes of a model before it are not known: it was built from nothing, or never tells.
-#}
{% macro builds_whole() -%}
    {%- if execute and model.resource_type == 'model' and dbt_ducklake.is_computed_whole() -%}
        {{ return(true) }}
    {%- endif -%}
    {%- if dbt_ducklake.asks_for_scripts() -%}{{ return(false) }}{%- endif -%}
    {%- if not dbt_ducklake.is_running() or flags.FULL_REFRESH
        or config.get('materialized') != 'change_tracked' or load_cached_relation(this) is none -%}
        {{ return(true) }}
    {%- endif -%}
    {#- Asked once for a model: its text asks for each of the models that it reads. -#}
    {%- if 'ducklake_whole' in model -%}
        {{ return(model['ducklake_whole']) }}
    {%- endif -%}
    {%- set before = dbt_ducklake.tracked_before() + ["''"] -%}
    {%- set found = run_query(
        "select is_full or exists (select 1 from ducklake.rebuilt where cycle > seen and relation in ("
        ~ before | join(', ') ~ ")) from ducklake.models where relation = '"
        ~ dbt_ducklake.relation_name(this) ~ "'"
    ) -%}
    {%- set whole = found | length == 0 or found.columns[0].values()[0] -%}
    {%- do model.update({'ducklake_whole': whole}) -%}
    {{ return(whole) }}
{%- endmacro %}
