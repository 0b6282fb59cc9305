{#-
    Names of columns as SQL has to have them: a key called `order` or `order no` is a name like any
    other. A name that is quoted already stays, and so does an expression where one may stand.
-#}
{% macro quoted_name(name) -%}
    {{ return(adapter.dispatch('quoted_name', 'dbt_ducklake')(name)) }}
{%- endmacro %}

{% macro default__quoted_name(name) -%}
    {{ return(adapter.quote(name)) }}
{%- endmacro %}

{% macro duckdb__quoted_name(name) -%}
    {{ return('"' ~ name.replace('"', '""') ~ '"') }}
{%- endmacro %}


{#- Columns that are names: those of `meta.primary_key`, `unique_key` and `group_by`. -#}
{% macro names(columns) -%}
    {%- set found = [] -%}
    {%- for column in dbt_ducklake.as_list(columns) -%}
        {%- do found.append(
            column if dbt_ducklake.is_quoted(column) else dbt_ducklake.quoted_name(column)
        ) -%}
    {%- endfor -%}
    {{ return(found) }}
{%- endmacro %}


{#- Columns that may be expressions: a list, or a text in which commas divide them. -#}
{% macro terms(columns) -%}
    {%- set found = [] -%}
    {%- set pattern = '(?:"(?:[^"]|"")*"|\\([^()]*\\)|[^,("])+' -%}
    {%- for column in (modules.re.findall(pattern, columns) if columns is string else columns) -%}
        {%- set column = column.strip() -%}
        {%- do found.append(
            dbt_ducklake.quoted_name(column) if modules.re.fullmatch('[^\\W\\d]\\w*', column) else column
        ) -%}
    {%- endfor -%}
    {{ return(found) }}
{%- endmacro %}


{% macro is_quoted(name) -%}
    {{ return(modules.re.fullmatch('"(?:[^"]|"")+"', name) is not none) }}
{%- endmacro %}
