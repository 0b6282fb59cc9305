with

source as (

    {{ newest_file(source('raw', 'sales_targets')) }}

),

renamed as (

    select
        ---------- ids
        -- raw has month_: a column called month would collide with the path of the Parquet files
        cast(date_trunc('month', month_) as date) as month,
        {{ trimmed('category') }} as category,

        ---------- numbers
        target_ars,
        cast(target_units as bigint) as target_units

    from source

)

select * from renamed
