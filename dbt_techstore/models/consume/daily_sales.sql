with

units as (

    select order_date, sum(units) as units
    from {{ ref('int_product_days') }}
    group by order_date

),

rates as (

    {{ rates_that_count() }}

),

sold as (

    select orders.*, units.units
    from {{ ref('int_daily_orders') }} as orders
    left join units
        on orders.order_date = units.order_date

),

reach as (

    select
        min(order_date) as first_day,
        greatest(max(order_date), {{ today() }}) as last_day
    from sold

),

calendar as (

    select {{ each_day('first_day', 'last_day') }} as sales_date from reach

),

daily as (

    select
        calendar.sales_date,
        coalesce(sold.orders, 0) as orders,
        coalesce(sold.customers, 0) as customers,
        cast(coalesce(sold.units, 0) as bigint) as units,
        cast(coalesce(sold.revenue_ars, 0) as decimal(18, 2)) as revenue_ars,
        cast(coalesce(sold.revenue_ars, 0) / rates.venta as decimal(18, 2)) as revenue_usd,
        cast(coalesce(sold.shipping_ars, 0) as decimal(18, 2)) as shipping_ars,
        cast(sold.revenue_ars / nullif(sold.orders, 0) as decimal(18, 2)) as avg_ticket_ars,
        cast(
            sold.revenue_ars / nullif(sold.orders, 0) / rates.venta as decimal(18, 2)
        ) as avg_ticket_usd,
        coalesce(sold.cancelled_orders, 0) as cancelled_orders,
        cast(coalesce(sold.cancelled_ars, 0) as decimal(18, 2)) as cancelled_ars,
        rates.venta as dolar_blue_venta
    from calendar
    left join sold
        on calendar.sales_date = sold.order_date
    left join rates
        on calendar.sales_date >= rates.fecha
        and calendar.sales_date < rates.next_fecha

)

select * from daily order by sales_date
