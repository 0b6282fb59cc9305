{#-
    Orders whose total is not the sum of their items and the shipping.

    A warning: an order and its items travel in two topics, so for a moment one may be ahead.
-#}
{{ config(severity='warn') }}

select
    orders.order_id,
    orders.total_ars,
    orders.shipping_ars + coalesce(sum(items.net_ars), 0) as added_up_ars
from {{ dbt_ducklake.tested_like(
    ref('stg_orders'), 'order_id', [ref('stg_orders'), ref('stg_order_items')]
) }} as orders
left join {{ dbt_ducklake.tested_like(
    ref('stg_order_items'), 'order_id', [ref('stg_orders'), ref('stg_order_items')]
) }} as items
    on orders.order_id = items.order_id
group by orders.order_id, orders.total_ars, orders.shipping_ars
having orders.total_ars <> added_up_ars
