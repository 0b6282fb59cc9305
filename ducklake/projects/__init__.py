"""`ducklake init`: what a source holds, and the project that takes it into a lake.

`found` has what was seen, `mysql`, `folders` and `apis` look, `config_text` and `dbt_text` write,
`adding` puts a table into a project that is there, `names` quotes.
"""
