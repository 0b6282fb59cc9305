with

source as (

    {{ dbt_ducklake.latest_version(source('raw', 'products'), 'product_id') }}

),

renamed as (

    select
        ---------- ids
        product_id,
        supplier_id,

        ---------- text
        upper({{ trimmed('sku') }}) as sku,
        {{ trimmed('name') }} as product_name,
        {{ trimmed('category') }} as category,
        {{ trimmed('brand') }} as brand,

        ---------- numbers
        price_ars,
        cost_ars,

        ---------- booleans
        active <> 0 as is_active,

        ---------- timestamps
        created_at,
        updated_at

    from source

)

select * from renamed
