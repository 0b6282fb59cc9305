{% call dbt_ducklake.touched() %}
select customer_id from {{ dbt_ducklake.changes(ref('stg_orders')) }}
union all
select orders.customer_id
from {{ ref('stg_orders') }} as orders
inner join {{ dbt_ducklake.changes(ref('int_daily_rates')) }} as rates
    on orders.order_date = rates.rate_date
{% endcall %}

-- Dollars keep six decimals here, so that sums of orders round once.
select
    orders.customer_id,
    count(*) filter (where not orders.is_cancelled) as orders,
    count(*) filter (where orders.is_cancelled) as cancelled_orders,
    sum(orders.total_ars) filter (where not orders.is_cancelled) as revenue_ars,
    sum(
        cast(orders.total_ars / rates.venta as decimal(18, 6))
    ) filter (where not orders.is_cancelled) as revenue_usd,
    min(orders.order_date) filter (where not orders.is_cancelled) as first_order_on,
    max(orders.order_date) filter (where not orders.is_cancelled) as last_order_on
from {{ dbt_ducklake.touched_rows(ref('stg_orders'), 'customer_id') }} as orders
left join {{ ref('int_daily_rates') }} as rates
    on orders.order_date = rates.rate_date
group by orders.customer_id
