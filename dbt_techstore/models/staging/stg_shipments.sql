with

source as (

    {{ newest_file(source('raw', 'shipments')) }}

),

renamed as (

    select
        ---------- ids
        {{ trimmed('shipment_id') }} as shipment_id,
        {{ try_unsigned('order_id') }} as order_id,
        try_cast(supplier_id as integer) as supplier_id,

        ---------- text
        {{ trimmed('carrier') }} as carrier,

        ---------- numbers
        try_cast(cost_ars as decimal(12, 2)) as cost_ars,

        ---------- timestamps
        try_cast(shipped_on as date) as shipped_on,
        try_cast(promised_on as date) as promised_on,
        try_cast({{ trimmed('delivered_on') }} as date) as delivered_on

    from source

),

measured as (

    select
        *,
        delivered_on is not null as is_delivered,
        delivered_on > promised_on as is_late,
        cast({{ days_between('shipped_on', 'delivered_on') }} as integer) as transit_days
    from renamed

)

select * from measured
