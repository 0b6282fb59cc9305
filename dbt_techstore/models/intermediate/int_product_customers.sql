{% call dbt_ducklake.touched() %}
select product_id, customer_id from {{ dbt_ducklake.changes(ref('int_order_lines')) }}
{% endcall %}

-- Who bought what: customers of a product cannot be added up over days.
select
    lines.product_id,
    lines.customer_id,
    count(*) as lines
from {{ dbt_ducklake.touched_rows(ref('int_order_lines'), ['product_id', 'customer_id']) }} as lines
group by lines.product_id, lines.customer_id
