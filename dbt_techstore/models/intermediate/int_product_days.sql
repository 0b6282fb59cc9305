{{ config(cluster_by=['order_date', 'product_id']) }}

{% call dbt_ducklake.touched() %}
select product_id, order_date from {{ dbt_ducklake.changes(ref('int_order_lines')) }}
{% endcall %}

select
    lines.product_id,
    lines.order_date,
    count(distinct lines.order_id) as orders,
    cast(sum(lines.units) as bigint) as units,
    cast(sum(lines.gross_ars) as decimal(18, 2)) as gross_ars,
    cast(sum(lines.discount_ars) as decimal(18, 2)) as discount_ars,
    cast(sum(lines.net_ars) as decimal(18, 2)) as net_ars
from {{ dbt_ducklake.touched_rows(ref('int_order_lines'), ['product_id', 'order_date']) }} as lines
group by lines.product_id, lines.order_date
