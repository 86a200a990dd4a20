"""Facts in → findings out; a host's words in → facts out. `HAECHI_GOLDEN=write` renews them.

`host/findings/<case>.json`: what differs from a good host, and the findings. Several hosts are a list.
"""

import json
import os
from pathlib import Path

import msgspec
import pytest

from haechi.domains.clusters.host import facts, preflight
from haechi.domains.clusters.host.facts import Facts
from haechi.domains.clusters.host.findings import Finding
from haechi.errors import catalogue

FOLDER = Path(__file__).parent / "host"
CASES = sorted(path.stem for path in (FOLDER / "findings").glob("*.json"))
SUPPLY = preflight.Supply(
    version="1.36.3",
    system="debian 12",
    packages=("runc", "iptables", "haproxy"),
    needed_bytes={
        "/usr/local/bin": 300_000_000,
        "/opt/cni": 16_000_000,
        "/var/lib/haechi": 150_000_000,
        "/var/lib/containerd": 600_000_000,
    },
)


def good() -> dict:
    return json.loads((FOLDER / "good.json").read_text())


def write(path: Path, made: object) -> None:
    text = json.dumps(made, ensure_ascii=False, indent=1) + "\n"
    if os.environ.get("HAECHI_GOLDEN") == "write":
        path.write_text(text)
    assert json.loads(path.read_text()) == made


def candidate(place: int, about: dict) -> preflight.Candidate:
    return preflight.Candidate(
        name=about.get("name", f"host-{place + 1}"),
        role=about.get("role", "worker"),
        facts=msgspec.convert({**good(), **about.get("facts", {})}, Facts),
        supply=None if about.get("no_bundle") else SUPPLY,
        address=about.get("address", "192.0.2.11"),
    )


@pytest.mark.parametrize("case", CASES)
def test_findings(case):
    path = FOLDER / "findings" / f"{case}.json"
    about = json.loads(path.read_text())
    wish = preflight.Wish("10.244.0.0/16", "10.96.0.0/12", **about.get("wish", {}))
    hosts = [candidate(place, one) for place, one in enumerate(about["hosts"])]
    found = [
        {
            "host": hosts[place].name,
            "level": finding.level,
            "code": finding.code,
            "data": finding.data,
            "en": finding.problem("en")["detail"],
            "ko": finding.problem("ko")["detail"],
        }
        for place, finding in preflight.of_all(hosts, wish)
    ]
    for one in found:
        assert "{" not in one["en"] + one["ko"], "a placeholder without data"
    write(path, {**about, "findings": found})


def test_every_finding_has_a_case():
    told = set()
    for case in CASES:
        text = (FOLDER / "findings" / f"{case}.json").read_text()
        told |= {one["code"] for one in json.loads(text)["findings"]}
    known = {code for code, cls in catalogue().items() if issubclass(cls, Finding)}
    assert told == known


@pytest.mark.parametrize("case", ["bare", "busy"])
def test_facts(case):
    text = (FOLDER / f"facts.{case}.txt").read_text()
    made = facts.parse(text, 1_795_970_400.0, 1_795_970_400.9)
    write(FOLDER / f"facts.{case}.json", made.as_json())
    assert Facts.of_json(made.as_json()) == made


def test_a_torn_answer_is_refused():
    text = (FOLDER / "facts.bare.txt").read_text()
    with pytest.raises((KeyError, ValueError)):
        facts.parse(text[: len(text) // 2], 0, 1)
