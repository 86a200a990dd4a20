"""Makes the zip of an example package: its files, the SDK and, where it has any, the weights.

    python examples/pack.py person-detector --weights nanodet.onnx -o person-detector.zip

The same files give the same bytes (fixed order, dates and rights, nothing compressed), so the
digest of a package says whether anything changed. `--set KEY=VALUE` changes a default of
`[environment]` in haechi.toml: another version of the package with another behaviour.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
import zipfile
from pathlib import Path

PACKAGES = Path(__file__).parent / "packages"
SDK = Path(__file__).parents[1] / "src" / "haechi" / "sdk" / "__init__.py"
WEIGHTS = {"person-detector": "nanodet.onnx"}
_DATE = (1980, 1, 1, 0, 0, 0)
_LEFT_OUT = {"__pycache__", ".DS_Store"}


def pack(
    name: str,
    out: Path,
    *,
    weights: Path | None = None,
    environment: dict[str, str] | None = None,
) -> str:
    """Write the zip of example `name` to `out`; returns its sha256."""
    folder = PACKAGES / name
    if not folder.is_dir():
        known = ", ".join(sorted(p.name for p in PACKAGES.iterdir() if p.is_dir()))
        raise SystemExit(f"no example {name!r}; there are: {known}")
    files = {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not _LEFT_OUT & set(path.relative_to(folder).parts)
    }
    if b"haechi_sdk" in files["Dockerfile"]:
        files["haechi_sdk.py"] = SDK.read_bytes()
    if name in WEIGHTS:
        if weights is None:
            raise SystemExit(f"{name} needs --weights (an ONNX file; make setup produces it)")
        files[WEIGHTS[name]] = weights.read_bytes()
    for key, value in (environment or {}).items():
        files["haechi.toml"] = _with_environment(files["haechi.toml"], key, value)
    _write(out, files)
    return hashlib.sha256(out.read_bytes()).hexdigest()


def _with_environment(manifest: bytes, key: str, value: str) -> bytes:
    line = f"{key} = {json.dumps(value, ensure_ascii=False)}"
    text, count = re.subn(
        rf"(?m)^{re.escape(key)} *=.*$", lambda _: line, manifest.decode(), count=1
    )
    if not count:
        raise SystemExit(f"{key} is not in [environment] of haechi.toml")
    return text.encode()


def _write(out: Path, files: dict[str, bytes]) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_name(out.name + ".part")
    with zipfile.ZipFile(part, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, _DATE)
            entry.create_system = 3
            entry.external_attr = 0o100644 << 16
            archive.writestr(entry, files[name])
    part.replace(out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("name", help="folder under examples/packages")
    parser.add_argument("--weights", type=Path, help="the model's ONNX file")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="sets")
    parser.add_argument("-o", "--out", type=Path, help="default: NAME.zip")
    given = parser.parse_args()
    out = given.out or Path(f"{given.name}.zip")
    environment = dict(one.split("=", 1) for one in given.sets)
    digest = pack(given.name, out, weights=given.weights, environment=environment)
    print(f"{out} {out.stat().st_size} bytes sha256:{digest}", file=sys.stderr)


if __name__ == "__main__":
    main()
