"""What the cluster side does to one host, as one: the port `HostWork` over the parts here."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from haechi.core.clock import Clock
from haechi.domains.clusters.bundle.errors import BundleNotFound
from haechi.domains.clusters.bundle.model import Bundle, Kind
from haechi.domains.clusters.bundle.model import Role as BundleRole
from haechi.domains.clusters.bundle.shelf import Shelf, fits, version_key
from haechi.domains.clusters.errors import NoBundle
from haechi.domains.clusters.host import (
    clean,
    distribution,
    facts,
    ledger,
    preflight,
    prepare,
    snapshot,
)
from haechi.domains.clusters.host.facts import Facts
from haechi.domains.clusters.host.findings import Finding
from haechi.domains.clusters.host.ports import Shell
from haechi.domains.clusters.model import FormOptions, MemberRole
from haechi.domains.clusters.ports import HostFinding, HostReport

OnText = Callable[[str], None]
_UNPACKED: Final = 4
"""Layers are kept gzipped and unpacked: about so many times the archive."""


class BundledHostWork:
    def __init__(self, shelf: Shelf, clock: Clock) -> None:
        self._shelf = shelf
        self._clock = clock

    async def report(self, shell: Shell, device_id: str, role: MemberRole) -> HostReport:
        found = await facts.gather(shell, self._clock)
        return HostReport(
            device_id=device_id,
            host=shell.host.name,
            role=role,
            address=found.address_near(shell.host.address),
            platform=found.platform,
            machine_id=found.machine_id,
            facts=found.as_json(),
        )

    def findings(
        self, reports: Sequence[HostReport], options: FormOptions, *, control_planes: int = 0
    ) -> list[HostFinding]:
        wish = preflight.Wish(
            pod_cidr=options.pod_cidr,
            service_cidr=options.service_cidr,
            source=options.source,
            version=options.kubernetes_version or "",
            clean_leftovers=options.clean_leftovers,
            kubelet=options.profile.kubelet,
            ignore_preflight=options.profile.ignore_preflight,
            control_planes=control_planes,
        )
        known = {one.device_id: Facts.of_json(one.facts) for one in reports}
        bundles = self._bundles({one.platform for one in known.values()}, options)
        candidates = [
            preflight.Candidate(
                name=one.host,
                role=one.role,
                facts=known[one.device_id],
                supply=_supply(bundles.get(one.platform), one.role, options),
                address=one.address,
            )
            for one in reports
        ]
        return [
            _about(reports[place], finding) for place, finding in preflight.of_all(candidates, wish)
        ]

    def findings_to_join(self, reports: Sequence[HostReport]) -> list[HostFinding]:
        return [
            _about(one, finding)
            for one in reports
            for finding in preflight.of_one_to_be_joined(one.host, Facts.of_json(one.facts).closed)
        ]

    def _bundles(self, platforms: set[str], options: FormOptions) -> dict[str, Bundle]:
        """Of the newest version that is there for all the platforms; else of each its newest."""
        if options.source != "bundle":
            return {}
        wanted = options.kubernetes_version or ""
        fitting = [one for one in self._shelf.bundles() if fits(one.kubernetes, wanted)]
        by_version: dict[str, dict[str, Bundle]] = {}
        for bundle in fitting:
            by_version.setdefault(bundle.kubernetes, {})[bundle.platform] = bundle
        if not by_version:
            return {}
        whole = [version for version, one in by_version.items() if platforms <= one.keys()]
        return by_version[max(whole or by_version, key=version_key)]

    async def snapshot(self, shell: Shell) -> dict[str, Any]:
        return await snapshot.take(shell)

    def differences(
        self, before: Mapping[str, Any], after: Mapping[str, Any]
    ) -> list[dict[str, Any]]:
        return snapshot.differences(before, after)

    async def prepare(
        self,
        shell: Shell,
        role: MemberRole,
        options: FormOptions,
        version: str,
        *,
        log: OnText,
        progress: Callable[[float], None],
    ) -> None:
        if options.clean_leftovers and await ledger.read(shell) is None:
            found = await facts.gather(shell, self._clock)
            if found.leftovers:
                log(f"removing what an earlier cluster left: {', '.join(found.leftovers[:20])}")
                await clean.clean(shell, log=log)
        if options.source == "distribution":
            await distribution.prepare(
                shell, role, version, options.profile.containerd, log=log, progress=progress
            )
            return
        platform = await facts.platform_of(shell)
        try:
            bundle = self._shelf.find(version, platform)
        except BundleNotFound as error:
            raise NoBundle(version=version, platform=platform) from error
        wanted = prepare.Preparation(bundle, role, options.profile.containerd)
        await prepare.prepare(shell, wanted, log=log, progress=progress)

    async def clean(self, shell: Shell, *, log: OnText) -> None:
        await clean.clean(shell, log=log)


def _about(report: HostReport, finding: Finding) -> HostFinding:
    return HostFinding(
        device_id=report.device_id,
        host=report.host,
        name=finding.code.rpartition(".")[2],
        level=finding.level,
        code=finding.code,
        data=finding.data,
    )


def _supply(
    bundle: Bundle | None, role: MemberRole, options: FormOptions
) -> preflight.Supply | None:
    if options.source == "distribution":
        return preflight.Supply(
            options.kubernetes_version or "", "", distribution.PACKAGES, distribution.NEEDED_BYTES
        )
    if bundle is None:
        return None
    their_role: BundleRole = "control-plane" if role == "control_plane" else "worker"

    def sizes(kind: Kind) -> list[int]:
        return [part.size_bytes for part in bundle.files_for(their_role, kind)]

    return preflight.Supply(
        version=bundle.kubernetes,
        system=f"{bundle.host.id} {bundle.host.version}",
        packages=bundle.host.packages,
        needed_bytes={
            prepare.PROGRAMS: sum(sizes("program")),
            "/opt/cni": sum(sizes("plugin")),
            "/var/lib/haechi": sum(sizes("package")) + sum(sizes("images")),
            "/var/lib/containerd": _UNPACKED * sum(sizes("images")),
        },
    )
