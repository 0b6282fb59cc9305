with

source as (

    {{ newest_file(source('raw', 'suppliers')) }}

),

unnested as (

    select
        *,
        case
            when json_valid(contacts) then {{ contacts_of('contacts') }}
            else []
        end as contact_list
    from source

),

chosen as (

    select
        *,
        -- The one in charge of sales takes orders; without one, the first in the list.
        coalesce(
            {{ first_contact('contact_list', 'sales|ventas|comercial') }},
            contact_list[1]
        ) as contact
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
        len(contact_list) as contact_count,

        ---------- booleans
        active as is_active,

        ---------- timestamps
        since as supplier_since

    from chosen

)

select * from renamed
