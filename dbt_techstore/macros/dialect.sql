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


{#- A text with the first match of a regular expression replaced; {1} is its first group. -#}
{% macro replace_match(text, pattern, replacement) -%}
    {{ return(adapter.dispatch('replace_match', 'techstore')(text, pattern, replacement)) }}
{%- endmacro %}

{% macro duckdb__replace_match(text, pattern, replacement) -%}
    regexp_replace(
        {{ text }}, '{{ pattern }}', '{{ replacement | replace("{", "\\") | replace("}", "") }}'
    )
{%- endmacro %}


{#- A TIMESTAMPTZ as the wall clock of a zone. -#}
{% macro wall_clock(moment, zone) -%}
    {{ return(adapter.dispatch('wall_clock', 'techstore')(moment, zone)) }}
{%- endmacro %}

{% macro duckdb__wall_clock(moment, zone) -%}
    timezone('{{ zone }}', {{ moment }})
{%- endmacro %}


{#- 1 for Monday to 7 for Sunday. -#}
{% macro iso_weekday(day) -%}
    {{ return(adapter.dispatch('iso_weekday', 'techstore')(day)) }}
{%- endmacro %}

{% macro duckdb__iso_weekday(day) -%}
    isodow({{ day }})
{%- endmacro %}


{#- Days from one date to another. -#}
{% macro days_between(first, last) -%}
    {{ return(adapter.dispatch('days_between', 'techstore')(first, last)) }}
{%- endmacro %}

{% macro duckdb__days_between(first, last) -%}
    ({{ last }} - {{ first }})
{%- endmacro %}


{#- Aggregate: the value of the last row in an order, of those that have one. -#}
{% macro last_known(column, order_by) -%}
    {{ return(adapter.dispatch('last_known', 'techstore')(column, order_by)) }}
{%- endmacro %}

{% macro duckdb__last_known(column, order_by) -%}
    last({{ column }} order by {{ order_by }}) filter (where {{ column }} is not null)
{%- endmacro %}


{#- Aggregate: all values as one text, in their order, with commas. -#}
{% macro listed(column) -%}
    {{ return(adapter.dispatch('listed', 'techstore')(column)) }}
{%- endmacro %}

{% macro duckdb__listed(column) -%}
    string_agg(cast({{ column }} as varchar), ',' order by {{ column }})
{%- endmacro %}


{#- The median of a value over a window. -#}
{% macro median_over(value, window) -%}
    {{ return(adapter.dispatch('median_over', 'techstore')(value, window)) }}
{%- endmacro %}

{% macro duckdb__median_over(value, window) -%}
    median({{ value }}) over {{ window }}
{%- endmacro %}


{#- A text as 8 bytes without sign; NULL where it is none. -#}
{% macro try_unsigned(text) -%}
    {{ return(adapter.dispatch('try_unsigned', 'techstore')(text)) }}
{%- endmacro %}

{% macro duckdb__try_unsigned(text) -%}
    try_cast({{ text }} as ubigint)
{%- endmacro %}


{#- A text as TIMESTAMPTZ; NULL where it is none. -#}
{% macro try_moment(text) -%}
    {{ return(adapter.dispatch('try_moment', 'techstore')(text)) }}
{%- endmacro %}

{% macro duckdb__try_moment(text) -%}
    try_cast({{ text }} as timestamptz)
{%- endmacro %}


{#- Condition: a part of a text is another one. -#}
{% macro has_text(text, part) -%}
    {{ return(adapter.dispatch('has_text', 'techstore')(text, part)) }}
{%- endmacro %}

{% macro duckdb__has_text(text, part) -%}
    contains({{ text }}, {{ part }})
{%- endmacro %}


{#- The contacts in a JSON list: name, email, phone and role of each; none where it is no JSON. -#}
{% macro contacts_of(json) -%}
    {{ return(adapter.dispatch('contacts_of', 'techstore')(json)) }}
{%- endmacro %}

{% macro duckdb__contacts_of(json) -%}
    case
        when json_valid({{ json }})
            then from_json(
                {{ json }},
                '[{"name": "VARCHAR", "email": "VARCHAR", "phone": "VARCHAR", "role": "VARCHAR"}]'
            )
        else []
    end
{%- endmacro %}


{#- The first contact whose role matches, else the first; NULL where there is none. -#}
{% macro chosen_contact(contacts, pattern) -%}
    {{ return(adapter.dispatch('chosen_contact', 'techstore')(contacts, pattern)) }}
{%- endmacro %}

{% macro duckdb__chosen_contact(contacts, pattern) -%}
    coalesce(
        list_filter({{ contacts }}, lambda c: regexp_matches(lower(c.role), '{{ pattern }}'))[1],
        {{ contacts }}[1]
    )
{%- endmacro %}


{#- How many members a list has. -#}
{% macro length_of(list) -%}
    {{ return(adapter.dispatch('length_of', 'techstore')(list)) }}
{%- endmacro %}

{% macro duckdb__length_of(list) -%}
    len({{ list }})
{%- endmacro %}
