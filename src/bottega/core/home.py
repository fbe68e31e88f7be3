"""The workshop folder: where datasets, runs and models of one project live.

`BOTTEGA_HOME`, else `./workshop`. Layout: data/ (prepared datasets), codecs/, runs/ (training in progress and its
logs), models/ (finished bundles), cache/.
"""

from __future__ import annotations

import os
from pathlib import Path


def workshop() -> Path:
    """Return the workshop folder (it may not exist yet)."""
    return Path(os.environ.get("BOTTEGA_HOME") or "workshop").expanduser()
