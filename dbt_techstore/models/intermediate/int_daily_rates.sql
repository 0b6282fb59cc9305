-- Without the outliers: one mistyped rate would turn a day's pesos into ten times the dollars. A
-- day after the newest rate takes the newest.
with

rates as (

    select
        fecha,
        venta,
        coalesce(lead(fecha) over (order by fecha), date '9999-12-31') as next_fecha
    from {{ ref('stg_dolar_blue') }}
    where not is_outlier

),

reach as (

    select
        min(fecha) as first_day,
        greatest(
            max(fecha), (select max(orders.order_date) from {{ ref('stg_orders') }} as orders)
        ) as last_day
    from rates

),

calendar as (

    select {{ each_day('first_day', 'last_day') }} as rate_date from reach

),

filled as (

    select
        calendar.rate_date,
        rates.venta
    from calendar
    left join rates
        on calendar.rate_date >= rates.fecha
        and calendar.rate_date < rates.next_fecha

)

select * from filled
