with

source as (

    {{ newest_file(source('raw', 'support_tickets')) }}

),

renamed as (

    select
        ---------- ids
        {{ trimmed('ticket_id') }} as ticket_id,
        {{ try_unsigned('order_id') }} as order_id,
        try_cast(customer_id as integer) as customer_id,

        ---------- text
        lower({{ trimmed('channel') }}) as channel,
        lower({{ trimmed('topic') }}) as topic,
        {{ trimmed('comment') }} as comment,

        ---------- numbers
        -- Some rows hold the mark in quotes; empty means that the customer gave none.
        try_cast({{ trimmed("replace(satisfaction, '\"', '')") }} as tinyint) as satisfaction,

        ---------- timestamps
        {{ try_timestamp(trimmed('opened_at'), '%Y-%m-%d %H:%M') }} as opened_at,
        {{ try_timestamp(trimmed('closed_at'), '%Y-%m-%d %H:%M') }} as closed_at

    from source

),

measured as (

    select
        *,
        closed_at is not null as is_closed,
        cast({{ minutes_between('opened_at', 'closed_at') }} / 60 as decimal(10, 2))
            as resolution_hours
    from renamed

)

select * from measured
