"""AI packages: a zip comes in, is looked through without being unpacked, and is kept by digest.

Knows nothing of how a version is built or where it runs: higher domains register what they know
(is it still used, how did its build go) and hear of changes on the bus (`states`).
"""

from haechi.domains.packages.service import Packages

__all__ = ["Packages"]
