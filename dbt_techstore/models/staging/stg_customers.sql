with

source as (

    {{ dbt_ducklake.latest_version(source('raw', 'customers'), 'customer_id') }}

),

renamed as (

    select
        ---------- ids
        customer_id,

        ---------- text
        lower({{ trimmed('email') }}) as email,
        {{ trimmed('first_name') }} as first_name,
        {{ trimmed('last_name') }} as last_name,
        {{ argentine_phone('phone') }} as phone,
        {{ trimmed('phone') }} as phone_as_entered,
        {{ trimmed('city') }} as city,
        {{ trimmed('province') }} as province,

        ---------- booleans
        {{ trimmed('city') }} is not null as has_city,

        ---------- timestamps
        created_at,
        updated_at

    from source

)

select * from renamed
