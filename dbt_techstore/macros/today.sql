{#- The one "today" of the project: `--vars '{today: 2026-03-31}'`, else Argentina's date now. -#}
{% macro today() -%}
    {%- if var('today') -%}
        date '{{ var("today") }}'
    {%- else -%}
        cast({{ in_argentina('now()') }} as date)
    {%- endif -%}
{%- endmacro %}


{#- A TIMESTAMPTZ as the wall clock in Buenos Aires, whatever the connection's time zone is. -#}
{% macro in_argentina(moment) -%}
    {{ wall_clock(moment, 'America/Argentina/Buenos_Aires') }}
{%- endmacro %}
