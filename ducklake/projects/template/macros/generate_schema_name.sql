{#- `staging.stg_orders`, not `staging_staging.stg_orders`: a model names its schema itself. -#}
{% macro generate_schema_name(custom_schema_name, node) -%}
    {{ (custom_schema_name or target.schema) | trim }}
{%- endmacro %}
