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
    The rows of a model before this one that belong to touched groups; all of them in a whole build.

        from {{ dbt_ducklake.touched_rows(ref('stg_orders'), 'order_date') }} as orders

    The columns stand in the order of `group_by`.
-#}
{% macro touched_rows(relation, columns) -%}
    {%- if not execute or relation.is_cte or dbt_ducklake.builds_whole() -%}
        {{ return(relation) }}
    {%- endif -%}
    (
        select before.*
        from {{ relation }} as before
        semi join ducklake_touched as touched_groups
            on {% for column in dbt_ducklake.names(columns) -%}
                touched_groups.k{{ loop.index }} {{ dbt_ducklake.equals() }} before.{{ column }}
                {%- if not loop.last %} and {% endif %}
            {%- endfor %}
    )
{%- endmacro %}


{#-
    How columns of touched groups are compared: the materialization puts `is not distinct from` in its
    place where one of them is NULL. Equality lets DuckDB skip what cannot match.
-#}
{% macro equals() -%}
    {{ return('/*ducklake:equals*/ =') }}
{%- endmacro %}
