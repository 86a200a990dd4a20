"""Image archives: written without any daemon, read again for verification.

One tar is two formats at once over the same blobs: an OCI layout (`oci-layout`, `index.json`) for
containerd, and `manifest.json` for `docker load` and podman. Shared layers lie in it once.
Sources: OCI image-spec 1.1 (layout, manifest, config); Docker image spec 1.2 (`manifest.json`);
containerd's annotation `io.containerd.image.name`. Same input, same bytes.
"""

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Any, Final

from haechi.domains.clusters.bundle import elf

LAYER_TYPE: Final = "application/vnd.oci.image.layer.v1.tar+gzip"
CONFIG_TYPE: Final = "application/vnd.oci.image.config.v1+json"
MANIFEST_TYPE: Final = "application/vnd.oci.image.manifest.v1+json"
INDEX_TYPE: Final = "application/vnd.oci.image.index.v1+json"
NAME_NOTE: Final = "io.containerd.image.name"
TAG_NOTE: Final = "org.opencontainers.image.ref.name"
PATH: Final = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_CHUNK: Final = 1024 * 1024
_MAX_JSON: Final = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Layer:
    file: Path
    """Gzipped tar."""
    digest: str
    diff_id: str
    """Of the tar inside."""
    size_bytes: int

    def as_json(self) -> dict[str, Any]:
        return {"digest": self.digest, "diff_id": self.diff_id, "size_bytes": self.size_bytes}


@dataclass(frozen=True, slots=True)
class NewImage:
    reference: str
    platform: str
    layers: Sequence[Layer]
    entrypoint: Sequence[str]
    created: str
    user: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Extra:
    """A file, link or folder that is put into a root file system."""

    content: bytes = b""
    link: str = ""
    folder: bool = False
    mode: int = 0o644

    @property
    def kind(self) -> bytes:
        if self.folder:
            return tarfile.DIRTYPE
        return tarfile.SYMTYPE if self.link else tarfile.REGTYPE


class _Digesting:
    """A writer that remembers what went through."""

    def __init__(self, raw: IO[bytes]) -> None:
        self._raw = raw
        self.sha256 = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes) -> int:
        self.sha256.update(data)
        self.size += len(data)
        return self._raw.write(data)

    def flush(self) -> None:
        self._raw.flush()

    @property
    def digest(self) -> str:
        return f"sha256:{self.sha256.hexdigest()}"


@contextmanager
def _layer(target: Path) -> Iterator[tuple[tarfile.TarFile, list[Layer]]]:
    """A tar to fill; its Layer is in the list afterwards."""
    made: list[Layer] = []
    with target.open("wb") as raw:
        outside = _Digesting(raw)
        with gzip.GzipFile("", "wb", 6, outside, mtime=0) as packed:
            inside = _Digesting(packed)  # type: ignore[arg-type]
            with tarfile.open(mode="w|", fileobj=inside, format=tarfile.PAX_FORMAT) as tar:  # type: ignore[call-overload]
                yield tar, made
        made.append(Layer(target, outside.digest, inside.digest, outside.size))


def program_layer(programs: Mapping[str, Path], target: Path) -> Layer:
    """Static programs by their paths in the image, and the folders that lead to them."""
    with _layer(target) as (tar, made):
        folders: set[PurePosixPath] = set()
        for at, program in programs.items():
            path = PurePosixPath(at.lstrip("/"))
            for parent in reversed(path.parents[:-1]):
                if parent not in folders:
                    tar.addfile(_entry(str(parent), tarfile.DIRTYPE, 0o755))
                    folders.add(parent)
            entry = _entry(str(path), tarfile.REGTYPE, 0o755)
            entry.size = program.stat().st_size
            with program.open("rb") as source:
                tar.addfile(entry, source)
    return made[0]


