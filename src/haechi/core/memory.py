"""Tells Python's cycle collector what kind of program this is.

Results, samples and frames are rows without cycles: counting references frees them. With the stock
thresholds the collector walks every module, route and model of the server again and again while
rows pass (measured: a third of the cost of a stored row).
"""

import gc
from typing import Final

_THRESHOLDS: Final = (50_000, 20, 50)


def settle() -> None:
    """Call once, after everything is imported and wired, before the first request."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)
