{#-
    The rates that count, each until the day before the next one, the newest without end.

    Without the outliers: one mistyped rate would turn a day's pesos into ten times the dollars.
-#}
{% macro rates_that_count() -%}
    select
        fecha,
        venta,
        coalesce(lead(fecha) over (order by fecha), date '9999-12-31') as next_fecha
    from {{ ref('stg_dolar_blue') }}
    where not is_outlier
{%- endmacro %}
