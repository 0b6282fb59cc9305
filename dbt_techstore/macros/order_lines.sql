{#-
    What was sold, one row per item of an order that was not cancelled, with its day's blue rate.

    A day after the newest rate takes the newest; a rate flagged as an outlier is passed over.
    Dollars keep six decimals here, so that sums of lines round once.
-#}
{% macro order_lines() -%}
    select
        items.order_item_id,
        items.order_id,
        items.product_id,
        orders.customer_id,
        orders.order_date,
        cast(date_trunc('month', orders.order_date) as date) as month,
        products.sku,
        products.supplier_id,
        coalesce(products.category, 'unknown') as category,
        items.quantity as units,
        items.gross_ars,
        items.discount_ars,
        items.net_ars,
        cast(items.net_ars / rates.venta as decimal(18, 6)) as net_usd,
        cast(items.quantity * products.cost_ars as decimal(18, 2)) as cost_ars
    from {{ ref('stg_order_items') }} as items
    inner join {{ ref('stg_orders') }} as orders
        on items.order_id = orders.order_id
    left join {{ ref('stg_products') }} as products
        on items.product_id = products.product_id
    asof left join (
        select fecha, venta from {{ ref('stg_dolar_blue') }} where not is_outlier
    ) as rates
        on orders.order_date >= rates.fecha
    where not orders.is_cancelled
{%- endmacro %}


{#- A share as a percentage with one decimal; NULL where there is nothing to divide by. -#}
{% macro percent(part, whole) -%}
    cast(100 * ({{ part }}) / nullif({{ whole }}, 0) as decimal(12, 1))
{%- endmacro %}
