-- A day after the newest rate takes the newest.
with

rates as (

    {{ rates_that_count() }}

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
