"""The offline bundle for this machine's platform: what the lab's hosts become nodes from.

The product makes it (`haechi bundle create`): here it is only called. Cold it takes ten minutes or
more, with the compiler's cache half a minute.
"""

import subprocess

from provision import cache
from provision.process import StepFailed, succeeds

LIMIT_S = 3 * 3600
HAECHI = cache.ENVIRONMENT / "bin" / "haechi"
THERE = """\
import sys
from haechi.cli.bundle import own_platform
from haechi.domains.clusters.bundle import recipe
from haechi.domains.clusters.bundle.create import existing
from haechi.domains.clusters.bundle.model import name_of
from haechi.settings import load
found, platform = recipe.load(), own_platform()
folder = load().settings.bundle.folder.expanduser() / name_of(found.kubernetes, platform)
sys.exit(existing(found, platform, folder) is None)
"""


def ready(_options: frozenset[str]) -> bool:
    return succeeds([cache.path("python"), "-c", THERE])


def prepare(_options: frozenset[str]) -> str:
    """Its progress and its errors go straight to the terminal."""
    remedy = "Its words are above; run it again, what is done is not done twice."
    try:
        done = subprocess.run(
            [HAECHI, "bundle", "create"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            timeout=LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as e:
        raise StepFailed(f"the bundle took longer than {LIMIT_S} s", remedy) from e
    if done.returncode:
        raise StepFailed(f"`haechi bundle create` ended with code {done.returncode}", remedy)
    return "made and verified"
