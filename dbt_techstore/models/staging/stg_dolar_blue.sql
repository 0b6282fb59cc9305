with

source as (

    select * from {{ source('raw', 'dolar_blue') }}

),

readings as (

    -- The history names its day; a current value has a moment, and its day is Argentina's.
    select
        coalesce(fecha, cast({{ in_argentina('fechaActualizacion') }} as date)) as fecha,
        compra,
        venta,
        coalesce(fechaActualizacion, _fetched_at) as read_at,
        _fetched_at,
        _offset
    from source
    where casa = 'blue'
        and venta is not null

),

ranked as (

    select
        *,
        row_number() over (
            partition by fecha order by read_at desc, _fetched_at desc, _offset desc
        ) as age
    from readings

),

days as (

    select
        fecha,
        compra,
        venta,
        coalesce(lead(fecha) over (order by fecha), date '9999-12-31') as next_fecha
    from ranked
    where age = 1

),

flagged as (

    -- The middle of the readings on both sides tells a slip from a devaluation, which stays.
    select
        *,
        venta not between 0.5 * {{ median_over('venta', 'around') }}
        and 2 * {{ median_over('venta', 'around') }} as is_outlier
    from days
    window around as (order by fecha rows between 7 preceding and 7 following)

),

calendar as (

    select {{ each_day('min(fecha)', 'max(fecha)') }} as fecha
    from flagged

),

filled as (

    select
        calendar.fecha,
        flagged.compra,
        flagged.venta,
        flagged.fecha as rate_fecha,
        flagged.fecha < calendar.fecha as is_filled,
        flagged.is_outlier
    from calendar
    left join flagged
        on calendar.fecha >= flagged.fecha
        and calendar.fecha < flagged.next_fecha

)

select * from filled
