"""Tells Python's cycle collector and the C allocator what kind of program this is.

Results, samples and frames are rows without cycles: counting references frees them. With the stock
thresholds the collector walks every module, route and model of the server again and again while
rows pass (measured: a third of the cost of a stored row). And glibc keeps what a burst of large
bodies has used, unless it is told to give large blocks back.
"""

import ctypes
import gc
import logging
from typing import Final

log = logging.getLogger(__name__)

_THRESHOLDS: Final = (50_000, 20, 50)
# From malloc.h; setting a threshold also stops glibc from raising it by itself.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_LARGE_BYTES: Final = 128 * 1024
_ARENAS: Final = 2


def settle() -> None:
    """Call once, after everything is imported and wired, before the first request."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        log.debug("this C library has no mallopt: memory of a burst may stay with the process")
        return
    mallopt(_M_TRIM_THRESHOLD, _LARGE_BYTES)
    mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)
    mallopt(_M_ARENA_MAX, _ARENAS)
