with

customers as (

    -- One person may have entered twice: the cleaned e-mail says who it is.
    select
        *,
        coalesce(email, 'customer ' || customer_id) as person_key
    from {{ ref('stg_customers') }}

),

persons as (

    -- Each attribute is the last that was known: a later row without a phone forgets no phone.
    select
        person_key,
        min(customer_id) as customer_id,
        {{ listed('customer_id') }} as customer_ids,
        count(*) > 1 as is_merged,
        max(email) as email,
        {{ last_known('first_name', 'updated_at, customer_id') }} as first_name,
        {{ last_known('last_name', 'updated_at, customer_id') }} as last_name,
        {{ last_known('phone', 'updated_at, customer_id') }} as phone,
        coalesce({{ last_known('city', 'updated_at, customer_id') }}, 'unknown') as city,
        coalesce({{ last_known('province', 'updated_at, customer_id') }}, 'unknown') as province,
        min(created_at) as customer_since
    from customers
    group by person_key

),

bought as (

    select
        customers.person_key,
        cast(sum(accounts.orders) as bigint) as orders,
        cast(sum(accounts.cancelled_orders) as bigint) as cancelled_orders,
        sum(accounts.revenue_ars) as revenue_ars,
        sum(accounts.revenue_usd) as revenue_usd,
        min(accounts.first_order_on) as first_order_on,
        max(accounts.last_order_on) as last_order_on
    from {{ ref('int_customer_orders') }} as accounts
    inner join customers
        on accounts.customer_id = customers.customer_id
    group by customers.person_key

),

complained as (

    select
        customers.person_key,
        count(*) as tickets,
        avg(tickets.satisfaction) as avg_satisfaction
    from {{ ref('stg_support_tickets') }} as tickets
    inner join customers
        on tickets.customer_id = customers.customer_id
    group by customers.person_key

),

measured as (

    select
        persons.*,
        coalesce(bought.orders, 0) as orders,
        coalesce(bought.cancelled_orders, 0) as cancelled_orders,
        cast(coalesce(bought.revenue_ars, 0) as decimal(18, 2)) as revenue_ars,
        cast(coalesce(bought.revenue_usd, 0) as decimal(18, 2)) as revenue_usd,
        cast(bought.revenue_ars / nullif(bought.orders, 0) as decimal(18, 2)) as avg_ticket_ars,
        bought.first_order_on,
        bought.last_order_on,
        cast({{ days_between('bought.last_order_on', today()) }} as integer) as recency_days,
        coalesce(complained.tickets, 0) as tickets,
        cast(complained.avg_satisfaction as decimal(4, 2)) as avg_satisfaction
    from persons
    left join bought
        on persons.person_key = bought.person_key
    left join complained
        on persons.person_key = complained.person_key

),

-- Fifths by rank, 5 the best; equal customers get equal marks.
scored as (

    select
        *,
        case
            when orders > 0 then {{ fifth('last_order_on', 'orders > 0') }}
        end as recency_score,
        case
            when orders > 0 then {{ fifth('orders', 'orders > 0') }}
        end as frequency_score,
        case
            when orders > 0 then {{ fifth('revenue_ars', 'orders > 0') }}
        end as money_score
    from measured

),

segmented as (

    select
        *,
        case
            when orders = 0 then 'no_orders'
            when recency_score >= 4 and frequency_score >= 4 and money_score >= 4 then 'champion'
            when recency_score >= 3 and frequency_score >= 4 then 'loyal'
            when first_order_on > {{ today() }} - 60 then 'new'
            when recency_score <= 2 and (frequency_score >= 4 or money_score >= 4) then 'at_risk'
            when recency_score <= 2 then 'lost'
            else 'regular'
        end as segment
    from scored

)

select * from segmented order by customer_id
