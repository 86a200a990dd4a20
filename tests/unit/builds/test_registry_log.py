"""The registry's log is kept small while the registry holds it open."""

from haechi.adapters import registry_process
from haechi.adapters.registry_process import RegistryChildren
from haechi.core.clock import SystemClock


def test_a_log_that_grew_is_emptied_under_its_writer(tmp_path, monkeypatch):
    monkeypatch.setattr(registry_process, "LOG_LIMIT_BYTES", 100)
    children = RegistryChildren(
        binary="none",
        directory=tmp_path,
        pull_listen="127.0.0.1:1",
        push_listen="127.0.0.1:2",
        tls=lambda: None,
        clock=SystemClock(),
    )
    children.trim_log()  # nothing is there yet
    log = tmp_path / "registry.log"
    with log.open("ab") as child:
        child.write(b"short\n")
        child.flush()
        children.trim_log()
        assert log.read_bytes() == b"short\n"
        child.write(b"x" * 200)
        child.flush()
        children.trim_log()
        child.write(b"after\n")
        child.flush()
    assert log.read_bytes() == b"after\n"
    assert (tmp_path / "registry.log.1").read_bytes() == b"short\n" + b"x" * 200
