{#- Text without blanks around it (tabs, line ends and no-break spaces too); blank text is NULL. -#}
{% macro trimmed(text) -%}
    nullif({{ replace_matches(text, '^[\\s\\x{00A0}]+|[\\s\\x{00A0}]+$', '') }}, '')
{%- endmacro %}


{#-
    A number as people in Argentina write it: `1.234,56`. NULL where it is none.

    Points are thousands only where there is a comma; `12.50` stays twelve and a half.
-#}
{% macro decimal_comma(text, type) -%}
    try_cast(
        case
            when {{ has_text(text, "','") }}
                then replace(replace({{ text }}, '.', ''), ',', '.')
            else {{ text }}
        end as {{ type }}
    )
{%- endmacro %}


{#- dd/mm/yyyy as DATE. NULL where it is none. -#}
{% macro day_first_date(text) -%}
    cast({{ try_timestamp(trimmed(text), '%d/%m/%Y') }} as date)
{%- endmacro %}


{#-
    A phone number as +549 and ten digits (area code and subscriber), NULL where it cannot be one.

    People write `+54 9 11 5555-1234`, `011 15-5555-1234`, `(011) 5555 1234`, `1155551234`. In turn:
    only digits; without the country code (54, 0054), the 9 of mobiles and the trunk 0; without the
    15 between area code and subscriber.
-#}
{% macro argentine_phone(text) -%}
    case
        when {{ full_match(national_phone(text), '(11|[23]\\d)\\d{8}') }}
            then '+549' || {{ national_phone(text) }}
    end
{%- endmacro %}


{% macro national_phone(text) -%}
    {%- set digits = replace_matches(text, '\\D', '') -%}
    {%- set national = replace_match(digits, '^(00)?(54)?9?0?(\\d{10,12})$', '{3}') -%}
    {{ replace_match(national, '^(11|[23]\\d{2,3})15(\\d{6,8})$', '{1}{2}') }}
{%- endmacro %}
