{{ config(group_by='order_id') }}

{% call dbt_ducklake.touched() %}
select order_id from {{ dbt_ducklake.changes(ref('stg_order_items')) }}
union all
select order_id from {{ dbt_ducklake.changes(ref('stg_orders')) }}
{% endcall %}

-- What was sold: one row per item of an order that was not cancelled.
select
    items.order_item_id,
    items.order_id,
    items.product_id,
    orders.customer_id,
    orders.order_date,
    cast(date_trunc('month', orders.order_date) as date) as month,
    items.quantity as units,
    items.gross_ars,
    items.discount_ars,
    items.net_ars
from {{ dbt_ducklake.touched_rows(ref('stg_order_items'), 'order_id') }} as items
inner join {{ dbt_ducklake.touched_rows(ref('stg_orders'), 'order_id') }} as orders
    on items.order_id = orders.order_id
where not orders.is_cancelled
