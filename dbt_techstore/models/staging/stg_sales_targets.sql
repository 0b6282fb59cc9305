with

source as (

    {{ newest_file(source('raw', 'sales_targets')) }}

),

renamed as (

    select
        ---------- ids
        cast(date_trunc('month', month) as date) as month,
        {{ trimmed('category') }} as category,

        ---------- numbers
        target_ars,
        target_units

    from source

)

select * from renamed
