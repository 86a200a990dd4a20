"""The historic HTTP interface: programs of the older system work unchanged.

Translation only. It decides nothing: what a call means is said by the services it calls, and every
rule of the old wire (codes, messages, order of checks, clock forms) has one place here. Nothing
else in haechi knows this package.
"""

from haechi.interop.clusters import Clusters, RecordedClusters
from haechi.interop.create import Interop, create_interop
from haechi.interop.forming import FormedClusters
from haechi.interop.services import Services
from haechi.interop.vms import Vms

__all__ = [
    "Clusters",
    "FormedClusters",
    "Interop",
    "RecordedClusters",
    "Services",
    "Vms",
    "create_interop",
]
