{#- Values that do not match a regular expression as a whole; NULL passes. -#}
{% test matches(model, column_name, pattern) %}

select {{ column_name }}
from {{ model }}
where not {{ full_match(column_name, pattern) }}

{% endtest %}
