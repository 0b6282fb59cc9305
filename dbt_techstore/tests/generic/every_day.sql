{#- Days that are missing between the first and the last. -#}
{% test every_day(model, column_name) %}

select before_the_gap
from (
    select
        {{ column_name }} as before_the_gap,
        lead({{ column_name }}) over (order by {{ column_name }}) as after_it
    from {{ model }}
) as days
where {{ days_between('before_the_gap', 'after_it') }} > 1

{% endtest %}
