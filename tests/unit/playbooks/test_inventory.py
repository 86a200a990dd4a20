"""The site in Ansible's inventory JSON, and the folder that is handed over."""

import re
from configparser import ConfigParser
from pathlib import Path

import pytest
import yaml

from haechi.cli.playbook import asked
from haechi.domains.packages.manifest import Manifest, Needs
from haechi.domains.playbooks.export import PLAYBOOKS, files_of, variables_of
from haechi.domains.playbooks.inventory import group_name, inventory_of
from haechi.domains.playbooks.model import Host, HostGroup, NeedsPrivileges, RegistryToPlay
from haechi.domains.playbooks.neighbours import to_play


def host(device_id, address="192.0.2.7", **more):
    given = {"host_name": None, "port": None, "user": None, "role": "edge", "platform": None}
    return Host(device_id=device_id, name=f"name of {device_id}", address=address, **given | more)


def test_hosts_by_id_with_what_ansible_needs():
    document = inventory_of([host("dev-a", port=2222, user="ops", platform="linux/amd64")], [])
    assert document["_meta"]["hostvars"]["dev-a"] == {
        "ansible_host": "192.0.2.7",
        "ansible_port": 2222,
        "ansible_user": "ops",
        "haechi_device_id": "dev-a",
        "haechi_device_name": "name of dev-a",
        "haechi_role": "edge",
        "haechi_platform": "linux/amd64",
    }
    assert document["role_edge"] == {"hosts": ["dev-a"]}
    assert document["all"] == {"children": ["role_edge"]}


def test_a_device_without_an_address_is_in_no_group():
    document = inventory_of([host("dev-a", address=None)], [HostGroup("doors", ["dev-a"])])
    assert document == {
        "_meta": {"hostvars": {}},
        "doors": {"hosts": []},
        "all": {"children": ["doors"]},
    }


def test_groups_of_one_name_are_one():
    groups = [HostGroup("Doors", ["dev-a"]), HostGroup("doors", ["dev-b", "dev-a"])]
    document = inventory_of([host("dev-a"), host("dev-b")], groups)
    assert document["doors"] == {"hosts": ["dev-a", "dev-b"]}


@pytest.mark.parametrize(
    ("name", "fit"),
    [
        ("doors", "doors"),
        ("North Gate-2", "north_gate_2"),
        ("1st floor", "g_1st_floor"),
        ("all", "g_all"),
        ("ungrouped", "g_ungrouped"),
        ("---", "group"),
        ("정문", "u" + f"{ord('정'):x}_u{ord('문'):x}"),
    ],
)
def test_names_that_ansible_takes(name, fit):
    assert group_name(name) == fit


def test_the_folder_says_what_it_is_about_and_keeps_its_hands_off_secrets():
    manifest = Manifest(needs=Needs(cpu=0.5, gpu=True, internet=True), environment={"A": "1"})
    package = to_play("counter", "1.2", "r.example/counter@sha256:0", manifest)
    registry = RegistryToPlay("r.example:8425", "192.0.2.1", "-----BEGIN CERTIFICATE-----\n")
    group = HostGroup("North gate", ["dev-a"])
    files = files_of(package, registry, group, inventory_of([host("dev-a")], [group]))
    assert yaml.safe_load(files["package.yml"]) == {
        "haechi_hosts": "north_gate",
        "haechi_package": "counter",
        "haechi_version": "1.2",
        "haechi_image": "r.example/counter@sha256:0",
        "haechi_environment": {"A": "1"},
        "haechi_cpu": 0.5,
        "haechi_memory_bytes": None,
        "haechi_gpu": True,
        "haechi_camera": "many",
        "haechi_internet": True,
        "haechi_registry": "r.example:8425",
        "haechi_registry_host": "192.0.2.1",
    }
    static = yaml.safe_load(files["inventory.yml"])["all"]
    assert static["children"]["north_gate"] == {"hosts": {"dev-a": None}}
    assert static["hosts"]["dev-a"]["ansible_host"] == "192.0.2.7"
    settings = ConfigParser()
    settings.read_string(files["ansible.cfg"].decode())
    assert settings.getboolean("connection", "pipelining")
    for name in PLAYBOOKS:
        (play,) = yaml.safe_load(files[name])
        assert play["become"] is True
        assert "haechi_task_s" in play["timeout"]
        assert play["vars_files"] == ["package.yml", "haechi.yml"]


@pytest.mark.parametrize(
    ("needs", "words"),
    [
        (Needs(camera="none"), ["lays no fence"]),
        (Needs(camera="one", internet=True), ["asks for the internet", "haechi_camera_url"]),
    ],
)
def test_whoever_exports_is_told_what_deploying_will_ask_for(needs, words):
    package = to_play("counter", "1", "r.example/counter@sha256:0", Manifest(needs=needs))
    registry = RegistryToPlay("r.example:1", "192.0.2.1", "")
    told = [english for _, english in asked(variables_of(package, registry, HostGroup("g", [])))]
    assert len(told) == len(words)
    for word, line in zip(words, told, strict=True):
        assert word in line


def test_what_a_playbook_cannot_give_is_refused():
    manifest = Manifest(needs=Needs(privileged=True))
    with pytest.raises(NeedsPrivileges):
        to_play("counter", "1.2", "r.example/counter@sha256:0", manifest)


def test_every_file_that_a_playbook_includes_is_handed_over():
    package = to_play("counter", "1", "r.example/counter@sha256:0", Manifest())
    group = HostGroup("doors", ["dev-a"])
    files = files_of(
        package, RegistryToPlay("r.example:1", "192.0.2.1", ""), group, inventory_of([], [group])
    )
    for path, content in files.items():
        for included in re.findall(rb"include_tasks: (\S+)", content):
            assert f"tasks/{Path(included.decode()).name}" in files, path
