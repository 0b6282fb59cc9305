{#- Phone numbers that argentine_phone() could make nothing of. -#}
{{ config(severity='warn') }}

select customer_id, phone_as_entered
from {{ ref('stg_customers') }}
where phone is null
    and phone_as_entered is not null
