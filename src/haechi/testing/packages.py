"""Zips of AI packages, good and bad, made in memory: for tests, demonstrations and integrators.

Every function returns the bytes of a zip. The same arguments give the same bytes. The good ones
need nothing but a Python base image: they build in a second.
"""

import io
import json
import zipfile
from importlib import resources
from textwrap import dedent
from typing import Final

BASE: Final = "python:3.11-slim"
_DATE: Final = (1980, 1, 1, 0, 0, 0)
_LINK: Final = 0o120777 << 16
_FILE: Final = 0o100644 << 16

Content = str | bytes


def zip_of(files: dict[str, Content], *, compress: bool = False) -> bytes:
    """A zip with these files in this order."""
    return _zip([(name, content, _FILE) for name, content in files.items()], compress=compress)


def _zip(entries: list[tuple[str, Content, int]], *, compress: bool = False) -> bytes:
    method = zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, content, attributes in entries:
            entry = zipfile.ZipInfo(name, _DATE)
            entry.filename = name  # ZipInfo would tidy the name; the bad ones must stay bad
            entry.create_system = 3
            entry.external_attr = attributes
            entry.compress_type = method
            archive.writestr(entry, content)
    return out.getvalue()


def sdk_source() -> str:
    """The SDK as it is vendored into a package."""
    return resources.files("haechi.sdk").joinpath("__init__.py").read_text(encoding="utf-8")


def _manifest(
    name: str, *, camera: str, ready: str, within_s: int = 120, **environment: str
) -> str:
    lines = [f"{key} = {json.dumps(value)}" for key, value in environment.items()]
    return "\n".join(
        [
            f'[package]\nname = "{name}"\n',
            f'[needs]\ncamera = "{camera}"\nmemory_mb = 64\n',
            f'[health]\nready = "{ready}"\nwithin_s = {within_s}\n',
            "[environment]",
            *lines,
            "",
        ]
    )


def _python(script: str, *, base: str = BASE, sdk: bool = False) -> dict[str, Content]:
    copied = "main.py haechi_sdk.py" if sdk else "main.py"
    files: dict[str, Content] = {
        "Dockerfile": dedent(f"""\
            FROM {base}
            ENV PYTHONUNBUFFERED=1
            WORKDIR /app
            COPY {copied} ./
            CMD ["python3", "main.py"]
            """),
        "main.py": dedent(script),
    }
    return files | ({"haechi_sdk.py": sdk_source()} if sdk else {})


# --- good ones


def posting(name: str = "poster", *, version: str = "1", every_s: float = 0.2) -> bytes:
    """Says a whole-frame class for each of its cameras (or for none), again and again."""
    script = f"""\
        import threading
        from haechi_sdk import Haechi

        haechi = Haechi()
        cameras = {{}}

        def listen():
            for change in haechi.assignments():
                if change.kind == "stopped":
                    cameras.pop(change.assignment.camera_id, None)
                else:
                    cameras[change.assignment.camera_id] = change.assignment

        threading.Thread(target=listen, daemon=True).start()
        haechi.ready()
        print("version {version} is running")
        while not haechi.wait({every_s}):
            for assignment in list(cameras.values()) or [None]:
                haechi.result(
                    assignment, name="tick", prob=0.9, attributes={{"version": "{version}"}}
                )
        haechi.close()
        """
    manifest = _manifest(name, camera="many", ready="sdk", POSTER_EVERY_S=str(every_s))
    return zip_of(_python(script, sdk=True) | {"haechi.toml": manifest})


def sleeping(name: str = "sleeper", *, version: str = "1") -> bytes:
    """Runs and does nothing: proven by its uptime, as plain packages are."""
    script = f"""\
        import signal, sys, time
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        print("version {version} is running")
        while True:
            time.sleep(1)
        """
    return zip_of(_python(script) | {"haechi.toml": _manifest(name, camera="none", ready="uptime")})


def without_manifest(name: str = "main.py") -> bytes:
    """A plain package of the old days: Dockerfile and code, nothing else."""
    del name
    return zip_of(_python("import time\nwhile True: time.sleep(1)\n"))


def in_one_folder(folder: str = "my_package") -> bytes:
    """Everything below one top folder, beside what a Mac leaves in a zip."""
    files: dict[str, Content] = {f"{folder}/{n}": c for n, c in _python("print('hello')").items()}
    junk: dict[str, Content] = {
        f"__MACOSX/{folder}/._main.py": b"\0",
        f"{folder}/.DS_Store": b"\0",
        f"{folder}/._Dockerfile": b"\0",
    }
    return zip_of(junk | files)


def with_folder_in_copy(folder: str = "my_package") -> bytes:
    """Its Dockerfile copies by paths that include the folder's name."""
    files = _python("print('hello')")
    dockerfile = str(files["Dockerfile"]).replace("COPY main.py", f"COPY {folder}/main.py")
    return zip_of({f"{folder}/Dockerfile": dockerfile, f"{folder}/main.py": files["main.py"]})


def with_backslashes() -> bytes:
    """Written by a Windows tool that separates by backslashes."""
    files = _python("print('hello')")
    return zip_of({"pkg\\Dockerfile": files["Dockerfile"], "pkg\\main.py": files["main.py"]})


def with_cp949_names(name: str = "한글이름.txt") -> bytes:
    """A Korean file name in cp949 without the UTF-8 flag, as Windows in Korea writes it."""
    placeholder = "x" * len(name.encode("cp949"))
    data = zip_of(_python("print('hello')") | {placeholder: b"content"})
    return data.replace(placeholder.encode(), name.encode("cp949"))


# --- those that build but do not work


