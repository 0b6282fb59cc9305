{% call dbt_ducklake.touched() %}
select order_date from {{ dbt_ducklake.changes(ref('stg_orders')) }}
{% endcall %}

select
    orders.order_date,
    count(*) filter (where not orders.is_cancelled) as orders,
    count(*) filter (where orders.is_cancelled) as cancelled_orders,
    count(distinct orders.customer_id) filter (where not orders.is_cancelled) as customers,
    sum(orders.shipping_ars) filter (where not orders.is_cancelled) as shipping_ars,
    sum(orders.total_ars) filter (where not orders.is_cancelled) as revenue_ars,
    sum(orders.total_ars) filter (where orders.is_cancelled) as cancelled_ars
from {{ dbt_ducklake.touched_rows(ref('stg_orders'), 'order_date') }} as orders
group by orders.order_date
