with

products as (

    select * from {{ ref('stg_products') }}

),

sales as (

    {{ product_days() }}

),

-- A customer who bought it twice is one customer.
bought as (

    select product_id, count(*) as customers
    from {{ ref('int_product_customers') }}
    group by product_id

),

sold as (

    select
        product_id,
        sum(orders) as orders,
        sum(units) as units,
        sum(units) filter (where order_date > {{ today() }} - 30) as units_30d,
        sum(units) filter (
            where order_date > {{ today() }} - 60 and order_date <= {{ today() }} - 30
        ) as units_previous_30d,
        sum(discount_ars) as discount_ars,
        sum(net_ars) as revenue_ars,
        sum(net_usd) as revenue_usd,
        sum(net_ars - cost_ars) as margin_ars,
        min(order_date) as first_sold_on,
        max(order_date) as last_sold_on
    from sales
    group by product_id

),

measured as (

    select
        products.product_id,
        products.sku,
        products.product_name,
        products.category,
        products.brand,
        products.supplier_id,
        products.is_active,
        products.price_ars,
        cast(coalesce(sold.orders, 0) as bigint) as orders,
        coalesce(bought.customers, 0) as customers,
        cast(coalesce(sold.units, 0) as bigint) as units,
        cast(coalesce(sold.units_30d, 0) as bigint) as units_30d,
        cast(coalesce(sold.units_previous_30d, 0) as bigint) as units_previous_30d,
        cast(coalesce(sold.discount_ars, 0) as decimal(18, 2)) as discount_ars,
        cast(coalesce(sold.revenue_ars, 0) as decimal(18, 2)) as revenue_ars,
        cast(coalesce(sold.revenue_usd, 0) as decimal(18, 2)) as revenue_usd,
        cast(coalesce(sold.margin_ars, 0) as decimal(18, 2)) as margin_ars,
        sold.first_sold_on,
        sold.last_sold_on
    from products
    left join sold
        on products.product_id = sold.product_id
    left join bought
        on products.product_id = bought.product_id

),

ranked as (

    select
        *,
        {{ percent('margin_ars', 'revenue_ars') }} as margin_pct,
        {{ percent('units_30d - units_previous_30d', 'units_previous_30d') }} as units_trend_pct,
        rank() over (partition by category order by revenue_ars desc) as category_rank
    from measured

)

select * from ranked order by product_id
