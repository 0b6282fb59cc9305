{{ config(group_by=['customer_id', 'month']) }}

{% call dbt_ducklake.touched() %}
select customer_id, month from {{ dbt_ducklake.changes(ref('int_order_lines')) }}
union all
select lines.customer_id, lines.month
from {{ ref('int_order_lines') }} as lines
inner join {{ dbt_ducklake.changes(ref('stg_products')) }} as products
    on lines.product_id = products.product_id
{% endcall %}

-- Orders and customers of a category cannot be added up over products; over customers they can.
select
    lines.month,
    coalesce(products.category, 'unknown') as category,
    lines.customer_id,
    count(distinct lines.order_id) as orders
from {{ dbt_ducklake.touched_rows(ref('int_order_lines'), ['customer_id', 'month']) }} as lines
left join {{ ref('stg_products') }} as products
    on lines.product_id = products.product_id
group by lines.month, coalesce(products.category, 'unknown'), lines.customer_id
