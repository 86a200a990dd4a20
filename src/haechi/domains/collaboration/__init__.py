"""Devices and AIs that adapt to what is seen: policies, each decision kept with its reasons.

Stands above deployments: it decides *when* and *what*, and lets the deployments domain act, so
that nothing running goes before its replacement is proven. Knows no wire of any caller.
"""

from haechi.domains.collaboration.by_version import SwitchByVersion
from haechi.domains.collaboration.by_weather import SwitchByWeather

__all__ = ["SwitchByVersion", "SwitchByWeather"]
