{#-
    What each product sold on each day, without cancelled orders, with what it is now.

    A day after the newest rate takes the newest; a rate flagged as an outlier is passed over.
    Dollars keep six decimals here, so that sums of days round once.
-#}
{% macro product_days() -%}
    select
        days.product_id,
        days.order_date,
        cast(date_trunc('month', days.order_date) as date) as month,
        products.supplier_id,
        coalesce(products.category, 'unknown') as category,
        days.orders,
        days.units,
        days.gross_ars,
        days.discount_ars,
        days.net_ars,
        cast(days.net_ars / rates.venta as decimal(18, 6)) as net_usd,
        cast(days.units * products.cost_ars as decimal(18, 2)) as cost_ars
    from {{ ref('int_product_days') }} as days
    left join {{ ref('stg_products') }} as products
        on days.product_id = products.product_id
    left join {{ ref('int_daily_rates') }} as rates
        on days.order_date = rates.rate_date
{%- endmacro %}


{#- The fifth that a row is in, 5 for the greatest: cume_dist, so that equals are in the same. -#}
{% macro fifth(column, among) -%}
    cast(ceil(5 * cume_dist() over (partition by {{ among }} order by {{ column }})) as tinyint)
{%- endmacro %}


{#- A share as a percentage with one decimal; NULL where there is nothing to divide by. -#}
{% macro percent(part, whole) -%}
    cast(100 * ({{ part }}) / nullif({{ whole }}, 0) as decimal(12, 1))
{%- endmacro %}
