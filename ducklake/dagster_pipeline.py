"""The lake's pipeline under Dagster: `dagster-webserver -m ducklake.dagster_pipeline`.

Dagster starts, shows and keeps what happened; the work is done by the functions that `ducklake`
itself calls, and one cycle runs at a time, whoever starts it. The configuration is looked for as
everywhere: `DUCKLAKE_CONFIG`, else `ducklake.yml` here or in a folder above.
"""

from ducklake.dagster_assets.definitions import pipeline
from lake.config import load_config

defs = pipeline(load_config())
