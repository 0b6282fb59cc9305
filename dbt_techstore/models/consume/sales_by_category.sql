with

lines as (

    {{ order_lines() }}

),

by_category as (

    select
        month,
        category,
        count(distinct order_id) as orders,
        count(distinct customer_id) as customers,
        cast(sum(units) as bigint) as units,
        cast(sum(gross_ars) as decimal(18, 2)) as gross_ars,
        cast(sum(discount_ars) as decimal(18, 2)) as discount_ars,
        cast(sum(net_ars) as decimal(18, 2)) as revenue_ars,
        cast(sum(net_usd) as decimal(18, 2)) as revenue_usd,
        cast(sum(net_ars - cost_ars) as decimal(18, 2)) as margin_ars
    from lines
    group by month, category

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
