with

source as (

    {{ dbt_ducklake.latest_version(source('raw', 'orders'), 'order_id') }}

),

renamed as (

    select
        ---------- ids
        order_id,
        customer_id,

        ---------- text
        status,
        payment_method,

        ---------- numbers
        shipping_ars,
        total_ars,

        ---------- booleans
        status = 'cancelled' as is_cancelled,

        ---------- timestamps
        ordered_at,
        cast(ordered_at as date) as order_date,
        updated_at

    from source

)

select * from renamed
