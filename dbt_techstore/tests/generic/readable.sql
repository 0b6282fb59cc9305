{#-
    Columns whose text could not be read as what it should be (NULL after try_cast).

    A typing error in one row is a warning; more than one row in twenty is a changed format, and
    holds the model back. The number reported is the percentage in the worst column.
-#}
{% test readable(model, columns) %}

{{ config(fail_calc='coalesce(max(percentage), 0)', warn_if='> 0', error_if='> 5') }}

{% for column in columns %}
    select
        '{{ column }}' as unreadable,
        cast(ceil(100.0 * count(*) filter (where {{ column }} is null) / count(*)) as integer)
            as percentage
    from {{ model }}
    having count(*) filter (where {{ column }} is null) > 0
    {% if not loop.last %}union all{% endif %}
{% endfor %}

{% endtest %}