def root_layer(root: Path, extras: Mapping[str, Extra], target: Path) -> Layer:
    """A root file system's tar as a layer: without device nodes, manuals and caches (copyright
    texts stay), with `extras` in place of what lies at their paths.
    """
    with _layer(target) as (tar, made), tarfile.open(root) as source:
        for member in source:
            path = member.name.removeprefix("./").strip("/")
            if not _kept(path, member) or path in extras:
                continue
            entry = _entry(path, member.type, member.mode)
            entry.linkname = (
                member.linkname.removeprefix("./") if member.islnk() else (member.linkname)
            )
            entry.uid, entry.gid, entry.size = member.uid, member.gid, member.size
            tar.addfile(entry, source.extractfile(member) if member.isreg() else None)
        for path, extra in sorted(extras.items()):
            entry = _entry(path, extra.kind, extra.mode)
            entry.linkname = extra.link
            entry.size = len(extra.content)
            tar.addfile(entry, io.BytesIO(extra.content))
    return made[0]


def _kept(path: str, member: tarfile.TarInfo) -> bool:
    if not path or member.ischr() or member.isblk() or member.isfifo():
        return False
    if path.startswith("usr/share/doc/"):
        return member.isdir() or path.endswith("/copyright")
    left_out = ("usr/share/man/", "usr/share/locale/", "usr/share/info/", "var/lib/apt/")
    return not path.startswith((*left_out, "var/cache/apt/", "var/log/"))


def _entry(name: str, kind: bytes, mode: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode = kind, mode & 0o7777
    return entry


def write(target: Path, images: Iterable[NewImage]) -> dict[str, str]:
    """Write the archive; returns reference → manifest digest."""
    index: list[dict[str, Any]] = []
    loadable: list[dict[str, Any]] = []
    digests: dict[str, str] = {}
    there: set[str] = set()
    with tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as tar:
        for name in ("blobs", "blobs/sha256"):
            tar.addfile(_entry(name, tarfile.DIRTYPE, 0o755))
        for image in images:
            for layer in image.layers:
                if layer.digest not in there:
                    entry = _entry(_blob(layer.digest), tarfile.REGTYPE, 0o644)
                    entry.size = layer.size_bytes
                    with layer.file.open("rb") as source:
                        tar.addfile(entry, source)
                    there.add(layer.digest)
            config = _put(tar, there, _config(image))
            manifest = _put(tar, there, _manifest(image, config))
            system, arch = image.platform.split("/")
            index.append(
                {
                    "mediaType": MANIFEST_TYPE,
                    "digest": manifest.digest,
                    "size": manifest.size,
                    "platform": {"architecture": arch, "os": system},
                    "annotations": {
                        NAME_NOTE: image.reference,
                        TAG_NOTE: image.reference.rpartition(":")[2],
                    },
                }
            )
            loadable.append(
                {
                    "Config": _blob(config.digest),
                    "RepoTags": [image.reference],
                    "Layers": [_blob(layer.digest) for layer in image.layers],
                }
            )
            digests[image.reference] = manifest.digest
        _add(
            tar,
            "index.json",
            _json({"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": index}),
        )
        _add(tar, "manifest.json", _json(loadable))
        _add(tar, "oci-layout", _json({"imageLayoutVersion": "1.0.0"}))
    return digests


@dataclass(frozen=True, slots=True)
class _Blob:
    digest: str
    size: int


def _config(image: NewImage) -> bytes:
    system, arch = image.platform.split("/")
    settings: dict[str, Any] = {"Env": [PATH], "Entrypoint": list(image.entrypoint)}
    if image.user:
        settings["User"] = image.user
    if image.labels:
        settings["Labels"] = dict(image.labels)
    return _json(
        {
            "created": image.created,
            "architecture": arch,
            "os": system,
            "config": settings,
            "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in image.layers]},
            "history": [
                {"created": image.created, "created_by": "haechi bundle create"}
                for _ in image.layers
            ],
        }
    )


def _manifest(image: NewImage, config: _Blob) -> bytes:
    return _json(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": {"mediaType": CONFIG_TYPE, "digest": config.digest, "size": config.size},
            "layers": [
                {"mediaType": LAYER_TYPE, "digest": layer.digest, "size": layer.size_bytes}
                for layer in image.layers
            ],
        }
    )


