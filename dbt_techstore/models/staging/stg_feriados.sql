with

source as (

    select * from {{ source('raw', 'feriados') }}

),

renamed as (

    select
        fecha,
        {{ trimmed('nombre') }} as nombre,
        {{ trimmed('tipo') }} as tipo,
        _fetched_at,
        _offset
    from source

),

-- A year is fetched again and again.
ranked as (

    select
        *,
        row_number() over (
            partition by fecha, nombre order by _fetched_at desc, _offset desc
        ) as age
    from renamed

)

select
    fecha,
    nombre,
    tipo
from ranked
where age = 1
