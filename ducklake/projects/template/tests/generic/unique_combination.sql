{#- Rows whose key is NULL in any part, or stands more than once. -#}
{% test unique_combination(model, columns) %}
{%- set quoted = [] -%}
{%- for column in columns -%}
    {%- do quoted.append('"' ~ (column | replace('"', '""')) ~ '"') -%}
{%- endfor -%}

select
    {{ quoted | join(', ') }},
    count(*) as times
from {{ model }}
group by {{ quoted | join(', ') }}
having
    count(*) > 1
    {% for column in quoted %}or {{ column }} is null {% endfor %}

{% endtest %}
