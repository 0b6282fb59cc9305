with

source as (

    {{ dbt_ducklake.latest_version(source('raw', 'order_items'), 'order_item_id') }}

),

renamed as (

    select
        ---------- ids
        order_item_id,
        order_id,
        product_id,

        ---------- numbers
        quantity,
        unit_price_ars,
        coalesce(discount_pct, 0) as discount_pct,
        cast(quantity * unit_price_ars as decimal(18, 2)) as gross_ars,
        -- Times 0.01, not divided by 100: a division would leave DECIMAL for DOUBLE.
        cast(
            quantity * unit_price_ars * (100 - coalesce(discount_pct, 0)) * 0.01 as decimal(18, 2)
        ) as net_ars

    from source

),

discounted as (

    select
        *,
        cast(gross_ars - net_ars as decimal(18, 2)) as discount_ars
    from renamed

)

select * from discounted
