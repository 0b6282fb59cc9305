with

source as (

    select * from {{ source('raw', 'feriados') }}

),

renamed as (

    select
        fecha,
        {{ trimmed('nombre') }} as nombre,
        {{ trimmed('tipo') }} as tipo
    from source
    -- A year is fetched again and again.
    qualify
        row_number() over (
            partition by fecha, {{ trimmed('nombre') }} order by _fetched_at desc, _offset desc
        ) = 1

)

select * from renamed
