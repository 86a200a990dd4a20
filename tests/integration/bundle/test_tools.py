"""What is wrong with a machine that is to make bundles is said with its remedy."""

import stat

import pytest

from haechi.adapters.bundle_debian import DebianMirror
from haechi.adapters.bundle_go import GoCompiler, copy_main
from haechi.domains.clusters.bundle.errors import ToolMissing, ToolTooOld


def fake_go(folder, says, toolchain="auto"):
    path = folder / "go"
    path.write_text(
        f'#!/bin/sh\nif [ "$1" = version ]; then echo "{says}"; else echo {toolchain}; fi\n'
    )
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return GoCompiler(cache=folder / "cache", logs=folder / "logs", program=str(path))


@pytest.mark.parametrize(
    ("says", "toolchain"),
    [
        ("go version go1.26.8 linux/amd64", "local"),
        ("go version go1.27rc1 linux/arm64", "local"),
        ("go version go2.0 linux/arm64", "local"),
        ("go version go1.21.0 linux/amd64", "auto"),  # fetches what go.mod asks for
    ],
)
async def test_a_go_that_will_do(tmp_path, says, toolchain):
    await fake_go(tmp_path, says, toolchain).check("1.26")


@pytest.mark.parametrize(
    ("says", "toolchain"),
    [
        ("go version go1.19.8 linux/amd64", "auto"),
        ("go version go1.25.1 linux/amd64", "local"),
        ("go version devel", "auto"),
    ],
)
async def test_a_go_that_is_too_old(tmp_path, says, toolchain):
    with pytest.raises(ToolTooOld) as refused:
        await fake_go(tmp_path, says, toolchain).check("1.26")
    assert "1.26" in refused.value.problem("en")["detail"]
    assert "1.26" in refused.value.problem("ko")["remedy"]


async def test_no_go_and_no_mmdebstrap(tmp_path):
    with pytest.raises(ToolMissing) as refused:
        await GoCompiler(cache=tmp_path, logs=tmp_path, program="/nowhere/go").check("1.26")
    assert "PATH" in refused.value.problem("en")["remedy"]
    with pytest.raises(ToolMissing) as refused:
        await DebianMirror(logs=tmp_path, program="/nowhere/mmdebstrap").check()
    assert "apt-get install mmdebstrap" in refused.value.problem("ko")["remedy"]


def test_a_main_package_without_some_of_its_imports(tmp_path):
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    (source / "main.go").write_text(
        'package main\n\nimport (\n\t_ "a/one"\n\t_ "a/two"\n\t"a/two/three"\n)\n'
    )
    (source / "main_test.go").write_text("package main\n")
    (source / "go.mod").write_text("module a\n")
    copy_main(source, target, ["a/two"])
    assert [path.name for path in target.iterdir()] == ["main.go"]
    text = (target / "main.go").read_text()
    assert text == 'package main\n\nimport (\n\t_ "a/one"\n\t"a/two/three"\n)\n'


async def test_what_is_asked_of_mmdebstrap(tmp_path):
    """Its command line, and that packages come out under names that apt's index can hold."""
    program = tmp_path / "mmdebstrap"
    program.write_text(
        "#!/bin/sh\n"
        f'printf "%s\\n" "$@" > {tmp_path}/asked\n'
        f"mkdir {tmp_path}/target/archives\n"
        f"touch {tmp_path}/target/archives/x_1%3a2_amd64.deb {tmp_path}/target/archives/lock\n"
    )
    program.chmod(0o755)
    (tmp_path / "target").mkdir()
    mirror = DebianMirror(logs=tmp_path, mirror="http://127.0.0.1:9/debian", program=str(program))
    await mirror.packages(
        ["runc", "kmod"],
        suite="bookworm",
        arch="arm64",
        target=tmp_path / "target",
        on_line=lambda _: None,
    )
    asked = (tmp_path / "asked").read_text().splitlines()
    assert {"--variant=extract", "--architectures=arm64", "--include=runc,kmod"} <= set(asked)
    assert asked[-3:] == ["bookworm", "/dev/null", "http://127.0.0.1:9/debian"]
    assert [path.name for path in (tmp_path / "target").iterdir()] == ["x_2_amd64.deb"]
