{#-
    Rows of a tracked model before and after each change (`_image` old or new) since this model was
    last built. For use within `touched`.
-#}
{% macro changes(relation) -%}
    (
        select * exclude (_cycle)
        from {{ dbt_ducklake.change_log(relation) }}
        where
            _image in ('old', 'new')
            and _cycle > (
                select seen from ducklake.models
                where relation = '{{ dbt_ducklake.relation_name(this) }}'
            )
    )
{%- endmacro %}


{#-
    Which groups of this model a cycle has to compute anew: a query with the columns of `group_by`.

        {% call dbt_ducklake.touched() %}
        select order_date from {{ dbt_ducklake.changes(ref('stg_orders')) }}
        {% endcall %}

    It is part of the model's text only where the build is not whole, in a comment, which the
    materialization reads.
-#}
{% macro touched() -%}
    {%- if not execute -%}
        {%- set parsed = caller() -%}{#- dbt has to see what it refers to -#}
    {%- elif not dbt_ducklake.builds_whole() -%}
/*ducklake:touched
{{ caller() }}
ducklake:end*/
    {%- endif -%}
{%- endmacro %}


{#-
    Condition on the rows of a model before this one: those of touched groups; all in a whole build.

    The columns stand in the order of `group_by`, each with the name of its table.
-#}
{% macro is_touched(columns) -%}
    {%- if execute and not dbt_ducklake.builds_whole() -%}
        {%- set listed = [columns] if columns is string else columns -%}
        exists (
            select 1 from ducklake_touched as touched_groups
            where {% for column in listed -%}
                touched_groups.k{{ loop.index }} is not distinct from {{ column }}
                {%- if not loop.last %} and {% endif %}
            {%- endfor %}
        )
    {%- else -%}
        true
    {%- endif -%}
{%- endmacro %}
