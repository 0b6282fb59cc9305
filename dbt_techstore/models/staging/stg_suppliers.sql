with

source as (

    {{ newest_file(source('raw', 'suppliers')) }}

),

unnested as (

    select
        *,
        {{ contacts_of('contacts') }} as contact_list
    from source

),

chosen as (

    select
        *,
        -- The one in charge of sales takes orders; without one, the first in the list.
        {{ chosen_contact('contact_list', 'sales|ventas|comercial') }} as contact
    from unnested

),

renamed as (

    select
        ---------- ids
        supplier_id,
        {{ replace_matches('cuit', '\\D', '') }} as cuit,

        ---------- text
        {{ trimmed('name') }} as supplier_name,
        {{ trimmed('country') }} as country,
        {{ trimmed('contact.name') }} as contact_name,
        lower({{ trimmed('contact.email') }}) as contact_email,
        {{ trimmed('contact.phone') }} as contact_phone,
        {{ trimmed('contact.role') }} as contact_role,

        ---------- numbers
        lead_time_days,
        {{ length_of('contact_list') }} as contact_count,

        ---------- booleans
        active as is_active,

        ---------- timestamps
        since as supplier_since

    from chosen

)

select * from renamed
