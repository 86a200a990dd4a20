import gzip
import io
import json
import tarfile

import pytest

from haechi.domains.clusters.bundle import archive
from haechi.testing.bundles import tiny_program

CREATED = "2026-01-01T00:00:00Z"


@pytest.fixture
def program(tmp_path):
    path = tmp_path / "program"
    path.write_bytes(tiny_program("amd64", "hello"))
    return path


def image(*layers, reference="example.org/a/b:1", platform="linux/amd64", at="/bin/program"):
    return archive.NewImage(reference, platform, layers, [at], CREATED, labels={"x": "y"})


def test_an_archive_is_both_formats_over_the_same_blobs(tmp_path, program):
    layer = archive.program_layer({"/bin/program": program}, tmp_path / "layer")
    digests = archive.write(tmp_path / "a.tar", [image(layer)])
    with tarfile.open(tmp_path / "a.tar") as tar:
        index = json.load(tar.extractfile("index.json"))
        (loadable,) = json.load(tar.extractfile("manifest.json"))
        assert json.load(tar.extractfile("oci-layout")) == {"imageLayoutVersion": "1.0.0"}
        config = json.load(tar.extractfile(loadable["Config"]))
        (packed,) = loadable["Layers"]
        content = gzip.decompress(tar.extractfile(packed).read())
    (entry,) = index["manifests"]
    assert entry["digest"] == digests["example.org/a/b:1"]
    assert entry["annotations"]["io.containerd.image.name"] == "example.org/a/b:1"
    assert loadable["RepoTags"] == ["example.org/a/b:1"]
    assert config["rootfs"]["diff_ids"] == [layer.diff_id]
    assert (config["os"], config["architecture"]) == ("linux", "amd64")
    with tarfile.open(fileobj=io.BytesIO(content)) as inside:
        assert inside.getnames() == ["bin", "bin/program"]
        assert inside.getmember("bin/program").mode == 0o755


def test_what_is_written_is_read_again(tmp_path, program):
    layer = archive.program_layer({"/bin/program": program}, tmp_path / "layer")
    two = [image(layer), image(layer, reference="example.org/c:2")]
    digests = archive.write(tmp_path / "a.tar", two)
    found = archive.read(tmp_path / "a.tar")
    assert [one.reference for one in found] == ["example.org/a/b:1", "example.org/c:2"]
    assert [one.digest for one in found] == list(digests.values())
    assert all(one.loadable and one.platform == "linux/amd64" for one in found)
    assert all(one.program.platform == "linux/amd64" and one.program.static for one in found)


def test_the_same_input_gives_the_same_bytes_and_shared_layers_lie_there_once(tmp_path, program):
    content = []
    for number in range(2):
        layer = archive.program_layer({"/bin/program": program}, tmp_path / f"layer-{number}")
        two = [image(layer), image(layer, reference="example.org/c:2")]
        archive.write(tmp_path / f"{number}.tar", two)
        content.append((tmp_path / f"{number}.tar").read_bytes())
    assert content[0] == content[1]
    with tarfile.open(tmp_path / "0.tar") as tar:
        assert tar.getnames().count(f"blobs/sha256/{layer.digest.removeprefix('sha256:')}") == 1


def test_several_programs_in_one_layer(tmp_path, program):
    paths = {"/usr/bin/one": program, "/usr/bin/two": program}
    layer = archive.program_layer(paths, tmp_path / "layer")
    with tarfile.open(layer.file) as tar:
        assert tar.getnames() == ["usr", "usr/bin", "usr/bin/one", "usr/bin/two"]


