"""What the devices measure of themselves each second: kept, thinned with age, shown at once.

Knows nothing of why a device is busy; deployments are drawn beside its curves by whoever asks.
"""

from haechi.domains.metrics.service import Metrics

__all__ = ["Metrics"]
