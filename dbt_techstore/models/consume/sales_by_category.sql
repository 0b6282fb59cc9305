with

sales as (

    {{ product_days() }}

),

-- An order with two products of a category is one order of the category.
buyers as (

    select
        month,
        category,
        cast(sum(orders) as bigint) as orders,
        count(*) as customers
    from {{ ref('int_category_customers') }}
    group by month, category

),

by_category as (

    select
        sales.month,
        sales.category,
        any_value(buyers.orders) as orders,
        any_value(buyers.customers) as customers,
        cast(sum(sales.units) as bigint) as units,
        cast(sum(sales.gross_ars) as decimal(18, 2)) as gross_ars,
        cast(sum(sales.discount_ars) as decimal(18, 2)) as discount_ars,
        cast(sum(sales.net_ars) as decimal(18, 2)) as revenue_ars,
        cast(sum(sales.net_usd) as decimal(18, 2)) as revenue_usd,
        cast(sum(sales.net_ars - sales.cost_ars) as decimal(18, 2)) as margin_ars
    from sales
    left join buyers
        on sales.month = buyers.month
        and sales.category = buyers.category
    group by sales.month, sales.category

),

shared as (

    select
        *,
        {{ percent('margin_ars', 'revenue_ars') }} as margin_pct,
        {{ percent('revenue_ars', 'sum(revenue_ars) over (partition by month)') }}
            as month_share_pct
    from by_category

)

select * from shared order by month, category
