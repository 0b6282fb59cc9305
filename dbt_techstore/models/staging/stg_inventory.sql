with

source as (

    {{ newest_file(source('raw', 'inventory')) }}

),

renamed as (

    select
        ---------- ids
        upper({{ trimmed('sku') }}) as sku,
        {{ trimmed('warehouse') }} as warehouse,

        ---------- numbers
        try_cast(quantity as integer) as quantity,
        coalesce(try_cast(reserved as integer), 0) as reserved,
        {{ decimal_comma('unit_cost_ars', 'decimal(12, 2)') }} as unit_cost_ars,

        ---------- timestamps
        {{ day_first_date('counted_on') }} as counted_on

    from source

),

counted as (

    select
        *,
        quantity - reserved as available,
        cast(quantity * unit_cost_ars as decimal(18, 2)) as stock_value_ars
    from renamed

)

select * from counted
