"""Real hosts for tests: systemd, sshd, own addresses, and the faults that happen to them.

A `Site` is a network of its own with `Host`s on it; everything of it is gone when its block ends,
and also after the process that made it was killed (see `names`). Standard library only: the setup
script builds the images with it before the project's environment exists. It knows nothing of
haechi; haechi knows nothing of it.
"""

from lab.engine import LabError
from lab.host import Host
from lab.site import Site

__all__ = ["Host", "LabError", "Site"]
