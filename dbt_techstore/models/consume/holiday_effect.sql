with

holidays as (

    select * from {{ ref('stg_feriados') }}

),

sales as (

    select sales_date, orders, units, revenue_ars
    from {{ ref('daily_sales') }}

),

-- The same weekday four weeks before to four weeks after; no holiday, and no day still running.
ordinary as (

    select sales.*
    from sales
    where
        sales.sales_date < {{ today() }}
        and sales.sales_date not in (select holidays.fecha from holidays)

),

compared as (

    select
        holidays.fecha,
        holidays.nombre,
        holidays.tipo,
        sales.orders,
        sales.units,
        sales.revenue_ars,
        count(ordinary.sales_date) as compared_days,
        avg(ordinary.orders) as usual_orders,
        avg(ordinary.units) as usual_units,
        avg(ordinary.revenue_ars) as usual_revenue_ars
    from holidays
    inner join sales
        on holidays.fecha = sales.sales_date
    left join ordinary
        on ordinary.sales_date between holidays.fecha - 28 and holidays.fecha + 28
        and {{ iso_weekday('ordinary.sales_date') }} = {{ iso_weekday('holidays.fecha') }}
    where holidays.fecha < {{ today() }}
    group by all

),

measured as (

    select
        fecha,
        nombre,
        tipo,
        cast({{ iso_weekday('fecha') }} as tinyint) as weekday,
        orders,
        units,
        revenue_ars,
        compared_days,
        cast(usual_orders as decimal(12, 1)) as usual_orders,
        cast(usual_units as decimal(12, 1)) as usual_units,
        cast(usual_revenue_ars as decimal(18, 2)) as usual_revenue_ars,
        {{ percent('orders - usual_orders', 'usual_orders') }} as orders_lift_pct,
        {{ percent('revenue_ars - usual_revenue_ars', 'usual_revenue_ars') }} as revenue_lift_pct
    from compared

)

select * from measured order by fecha, nombre
