-- Without the outliers: one mistyped rate would turn a day's pesos into ten times the dollars. A
-- day after the newest rate takes the newest.
with

rates as (

    select fecha, venta from {{ ref('stg_dolar_blue') }} where not is_outlier

),

calendar as (

    select
        cast(unnest(generate_series(
            (select min(fecha) from rates),
            greatest(
                (select max(fecha) from rates),
                (select max(order_date) from {{ ref('stg_orders') }})
            ),
            interval 1 day
        )) as date) as rate_date

),

filled as (

    select
        calendar.rate_date,
        rates.venta
    from calendar
    asof left join rates
        on calendar.rate_date >= rates.fecha

)

select * from filled
