"""Preflight: every host at once, every finding at once; nothing is changed on any of them."""

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from haechi.core.access import SYSTEM
from haechi.core.tasks import TaskGroup
from haechi.domains.clusters.consent import TRUST
from haechi.domains.clusters.context import Context
from haechi.domains.clusters.errors import HostsNotFit
from haechi.domains.clusters.host.errors import HostKeyUnknown
from haechi.domains.clusters.host.findings import SameMachineId
from haechi.domains.clusters.host.ports import Shell
from haechi.domains.clusters.model import FormOptions, Member, MemberRole, MemberState
from haechi.domains.clusters.ports import HostFinding, HostReport
from haechi.errors import AppError, catalogue

log = logging.getLogger(__name__)

OnText = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class HostToCheck:
    device_id: str
    name: str
    role: MemberRole


@dataclass(frozen=True, slots=True)
class Checked:
    reports: list[HostReport]
    """Of the hosts that could be reached."""
    findings: list[HostFinding]
    accepted: list[HostFinding]
    """Warnings that the options accept by name."""

    @property
    def hindering(self) -> list[HostFinding]:
        """Errors, and warnings that nobody accepted."""
        return [one for one in self.findings if one not in self.accepted]

    def refuse(self) -> None:
        """Raises HostsNotFit where anything hinders."""
        problems = [_placed(one) for one in self.hindering]
        if problems:
            raise HostsNotFit.of(problems)


class Checking:
    def __init__(self, context: Context) -> None:
        self._c = context

    async def check(
        self,
        hosts: Sequence[HostToCheck],
        options: FormOptions,
        *,
        log: Callable[[str], OnText],
        machines: Mapping[str, str] | None = None,
        there: Sequence[Member] = (),
    ) -> Checked:
        """`log` is asked for each host's device id. `machines`: machine id → name of nodes that are
        there already. `there`: control planes that stay beside these hosts; where a further one is
        to join them, their firewalls are looked at too.
        """
        c = self._c
        reports: dict[str, HostReport] = {}
        failures: list[HostFinding] = []

        async def one(host: HostToCheck) -> None:
            async def act(shell: Shell) -> HostReport:
                return await c.work.report(shell, host.device_id, host.role)

            try:
                if TRUST in options.accept:
                    await self._trust(host.device_id)
                reports[host.device_id] = await c.on_host(
                    host.device_id, act, log=log(host.device_id), away_s=0
                )
            except AppError as error:
                failures.append(_unreachable(host, error))

        async with TaskGroup() as group:
            for host in hosts:
                group.create_task(one(host))
        found = [reports[one.device_id] for one in hosts if one.device_id in reports]
        findings = c.work.findings(found, options, control_planes=len(there))
        findings += _known(found, machines or {})
        if any(one.role == "control_plane" for one in hosts):
            findings += c.work.findings_to_join(await self._look_at(there))
        ids = [*(one.device_id for one in hosts), *(one.device_id for one in there)]
        order = {device_id: place for place, device_id in enumerate(ids)}
        findings = sorted(
            [*failures, *findings], key=lambda f: (order[f.device_id], f.level, f.name)
        )
        accepted = [
            one for one in findings if one.level == "warning" and one.name in options.accept
        ]
        return Checked(found, findings, accepted)

    async def _look_at(self, there: Sequence[Member]) -> list[HostReport]:
        """Of those that can be looked at: one that is away keeps nobody from joining the others."""
        c = self._c
        reports: list[HostReport] = []

        async def look(member: Member) -> None:
            async def act(shell: Shell) -> HostReport:
                return await c.work.report(shell, member.device_id, member.role)

            reports.append(await c.on_host(member.device_id, act, log=log.debug, away_s=0))

        await c.on_each(
            there,
            look,
            failed=lambda member, error: log.info("%s: %s", member.node_name, error),
        )
        return reports

    async def machines_of(self, cluster_id: str, but: Collection[str]) -> dict[str, str]:
        """Machine id → name of the cluster's nodes that are none of these devices, as its API
        knows them.
        """
        async with self._c.kube(cluster_id) as kube:
            nodes = await kube.nodes()
        return {
            one.machine_id: one.name for one in nodes if one.machine_id and one.device_id not in but
        }

    async def control_planes_of(self, cluster_id: str, but: Collection[str]) -> list[Member]:
        """Of the cluster's, those that are ready and none of these devices."""
        return [
            one
            for one in await self._c.members(cluster_id)
            if one.is_control_plane and one.state == MemberState.READY and one.device_id not in but
        ]

    async def _trust(self, device_id: str) -> None:
        """First contact, on the caller's word. A key that is pinned and differs stays an error."""
        try:
            async with self._c.hosts.open(device_id):
                return
        except HostKeyUnknown as error:
            shown = str(error.data["fingerprint"])
        await self._c.hosts.learn(device_id, by=SYSTEM, fingerprint=shown)

    async def remember(self, members: Sequence[Member], reports: Sequence[HostReport]) -> None:
        """What the check saw: addresses of members, and what devices are."""
        c = self._c
        by_id = {one.device_id: one for one in members}
        for report in reports:
            member = by_id.get(report.device_id)
            if member is not None and member.address != report.address:
                await c.change_member(member, address=report.address)
            await c.devices.report_machine(
                report.device_id, machine_id=report.machine_id, platform=report.platform
            )


def _known(reports: Sequence[HostReport], machines: Mapping[str, str]) -> list[HostFinding]:
    """Hosts that are nodes already under another name, or clones of one."""
    return [
        HostFinding(
            device_id=one.device_id,
            host=one.host,
            name=SameMachineId.code.rpartition(".")[2],
            level=SameMachineId.level,
            code=SameMachineId.code,
            data={"host": one.host, "others": machines[one.machine_id]},
        )
        for one in reports
        if one.machine_id in machines
    ]


def _unreachable(host: HostToCheck, error: AppError) -> HostFinding:
    return HostFinding(
        device_id=host.device_id,
        host=host.name,
        name=error.code.rpartition(".")[2],
        level="warning" if isinstance(error, HostKeyUnknown) else "error",
        code=error.code,
        data={**error.data, "host": error.data.get("host", host.name)},
    )


def _placed(finding: HostFinding) -> AppError:
    error = error_of(finding)
    error.data.setdefault("path", finding.host)
    return error


def error_of(finding: HostFinding) -> AppError:
    """As it is raised."""
    return catalogue().get(finding.code, AppError)(**finding.data)
