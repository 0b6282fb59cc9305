with

suppliers as (

    select * from {{ ref('stg_suppliers') }}

),

sales as (

    {{ product_days() }}

),

-- Late is what came after its promise, and what has not come though its promise has passed.
shipments as (

    select
        *,
        coalesce(is_late, promised_on < {{ today() }}) as is_late_or_overdue,
        is_delivered or promised_on < {{ today() }} as is_due
    from {{ ref('stg_shipments') }}

),

shipped as (

    select
        supplier_id,
        count(*) as shipments,
        count(*) filter (where is_delivered) as delivered_shipments,
        count(*) filter (where is_due) as due_shipments,
        count(*) filter (where is_late_or_overdue) as late_shipments,
        avg(transit_days) as avg_transit_days,
        avg({{ days_between('promised_on', 'delivered_on') }}) filter (where is_late)
            as avg_days_late,
        sum(cost_ars) as freight_ars
    from shipments
    group by supplier_id

),

offered as (

    select
        supplier_id,
        count(*) as products,
        count(*) filter (where is_active) as active_products
    from {{ ref('stg_products') }}
    group by supplier_id

),

sold as (

    select supplier_id, sum(net_ars) as revenue_ars
    from sales
    group by supplier_id

),

scored as (

    select
        suppliers.supplier_id,
        suppliers.supplier_name,
        suppliers.country,
        suppliers.is_active,
        suppliers.contact_name,
        suppliers.contact_email,
        coalesce(offered.products, 0) as products,
        coalesce(offered.active_products, 0) as active_products,
        cast(coalesce(sold.revenue_ars, 0) as decimal(18, 2)) as revenue_ars,
        suppliers.lead_time_days,
        coalesce(shipped.shipments, 0) as shipments,
        coalesce(shipped.delivered_shipments, 0) as delivered_shipments,
        coalesce(shipped.late_shipments, 0) as late_shipments,
        {{ percent('shipped.due_shipments - shipped.late_shipments', 'shipped.due_shipments') }}
            as on_time_pct,
        cast(shipped.avg_transit_days as decimal(8, 1)) as avg_transit_days,
        cast(shipped.avg_days_late as decimal(8, 1)) as avg_days_late,
        cast(coalesce(shipped.freight_ars, 0) as decimal(18, 2)) as freight_ars
    from suppliers
    left join shipped
        on suppliers.supplier_id = shipped.supplier_id
    left join offered
        on suppliers.supplier_id = offered.supplier_id
    left join sold
        on suppliers.supplier_id = sold.supplier_id

)

select * from scored order by supplier_id