def _put(tar: tarfile.TarFile, there: set[str], content: bytes) -> _Blob:
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    if digest not in there:
        _add(tar, _blob(digest), content)
        there.add(digest)
    return _Blob(digest, len(content))


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = _entry(name, tarfile.REGTYPE, 0o644)
    entry.size = len(content)
    tar.addfile(entry, io.BytesIO(content))


def _json(document: Any) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


def _blob(digest: str) -> str:
    return f"blobs/sha256/{digest.removeprefix('sha256:')}"


# --- reading


class ArchiveFault(Exception):
    """What is wrong with an archive, in a few words."""


@dataclass(frozen=True, slots=True)
class FoundImage:
    reference: str
    digest: str
    platform: str
    program: elf.Elf | None
    """The entrypoint's; None where it is no ELF program."""
    loadable: bool
    """`manifest.json` names the same configuration under the same reference."""


def read(path: Path) -> list[FoundImage]:
    """Every image in an archive, all blobs checked against their digests. Raises ArchiveFault."""
    try:
        with tarfile.open(path, "r:") as tar:
            members = {member.name: member for member in tar if member.isfile()}
            for name, member in members.items():
                if name.startswith("blobs/sha256/"):
                    _check_blob(tar, member)
            index = _load(tar, members, "index.json")
            loadable = {
                tag: entry["Config"]
                for entry in _load(tar, members, "manifest.json")
                for tag in entry["RepoTags"]
            }
            return [_read_image(tar, members, entry, loadable) for entry in index["manifests"]]
    except (tarfile.TarError, OSError, EOFError) as error:
        raise ArchiveFault(str(error)[:200] or type(error).__name__) from error
    except (KeyError, TypeError, ValueError) as error:
        raise ArchiveFault(f"{type(error).__name__}: {error}"[:200]) from error


def _read_image(
    tar: tarfile.TarFile,
    members: Mapping[str, tarfile.TarInfo],
    entry: Mapping[str, Any],
    loadable: Mapping[str, str],
) -> FoundImage:
    manifest = _load(tar, members, _blob(entry["digest"]))
    config = _load(tar, members, _blob(manifest["config"]["digest"]))
    for layer in manifest["layers"]:
        if _blob(layer["digest"]) not in members:
            raise ArchiveFault(f"layer {layer['digest']} is missing")
    if len(config["rootfs"]["diff_ids"]) != len(manifest["layers"]):
        raise ArchiveFault("layers and diff_ids differ in number")
    reference = entry["annotations"][NAME_NOTE]
    top = members[_blob(manifest["layers"][-1]["digest"])]
    return FoundImage(
        reference=reference,
        digest=entry["digest"],
        platform=f"{config['os']}/{config['architecture']}",
        program=_program(tar, top, config["config"]["Entrypoint"][0]),
        loadable=loadable.get(reference) == _blob(manifest["config"]["digest"]),
    )


def _program(tar: tarfile.TarFile, layer: tarfile.TarInfo, at: str) -> elf.Elf | None:
    opened = tar.extractfile(layer)
    assert opened is not None
    with tarfile.open(fileobj=opened, mode="r|gz") as inside:
        for member in inside:
            if member.name == at.lstrip("/"):
                found = inside.extractfile(member)
                return elf.read(found.read(elf.HEAD_BYTES)) if found else None
    return None


def _check_blob(tar: tarfile.TarFile, member: tarfile.TarInfo) -> None:
    opened = tar.extractfile(member)
    assert opened is not None
    found = hashlib.sha256()
    while piece := opened.read(_CHUNK):
        found.update(piece)
    if found.hexdigest() != PurePosixPath(member.name).name:
        raise ArchiveFault(f"{member.name} has other bytes than its digest says")


def _load(tar: tarfile.TarFile, members: Mapping[str, tarfile.TarInfo], name: str) -> Any:
    if name not in members:
        raise ArchiveFault(f"{name} is missing")
    if members[name].size > _MAX_JSON:
        raise ArchiveFault(f"{name} is too large")
    opened = tar.extractfile(members[name])
    assert opened is not None
    return json.loads(opened.read())
