"""What looking after clusters needs from outside, in memory; and hosts that can be backed up.

lab = UpkeepSite(site)          # site: haechi.testing.clusters.FakeSite
lab.prepare("dev-m")            # etcd's tools, backups and certificates work there
"""

import io
import json
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from haechi.core.clock import to_text
from haechi.domains.agents.model import Presence
from haechi.domains.clusters.backups.model import AUTHORITIES, ETCD_FILE
from haechi.domains.clusters.host.ports import Ran
from haechi.domains.clusters.judging import Answer
from haechi.domains.clusters.model import Member
from haechi.domains.clusters.ports import OnText
from haechi.errors import AppError
from haechi.testing.clusters import FakeSite
from haechi.testing.hosts import Call, FakeFile, FakeShell

YEAR: Final = timedelta(days=365)


@dataclass
class FakeProbe:
    """Every host answers unless an answer is set: `kubelets["192.0.2.2"] = "refused"`."""

    kubelets: dict[str, Answer] = field(default_factory=dict)
    sshs: dict[str, Answer] = field(default_factory=dict)
    asked_ssh: list[str] = field(default_factory=list)
    forgotten: list[str] = field(default_factory=list)

    async def ssh(self, address: str, port: int) -> Answer:
        del port
        self.asked_ssh.append(address)
        return self.sshs.get(address, "answers")

    async def kubelet(self, address: str) -> Answer:
        return self.kubelets.get(address, "answers")

    def forget(self, address: str) -> None:
        self.forgotten.append(address)

    def vanish(self, address: str, answer: Answer = "unreachable") -> None:
        self.kubelets[address] = self.sshs[address] = answer

    def come_back(self, address: str) -> None:
        self.kubelets.pop(address, None)
        self.sshs.pop(address, None)


@dataclass
class FakeAgentsView:
    """No device has an agent, unless its word is set."""

    words: dict[str, float] = field(default_factory=dict)
    connected: set[str] = field(default_factory=set)
    noted: list[str] = field(default_factory=list)
    unheard: list[str] = field(default_factory=list)
    forgotten: list[str] = field(default_factory=list)
    presences: dict[str, Presence] = field(default_factory=dict)
    runtimes: dict[str, bool] = field(default_factory=dict)

    def is_connected(self, device_id: str) -> bool:
        return device_id in self.connected

    def last_word_s(self, device_id: str) -> float | None:
        return self.words.get(device_id)

    def note_word(self, device_id: str) -> None:
        self.noted.append(device_id)

    def note_silence(self, device_id: str) -> None:
        self.unheard.append(device_id)

    def forget_word(self, device_id: str) -> None:
        self.forgotten.append(device_id)

    def runtime_runs(self, device_id: str) -> bool | None:
        return self.runtimes.get(device_id)

    def device_presence(self, device_id: str) -> Presence:
        return self.presences.get(device_id, "new")


@dataclass
class FakeFinder:
    """`places`: device → the address at which it is."""

    places: dict[str, str] = field(default_factory=dict)
    searched: list[str] = field(default_factory=list)

    async def find(self, device_id: str, addresses: list[str]) -> str | None:
        place = self.places.get(device_id)
        return place if place in addresses else None

    async def search(self, device_id: str, near: str) -> str | None:
        self.searched.append(near)
        return self.places.get(device_id)


@dataclass
class FakeMover:
    moved: list[tuple[str, str]] = field(default_factory=list)
    error: AppError | None = None

    async def move_work(self, old_id: str, new_id: str, *, by: str, log: OnText) -> None:
        del by
        self.moved.append((old_id, new_id))
        log(f"moved from {old_id}")
        if self.error is not None:
            raise self.error


@dataclass
class FakeNeighbours:
    words: dict[str, bool] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def word(self, device_id: str) -> bool | None:
        return self.words.get(device_id)

    def ask(self, member: Member, others: list[Member], *, again_s: float) -> None:
        del again_s
        if others:
            self.asked.append(member.device_id)

    def forget(self, device_id: str) -> None:
        self.words.pop(device_id, None)


@dataclass
class UpkeepSite:
    site: FakeSite
    restored: dict[str, list[str]] = field(default_factory=dict)
    """Device → arguments of `etcdutl snapshot restore` there."""
    ends_at: datetime = field(default_factory=lambda: datetime.now(UTC) + YEAR)
    """Of every certificate on every host."""
    leave_out: set[str] = field(default_factory=set)
    """Authorities that the archive lacks."""

    def prepare(self, device_id: str) -> FakeShell:
        shell = self.site.hosts.hosts[device_id]
        shell.on(lambda line: "snapshot save" in line, do=lambda call: _save(shell, call))
        facts = {"hash": 1, "revision": 42, "totalKey": 7, "totalSize": 99}
        shell.on(lambda line: "snapshot status" in line, stdout=json.dumps(facts))
        shell.on(lambda line: "' haechi-backup " in line, do=lambda call: self._pack(shell, call))
        shell.on(lambda line: "snapshot restore" in line, do=lambda call: self._note(shell, call))
        shell.on("kubeadm certs check-expiration", do=lambda _: self._expirations())
        shell.on("kubeadm certs renew", do=lambda _: self._renew())
        shell.on("sed -n", do=lambda _: Ran(0, certificate(datetime.now(UTC) + YEAR)))
        return shell

    def _pack(self, shell: FakeShell, call: Call) -> None:
        folder = call.command.partition("' haechi-backup ")[2].split()[0]
        files = {ETCD_FILE: shell.files[f"{folder}/{ETCD_FILE}"].content}
        for name in AUTHORITIES:
            if name not in self.leave_out:
                files[f"etc/kubernetes/pki/{name}"] = f"content of {name}".encode()
        shell.files[f"{folder}/backup.tar.gz"] = FakeFile(archive(files), 0o600)

    def _note(self, shell: FakeShell, call: Call) -> None:
        words = call.command.partition("haechi-etcd ")[2].split()
        assert shell.files[words[3]].content.startswith(b"etcd of ")
        self.restored[shell.host.device_id] = words

    def _expirations(self) -> Ran:
        until = to_text(self.ends_at)
        names = ("admin.conf", "apiserver", "etcd-server")
        document = {
            "certificates": [{"name": name, "expirationDate": until} for name in names],
            "certificateAuthorities": [
                {"name": "ca", "expirationDate": to_text(datetime.now(UTC) + 9 * YEAR)}
            ],
        }
        return Ran(0, json.dumps(document))

    def _renew(self) -> None:
        self.ends_at = datetime.now(UTC) + YEAR


def _save(shell: FakeShell, call: Call) -> None:
    shell.put(call.command.split()[-1], f"etcd of {shell.host.device_id}", 0o600)


def archive(files: Mapping[str, bytes]) -> bytes:
    """A tar.gz as hosts make it."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return made.getvalue()


def certificate(ends_at: datetime) -> str:
    """A self-signed one in PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "system:node:test")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(min(ends_at, datetime.now(UTC)) - timedelta(days=1))
        .not_valid_after(ends_at)
        .sign(key, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM).decode()
