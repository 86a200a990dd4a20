"""A host goes back to what it was before it became a node: what Kubernetes left (`kubeadm reset`
leaves a lot), then exactly what the ledger says that haechi made.

Packages go last: their tools are needed to remove the rules. Rules, files and services that were
there before stay. Whether it is all gone is for the snapshots to say.
"""

from collections.abc import Callable
from importlib.resources import files
from typing import Final

from haechi.domains.clusters.host import ledger as ledgers
from haechi.domains.clusters.host import packages
from haechi.domains.clusters.host.errors import NotCleaned
from haechi.domains.clusters.host.hosts_file import lead
from haechi.domains.clusters.host.ledger import Ledger
from haechi.domains.clusters.host.ports import Shell

SCRIPT: Final = files(__package__).joinpath("scripts/clean.sh").read_text()
CLEAN_S: Final = 300.0

OnText = Callable[[str], None]


async def clean(shell: Shell, *, log: OnText) -> None:
    """Idempotent. Raises HostAway, NotCleaned."""
    ledger = await ledgers.read(shell)
    argv = ["sh", "-c", SCRIPT, "sh"]
    ran = await shell.run(argv, root=True, stdin=plan_of(ledger), timeout_s=CLEAN_S)
    left = [
        line.partition("\t")[2] for line in ran.stdout.splitlines() if line.startswith("left\t")
    ]
    if left:
        raise NotCleaned(host=shell.host.name, what=", ".join(left))
    if ledger is None:
        log("Kubernetes and its network removed; nothing else was noted")
        return
    await packages.remove(shell, ledger.packages, log=log)
    for name in ledger.names:
        await lead(shell, name, None)
    for unit in ledger.masked:
        await shell.run(["systemctl", "unmask", "--quiet", unit], root=True, check=False)
    # The note goes last: whoever is interrupted before that does all of it again.
    script = f"rm -rf {ledgers.FOLDER}; rmdir --ignore-fail-on-non-empty /var/lib/haechi || true"
    await shell.run(["sh", "-c", script], root=True)
    if ledger.upgraded:
        log(f"upgraded packages stay: {' '.join(sorted(ledger.upgraded))}")
    log(f"{len(ledger.files)} files and {len(ledger.packages)} packages taken back")


def plan_of(ledger: Ledger | None) -> str:
    """What the script is told: `word<TAB>…`, one a line."""
    if ledger is None:
        return ""
    lines = [f"runtime\t{'yes' if ledger.runtime else 'no'}"]
    lines += [
        f"file\t{path}\t{'restore' if there else 'remove'}" for path, there in ledger.files.items()
    ]
    # Innermost first.
    lines += [f"folder\t{path}" for path in sorted(ledger.folders, key=len, reverse=True)]
    lines += [f"unit\t{unit}" for unit in ledger.units]
    lines += [f"sysctl\t{name}={value}" for name, value in ledger.sysctls.items()]
    lines += [f"service\t{unit}.service" for unit in ledger.services]
    lines += [f"nft\t{table}" for table in ledger.nft_tables]
    lines += [f"held\t{path}" for path in ledger.held]
    return "".join(f"{line}\n" for line in lines)
