import gzip
import lzma
import tracemalloc

import pytest

from haechi.domains.clusters.bundle import debs
from haechi.testing.bundles import tiny_deb


def test_what_a_package_says_of_itself(tmp_path):
    path = tmp_path / "haproxy_2_amd64.deb"
    path.write_bytes(tiny_deb("haproxy", "amd64", depends="libc6 (>= 2.34), a:any | b [arm64]"))
    deb = debs.read(path)
    assert (deb.name, deb.arch, deb.file) == ("haproxy", "amd64", path.name)
    assert deb.needs == [["libc6"], ["a", "b"]]
    assert deb.fields["Description"].endswith("\n more of it")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("a", [["a"]]),
        ("a (= 1.0-1), b (<< 2)|c, d:any", [["a"], ["b", "c"], ["d"]]),
        ("a,\n b", [["a"], ["b"]]),
    ],
)
def test_dependencies(text, expected):
    assert debs.clauses(text) == expected


def test_the_index_of_a_folder(tmp_path):
    for name in ("b", "a"):
        (tmp_path / f"{name}_1_all.deb").write_bytes(tiny_deb(name, "all"))
    stanzas = debs.index(tmp_path).split("\n\n")
    assert [stanza.splitlines()[0] for stanza in stanzas] == ["Package: a", "Package: b"]
    size = (tmp_path / "a_1_all.deb").stat().st_size
    assert f"Filename: ./a_1_all.deb\nSize: {size}\nSHA256: " in stanzas[0]


def test_what_is_not_met(tmp_path):
    packages = {"a": "b (>= 1), virtual", "b": "nowhere | elsewhere", "c": ""}
    for name, depends in packages.items():
        (tmp_path / f"{name}.deb").write_bytes(tiny_deb(name, "all", depends=depends))
    found = [debs.read(path) for path in tmp_path.glob("*.deb")]
    assert debs.unmet(found) == {"a": ["virtual"], "b": ["nowhere | elsewhere"]}


def test_file_names_without_epoch():
    assert debs.plain_name("x_1%3a2.3-4_amd64.deb") == "x_2.3-4_amd64.deb"
    assert debs.plain_name("x_2.3-4+b1_amd64.deb") == "x_2.3-4+b1_amd64.deb"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK\x03\x04",
        b"!<arch>\n",
        b"!<arch>\nshort",
        tiny_deb("a", "all")[:100],
        tiny_deb("a", "all").replace(b"control.tar.xz", b"control.tar.zz"),
        tiny_deb("a", "all")[:150] + b"\0" * 200,
    ],
)
def test_no_package(tmp_path, content):
    path = tmp_path / "x.deb"
    path.write_bytes(content)
    with pytest.raises(debs.DebFault):
        debs.read(path)


BIG = 40_000_000


@pytest.mark.parametrize("pack", ["xz", "gz"])
def test_a_control_file_that_unpacks_without_end_is_refused(tmp_path, pack):
    """A few kilobytes that would be tens of megabytes."""
    content = bytes(BIG)
    control = lzma.compress(content, preset=0) if pack == "xz" else gzip.compress(content)
    assert len(control) < 100_000
    path = tmp_path / "a.deb"
    path.write_bytes(of_control(f"control.tar.{pack}", control))
    tracemalloc.start()
    try:
        with pytest.raises(debs.DebFault, match="too large"):
            debs.read(path)
        assert tracemalloc.get_traced_memory()[1] < BIG
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("pack", ["xz", "gz"])
def test_a_packed_control_file_that_is_cut_off_is_refused(tmp_path, pack):
    content = lzma.compress(b"x" * 5000) if pack == "xz" else gzip.compress(b"x" * 5000)
    path = tmp_path / "a.deb"
    path.write_bytes(of_control(f"control.tar.{pack}", content[:-8]))
    with pytest.raises(debs.DebFault):
        debs.read(path)


def of_control(name, content):
    header = f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(content):<10}`\n"
    return b"!<arch>\n" + header.encode() + content + b"\n" * (len(content) % 2)


def test_an_old_way_of_packing(tmp_path):
    """control.tar.gz, as packages of other makers still have it."""
    deb = tiny_deb("a", "all")
    start = deb.index(b"control.tar.xz")
    size = int(deb[start + 48 : start + 58])
    control = gzip.compress(lzma.decompress(deb[start + 60 : start + 60 + size]))
    header = f"{'control.tar.gz':<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(control):<10}`\n"
    path = tmp_path / "a.deb"
    path.write_bytes(b"!<arch>\n" + header.encode() + control)
    assert debs.read(path).name == "a"
