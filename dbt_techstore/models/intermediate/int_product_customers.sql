{% call dbt_ducklake.touched() %}
select product_id, customer_id from {{ dbt_ducklake.changes(ref('int_order_lines')) }}
{% endcall %}

-- Who bought what: customers of a product cannot be added up over days.
select
    lines.product_id,
    lines.customer_id,
    count(*) as lines
from {{ ref('int_order_lines') }} as lines
where {{ dbt_ducklake.is_touched(['lines.product_id', 'lines.customer_id']) }}
group by lines.product_id, lines.customer_id
