with

products as (

    select * from {{ ref('stg_products') }}

),

sales as (

    {{ product_days() }}

),

velocity as (

    select
        product_id,
        sum(units) as units_sold
    from sales
    where order_date > {{ today() }} - {{ var('velocity_days') }}
        and order_date <= {{ today() }}
    group by product_id

),

stock as (

    select
        sku,
        count(*) as warehouses,
        sum(quantity) as quantity,
        sum(reserved) as reserved,
        sum(available) as available,
        sum(stock_value_ars) as stock_value_ars,
        min(counted_on) as counted_on
    from {{ ref('stg_inventory') }}
    group by sku

),

joined as (

    select
        products.product_id,
        products.sku,
        products.product_name,
        products.category,
        products.supplier_id,
        products.is_active,
        coalesce(stock.warehouses, 0) as warehouses,
        cast(coalesce(stock.quantity, 0) as bigint) as quantity,
        cast(coalesce(stock.reserved, 0) as bigint) as reserved,
        cast(coalesce(stock.available, 0) as bigint) as available,
        cast(coalesce(stock.stock_value_ars, 0) as decimal(18, 2)) as stock_value_ars,
        stock.counted_on,
        cast(coalesce(velocity.units_sold, 0) as bigint) as units_sold,
        cast(
            coalesce(velocity.units_sold, 0) / {{ var('velocity_days') }} as decimal(12, 3)
        ) as units_per_day,
        coalesce(suppliers.lead_time_days, 0) as lead_time_days
    from products
    left join stock
        on products.sku = stock.sku
    left join velocity
        on products.product_id = velocity.product_id
    left join {{ ref('stg_suppliers') }} as suppliers
        on products.supplier_id = suppliers.supplier_id

),

measured as (

    select
        *,
        cast(available / nullif(units_per_day, 0) as decimal(12, 1)) as days_of_cover,
        cast(
            ceil(units_per_day * (lead_time_days + {{ var('safety_days') }})) as bigint
        ) as reorder_point
    from joined

),

decided as (

    select
        *,
        is_active and units_per_day > 0 and available <= reorder_point as should_reorder,
        case
            when is_active and units_per_day > 0 and available <= reorder_point
                then cast(greatest(
                    ceil(units_per_day * (lead_time_days + {{ var('cover_days') }})) - available, 0
                ) as bigint)
            else 0
        end as reorder_units,
        case
            when available <= 0 then 'out_of_stock'
            when units_per_day = 0 then 'not_selling'
            when available <= reorder_point then 'low'
            when days_of_cover > 180 then 'overstock'
            else 'healthy'
        end as stock_status
    from measured

)

select * from decided order by product_id
