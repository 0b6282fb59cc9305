{#- Days that are missing between the first and the last. -#}
{% test every_day(model, column_name) %}

select {{ column_name }} as before_the_gap
from {{ model }}
qualify lead({{ column_name }}) over (order by {{ column_name }}) > {{ column_name }} + 1

{% endtest %}
