"""The only place that wires adapters into domains and mounts web and interop.

A storey each, every one standing on the one before: `base` (stores and the lowest domains),
`building`, `hosting`, `clustering`, `upkeeping`, `deploying`, `scheduling`, `automating`,
`observing`, `old_interface`, `server` (API, listeners, start and end). `running` makes and runs it.
"""

from haechi.app.running import create, describe_api, run
from haechi.app.server import STATIC_DIR, Haechi

__all__ = ["STATIC_DIR", "Haechi", "create", "describe_api", "run"]