def test_a_root_file_system_without_manuals_and_devices_and_with_what_we_add(tmp_path):
    root = tmp_path / "root.tar"
    with tarfile.open(root, "w") as tar:
        for name in (
            "./usr/bin/tool",
            "./usr/share/doc/tool/copyright",
            "./usr/share/doc/tool/README",
            "./usr/share/man/man1/tool.1",
            "./var/lib/apt/lists/x",
            "./etc/passwd",
        ):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode, entry.mtime = 3, 0o4755, 12345
            tar.addfile(entry, io.BytesIO(b"abc"))
        for name, kind, link in (
            ("./dev/null", tarfile.CHRTYPE, ""),
            ("./usr/bin/hard", tarfile.LNKTYPE, "./usr/bin/tool"),
            ("./usr/bin/soft", tarfile.SYMTYPE, "tool"),
        ):
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = kind, link
            tar.addfile(entry)
    extras = {
        "etc/passwd": archive.Extra(b"root:x:0:0::/:/bin/sh\n"),
        "run": archive.Extra(folder=True, mode=0o755),
        "usr/bin/also": archive.Extra(link="tool", mode=0o777),
    }
    layer = archive.root_layer(root, extras, tmp_path / "layer")
    with tarfile.open(layer.file) as tar:
        members = {member.name: member for member in tar}
        assert set(members) == {
            *("usr/bin/tool", "usr/bin/hard", "usr/bin/soft", "usr/bin/also"),
            *("usr/share/doc/tool/copyright", "etc/passwd", "run"),
        }
        assert tar.extractfile("etc/passwd").read().startswith(b"root:")
        assert tar.extractfile("usr/bin/hard").read() == b"abc"
        assert members["usr/bin/tool"].mode == 0o4755
        assert members["usr/bin/tool"].mtime == 0
        assert members["usr/bin/soft"].linkname == members["usr/bin/also"].linkname == "tool"
        assert members["run"].isdir()


def rewrite(path, change):
    """The same tar with one change: `change(name, content)` gives new content, None leaves it out."""
    with tarfile.open(path) as tar:
        files = {m.name: tar.extractfile(m).read() for m in tar if m.isfile()}
    with tarfile.open(path, "w") as tar:
        for name, content in files.items():
            changed = change(name, content)
            if changed is None:
                continue
            entry = tarfile.TarInfo(name)
            entry.size = len(changed)
            tar.addfile(entry, io.BytesIO(changed))


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda name, content: None if name == "index.json" else content, "index.json"),
        (lambda name, content: None if name == "manifest.json" else content, "manifest.json"),
        (lambda name, content: b"{" if name == "index.json" else content, "JSON"),
        (lambda name, content: b"{}" if name == "index.json" else content, "manifests"),
        (lambda name, content: content + b"x" if name.startswith("blobs") else content, "digest"),
        (
            lambda name, content: None if len(content) > 200 and "blobs" in name else content,
            "missing",
        ),
    ],
)
def test_a_damaged_archive(tmp_path, program, change, word):
    layer = archive.program_layer({"/bin/program": program}, tmp_path / "layer")
    archive.write(tmp_path / "a.tar", [image(layer)])
    rewrite(tmp_path / "a.tar", change)
    with pytest.raises(archive.ArchiveFault, match=word):
        archive.read(tmp_path / "a.tar")


@pytest.mark.parametrize("content", [b"", b"no tar at all" * 100, b"\0" * 10240])
def test_no_archive(tmp_path, content):
    (tmp_path / "a.tar").write_bytes(content)
    with pytest.raises(archive.ArchiveFault):
        archive.read(tmp_path / "a.tar")


def test_an_archive_that_was_cut_off(tmp_path, program):
    layer = archive.program_layer({"/bin/program": program}, tmp_path / "layer")
    archive.write(tmp_path / "a.tar", [image(layer)])
    content = (tmp_path / "a.tar").read_bytes()
    (tmp_path / "a.tar").write_bytes(content[: len(content) // 3])
    with pytest.raises(archive.ArchiveFault):
        archive.read(tmp_path / "a.tar")


def test_an_entrypoint_that_is_not_there(tmp_path, program):
    layer = archive.program_layer({"/bin/program": program}, tmp_path / "layer")
    archive.write(tmp_path / "a.tar", [image(layer, at="/bin/other")])
    (found,) = archive.read(tmp_path / "a.tar")
    assert found.program is None
