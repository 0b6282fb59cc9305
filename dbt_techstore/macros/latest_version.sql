{#-
    The current row of every key of a CDC table.

    A key always travels in the same partition, so its greatest offset is its latest version, in
    the newest epoch of its topic (offsets begin again where a topic was made anew); the same row twice (an interrupted snapshot) collapses. A key whose latest version is a delete is
    gone. Deletes are dropped after the choice: dropped before it, the version before the delete
    would come back.
-#}
{% macro latest_version(relation, key) -%}
    select *
    from (
        select *
        from {{ relation }}
        qualify row_number() over (partition by {{ key }} order by _topic_epoch desc, _offset desc) = 1
    ) as versions
    where _op is distinct from 'd'
{%- endmacro %}
