{#- The contacts in a JSON list: name, email, phone and role of each, NULL where it says none. -#}
{% macro contacts_of(json) -%}
    from_json(
        {{ json }},
        '[{"name": "VARCHAR", "email": "VARCHAR", "phone": "VARCHAR", "role": "VARCHAR"}]'
    )
{%- endmacro %}


{#- The first contact whose role has a part that matches; NULL where none has. -#}
{% macro first_contact(contacts, pattern) -%}
    list_filter({{ contacts }}, lambda c: regexp_matches(lower(c.role), '{{ pattern }}'))[1]
{%- endmacro %}
