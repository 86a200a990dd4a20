"""How a node is wired to the registry, and held to it."""

import stat
import tomllib

import pytest

from haechi.domains.clusters.host import clean, ledger, registry_trust, runtime
from haechi.domains.clusters.host.errors import RuntimeNotStarting, RuntimeUnreadable
from haechi.domains.clusters.host.ledger import Ledger
from haechi.protocol.commands import RegistryAccess
from haechi.testing.hosts import FakeFile, FakeHosts

ACCESS = RegistryAccess(
    name="registry.haechi.internal",
    address="192.0.2.1:5443",
    ca_pem="-----BEGIN CERTIFICATE-----\n",
    user="dev-a",
    password='se"cret',
)
FOLDER = "/etc/containerd/certs.d/registry.haechi.internal"
DROP_IN = runtime.containerd_text("registry.k8s.io/pause:3.10", {})


async def host():
    shell = FakeHosts().add("dev-a", lenient=True)
    shell.put("/etc/hosts", "127.0.0.1 localhost\n")
    await ledger.save(shell, Ledger(drop_in=DROP_IN))
    return shell


async def test_trusted_once_then_nothing_to_do_then_taken_back():
    shell, log = await host(), []
    assert await registry_trust.trust(shell, ACCESS, log=log.append)
    table = tomllib.loads(shell.text(f"{FOLDER}/hosts.toml"))
    (url,) = table["host"]
    assert url == table["server"] == "https://registry.haechi.internal:5443"
    assert table["host"][url]["capabilities"] == ["pull", "resolve"]
    assert table["host"][url]["dial_timeout"] == "3s"
    assert table["host"][url]["ca"] == f"{FOLDER}/ca.crt"
    assert table["host"][url]["header"]["Authorization"] == "Basic ZGV2LWE6c2UiY3JldA=="
    assert stat.S_IMODE(shell.files[f"{FOLDER}/hosts.toml"].mode) == 0o600
    assert "192.0.2.1 registry.haechi.internal" in shell.text("/etc/hosts")
    assert "se" + '"cret' not in "\n".join([*log, *shell.commands()])

    assert not await registry_trust.trust(shell, ACCESS, log=log.append)
    moved = RegistryAccess(name=ACCESS.name, address="192.0.2.9:5443", ca_pem=ACCESS.ca_pem)
    assert await registry_trust.trust(shell, moved, log=log.append)
    assert "192.0.2.1 " not in shell.text("/etc/hosts")
    # Cleaning the host knows of it too.
    noted = await ledger.read(shell)
    assert f"file\t{FOLDER}/hosts.toml\tremove" in clean.plan_of(noted)
    await clean.clean(shell, log=log.append)
    assert shell.text("/etc/hosts") == "127.0.0.1 localhost\n"


@pytest.mark.parametrize(
    "main",
    [
        "",
        "version = 3\n",
        'version = 3\nimports = ["/etc/other/*.toml"]\n\n[plugins.x]\na = 1\n',
        'version = 3\nimports = [\n  "/etc/other/*.toml",\n]\n[x]\n',
        '[plugins.x]\nimports = "not the main one"\n',
    ],
)
def test_the_main_file_reads_the_drop_ins_again(main):
    made = registry_trust.with_imports(main)
    table = tomllib.loads(made)
    assert "/etc/containerd/conf.d/*.toml" in table["imports"]
    before = tomllib.loads(main)
    assert set(before.get("imports", [])) <= set(table["imports"])
    assert {**before, "imports": 0} == {**table, "imports": 0} or not main
    assert registry_trust.with_imports(made) == made


async def test_what_containerd_does_not_go_by_is_found_and_repaired():
    shell, log = await host(), []
    shell.put(runtime.CONTAINERD_CONFIG, "version = 3\n")

    def dump(call):
        read = "imports" in shell.text(runtime.CONTAINERD_CONFIG)
        return type(shell.rules[0].ran)(0, DROP_IN if read else "version = 3\n")

    shell.on("containerd config dump", do=dump)
    assert any("config_path" in one for one in await registry_trust.check(shell))
    assert await registry_trust.repair(shell, log=log.append)
    assert shell.text(runtime.CONTAINERD_DROP_IN) == DROP_IN
    assert "systemctl restart containerd.service" in shell.commands()
    assert await registry_trust.check(shell) == []
    assert not await registry_trust.repair(shell, log=log.append)


async def test_a_drop_in_of_others_that_overrides_ours_is_said():
    shell = await host()
    other = DROP_IN.replace("/etc/containerd/certs.d", "/etc/other")
    shell.on("containerd config dump", other)
    with pytest.raises(RuntimeNotStarting) as caught:
        await registry_trust.repair(shell, log=print)
    assert "config_path" in caught.value.data["message"]


@pytest.mark.parametrize("said", ["level=error msg=bad\n", "a = [\n"])
async def test_settings_that_cannot_be_read_are_said(said):
    shell = await host()
    shell.on("containerd config dump", said)
    with pytest.raises(RuntimeUnreadable) as caught:
        await registry_trust.check(shell)
    assert caught.value.data["what"] == "containerd config dump"


@pytest.mark.parametrize("main", [b"imports = [\n", b"# \xff\n"])
async def test_a_main_file_that_is_none_is_left_as_it_is(main):
    shell = await host()
    shell.files[runtime.CONTAINERD_CONFIG] = FakeFile(main)
    shell.on("containerd config dump", "version = 3\n")
    with pytest.raises(RuntimeUnreadable) as caught:
        await registry_trust.repair(shell, log=print)
    assert caught.value.data["what"] == runtime.CONTAINERD_CONFIG
    assert shell.files[runtime.CONTAINERD_CONFIG].content == main
