"""TechStore, the demo's shop: a seeded year of business as SQL and as SFTP files.

`python -m techstore` writes docker/mysql/init.sql and docker/sftp/ anew, always
with the same bytes; `place.place_files` puts the files where the embedded SFTP server serves them.
"""

import os

# With lxml, openpyxl would write the workbook in other bytes than the committed ones.
os.environ.setdefault("OPENPYXL_LXML", "False")
