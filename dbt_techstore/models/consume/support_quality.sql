with

tickets as (

    select
        *,
        cast(date_trunc('month', opened_at) as date) as month
    from {{ ref('stg_support_tickets') }}
    where opened_at is not null

),

by_topic as (

    select
        month,
        coalesce(channel, 'unknown') as channel,
        coalesce(topic, 'unknown') as topic,
        count(*) as tickets,
        count(*) filter (where not is_closed) as open_tickets,
        cast(avg(resolution_hours) as decimal(10, 1)) as avg_resolution_hours,
        cast(median(resolution_hours) as decimal(10, 1)) as median_resolution_hours,
        cast(max(resolution_hours) as decimal(10, 1)) as max_resolution_hours,
        count(satisfaction) as rated_tickets,
        cast(avg(satisfaction) as decimal(4, 2)) as avg_satisfaction,
        count(*) filter (where satisfaction <= 2) as dissatisfied_tickets
    from tickets
    group by month, coalesce(channel, 'unknown'), coalesce(topic, 'unknown')

)

select * from by_topic order by month, channel, topic
