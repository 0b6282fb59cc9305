{#-
    What DuckDB writes in its own way. Another adapter needs a macro of its own for each of these
    (`spark__full_match`, …); docs/MODELS.md lists what else is DuckDB's.
-#}

{#- Condition: a text matches a regular expression as a whole. -#}
{% macro full_match(text, pattern) -%}
    {{ return(adapter.dispatch('full_match', 'techstore')(text, pattern)) }}
{%- endmacro %}

{% macro duckdb__full_match(text, pattern) -%}
    regexp_full_match({{ text }}, '{{ pattern }}')
{%- endmacro %}


{#- A text with all that matches a regular expression replaced. -#}
{% macro replace_matches(text, pattern, replacement) -%}
    {{ return(adapter.dispatch('replace_matches', 'techstore')(text, pattern, replacement)) }}
{%- endmacro %}

{% macro duckdb__replace_matches(text, pattern, replacement) -%}
    regexp_replace({{ text }}, '{{ pattern }}', '{{ replacement }}', 'g')
{%- endmacro %}


{#- A text as TIMESTAMP, in a format of strptime; NULL where it is none. -#}
{% macro try_timestamp(text, format) -%}
    {{ return(adapter.dispatch('try_timestamp', 'techstore')(text, format)) }}
{%- endmacro %}

{% macro duckdb__try_timestamp(text, format) -%}
    try_strptime({{ text }}, '{{ format }}')
{%- endmacro %}


{#- In a select: one row for each day from the first to the last. -#}
{% macro each_day(first, last) -%}
    {{ return(adapter.dispatch('each_day', 'techstore')(first, last)) }}
{%- endmacro %}

{% macro duckdb__each_day(first, last) -%}
    cast(unnest(generate_series({{ first }}, {{ last }}, interval 1 day)) as date)
{%- endmacro %}


{#- Whole minutes from one time to another. -#}
{% macro minutes_between(start, end) -%}
    {{ return(adapter.dispatch('minutes_between', 'techstore')(start, end)) }}
{%- endmacro %}

{% macro duckdb__minutes_between(start, end) -%}
    date_diff('minute', {{ start }}, {{ end }})
{%- endmacro %}


{#- A member of a JSON object as text; NULL where it has none. -#}
{% macro json_text(json, member) -%}
    {{ return(adapter.dispatch('json_text', 'techstore')(json, member)) }}
{%- endmacro %}

{% macro duckdb__json_text(json, member) -%}
    json_extract_string({{ json }}, '$.{{ member }}')
{%- endmacro %}
