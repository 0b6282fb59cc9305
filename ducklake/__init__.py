"""The command line, supervision and monitoring of DuckLake Stream.

Installed from a wheel, this package is the only one in site-packages: `producers`, `consumers`,
`batcher`, `lake`, `stack` and `techstore` lie in its folder `_bundle`, so that no other package's
module of such a name is in their way. Importing `ducklake` makes them importable, here and in the
processes that are started from here. In a clone they are the folders beside this one.
"""

import os
import sys
from pathlib import Path

__version__ = "0.1.0"

_BUNDLE = Path(__file__).with_name("_bundle")
if _BUNDLE.is_dir():
    # before everything else: these names are common ones
    sys.path.insert(0, str(_BUNDLE))
    _paths = os.environ.get("PYTHONPATH", "")
    if str(_BUNDLE) not in _paths.split(os.pathsep):
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(_BUNDLE), _paths)))