def crashing(name: str = "crasher", *, after_s: float = 0.5, ready: str = "uptime") -> bytes:
    """Ends with an error after a moment, every time it is started."""
    script = f"""\
        import sys, time
        print("starting")
        time.sleep({after_s})
        print("cannot go on: the model file is damaged", file=sys.stderr)
        sys.exit(3)
        """
    return zip_of(_python(script) | {"haechi.toml": _manifest(name, camera="none", ready=ready)})


def crashing_monitoring(*, after_s: float = 0.5) -> bytes:
    """A broken next version of the example package `monitoring`: it must be rolled back."""
    return crashing("monitoring", after_s=after_s)


def never_ready(name: str = "never-ready", *, within_s: int = 3) -> bytes:
    """Runs well but never says `ready()`."""
    script = """\
        import signal, sys, time
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        print("still loading the model")
        while True:
            time.sleep(1)
        """
    manifest = _manifest(name, camera="none", ready="sdk", within_s=within_s)
    return zip_of(_python(script) | {"haechi.toml": manifest})


# --- those that do not build


def failing_build() -> bytes:
    """A step of the Dockerfile fails and says why."""
    return zip_of({"Dockerfile": f'FROM {BASE}\nRUN echo "no such library: libfoo" >&2; exit 7\n'})


def endless_build() -> bytes:
    """A step that never ends: for time limits and cancelling."""
    return zip_of({"Dockerfile": f"FROM {BASE}\nRUN echo started; sleep 3600\n"})


def missing_base(image: str = "nvcr.example/nothing:1.0") -> bytes:
    """Needs a base image that is nowhere."""
    return zip_of({"Dockerfile": f'FROM {image}\nCMD ["true"]\n'})


def with_syntax_line() -> bytes:
    """Its first line would have BuildKit fetch a frontend from a public registry."""
    files = _python("print('hello')")
    return zip_of(files | {"Dockerfile": f"# syntax=docker/dockerfile:1\n{files['Dockerfile']!s}"})


# --- those that must be refused before anything is unpacked


def without_dockerfile() -> bytes:
    return zip_of({"main.py": "print('hello')\n", "README.md": "no Dockerfile here\n"})


def two_dockerfiles() -> bytes:
    """Two that are equally deep: nobody can say which is meant."""
    return zip_of({"a/Dockerfile": f"FROM {BASE}\n", "b/Dockerfile": f"FROM {BASE}\n"})


def with_traversal(path: str = "../../etc/cron.d/evil") -> bytes:
    return zip_of(_python("print('hello')") | {path: "evil"})


def with_absolute_path() -> bytes:
    return with_traversal("/etc/cron.d/evil")


def with_link(target: str = "../../../etc/shadow") -> bytes:
    """A symbolic link that leads out of the tree."""
    entries = [(name, content, _FILE) for name, content in _python("print('hello')").items()]
    return _zip([*entries, ("secrets.txt", target, _LINK)])


def with_everything_wrong() -> bytes:
    """Several problems at once: a good answer names them all."""
    return _zip(
        [
            ("main.py", "print('hello')\n", _FILE),
            ("../outside.py", "evil", _FILE),
            ("/etc/absolute", "evil", _FILE),
            ("shadow", "/etc/shadow", _LINK),
        ]
    )


def bomb(unpacked_bytes: int = 1024**3) -> bytes:
    """Small outside, huge inside: one file of zeros."""
    return _zip_of_zeros(unpacked_bytes, files=1)


def many_files(count: int = 60_000) -> bytes:
    """More entries than a package may have."""
    files: dict[str, Content] = dict(_python("print('hello')"))
    return zip_of(files | {f"data/{number}": b"" for number in range(count)})


def overlapping_bomb(copies: int = 200, unpacked_bytes: int = 64 * 1024**2) -> bytes:
    """Like 42.zip's successor: many directory entries that point to the same compressed data."""
    data = _zip_of_zeros(unpacked_bytes, files=1)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        directory_at = archive.start_dir
        (entry,) = [e for e in archive.infolist() if e.filename == "zeros0"]
        count = len(archive.infolist())
    directory, end = data[directory_at:-22], bytearray(data[-22:])
    record = directory[directory.index(b"zeros0") - 46 :][: 46 + len(entry.filename)]
    more = b"".join(
        record[:46] + f"{number:06d}".encode()
        for number in range(copies)
        if len(f"{number:06d}") == len(entry.filename)
    )
    total = (count + copies).to_bytes(2, "little")
    end[8:10], end[10:12] = total, total
    end[12:16] = (len(directory) + len(more)).to_bytes(4, "little")
    return data[:directory_at] + directory + more + bytes(end)


def _zip_of_zeros(unpacked_bytes: int, *, files: int) -> bytes:
    chunk = bytes(1024 * 1024)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in _python("print('hello')").items():
            archive.writestr(zipfile.ZipInfo(name, _DATE), content)
        for number in range(files):
            entry = zipfile.ZipInfo(f"zeros{number}", _DATE)
            entry.compress_type = zipfile.ZIP_DEFLATED
            with archive.open(entry, "w", force_zip64=unpacked_bytes >= 2**31) as handle:
                for _ in range(unpacked_bytes // len(chunk)):
                    handle.write(chunk)
    return out.getvalue()


def encrypted() -> bytes:
    """Every entry claims to be encrypted."""
    data = bytearray(zip_of(_python("print('hello')")))
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = data.find(signature)
        while at >= 0:
            data[at + offset] |= 1
            at = data.find(signature, at + 4)
    return bytes(data)


def truncated() -> bytes:
    """The upload broke off in the middle."""
    data = sleeping()
    return data[: len(data) // 2]


def not_a_zip() -> bytes:
    return b"\x1f\x8b this is no zip at all" * 100
