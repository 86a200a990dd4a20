"""Things done at a time, once or again and again: deploy, remove, back up.

Knows when and what; how is said by `ports.Action`, which the lower domains fill. A device's
maintenance hours hold back what would disturb it.
"""

from haechi.domains.schedules.service import Schedules

__all__ = ["Schedules"]
