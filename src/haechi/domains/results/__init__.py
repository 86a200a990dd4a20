"""What the AIs said: taken in durably, never twice, found again by device, camera, AI, class, time.

Knows nothing of how a deployment came to be or what a rule makes of a result: identity comes with
the caller's Principal, the rest by ports.
"""

from haechi.domains.results.service import Results

__all__ = ["Results"]
