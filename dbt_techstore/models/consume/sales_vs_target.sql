with

targets as (

    select * from {{ ref('stg_sales_targets') }}

),

sales as (

    select month, category, units, revenue_ars
    from {{ ref('sales_by_category') }}

),

compared as (

    -- Full: a month sold without a target shows, and a target without sales too.
    select
        coalesce(targets.month, sales.month) as month,
        coalesce(targets.category, sales.category) as category,
        targets.target_ars,
        cast(coalesce(sales.revenue_ars, 0) as decimal(18, 2)) as revenue_ars,
        targets.target_units,
        coalesce(sales.units, 0) as units
    from targets
    full join sales
        on targets.month = sales.month
        and targets.category = sales.category

),

measured as (

    select
        *,
        cast(revenue_ars - target_ars as decimal(18, 2)) as gap_ars,
        {{ percent('revenue_ars', 'target_ars') }} as attainment_pct,
        {{ percent('units', 'target_units') }} as units_attainment_pct,
        last_day(month) < {{ today() }} as is_month_over
    from compared

)

select * from measured order by month, category
