"""What stands at the site: the site itself, devices, cameras, neighbour links, groups.

Knows nothing of what runs on a device or who watches a camera: higher domains register their
"is this still used?" checks here, and hear of changes on the bus (`states`).
"""

from haechi.domains.inventory.service import Inventory

__all__ = ["Inventory"]
