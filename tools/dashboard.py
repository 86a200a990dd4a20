"""Build the dashboard into `src/haechi/web/static`; skips when its sources have not changed.

python3 tools/dashboard.py            build
python3 tools/dashboard.py --check    and run its type check, lint and unit tests
"""

import hashlib
import os
import subprocess
import sys

from provision import cache

SOURCE = cache.CHECKOUT / "dashboard"
STATIC = cache.CHECKOUT / "src" / "haechi" / "web" / "static"
STAMP = STATIC / ".sources"
LEFT_OUT = {"node_modules", "dist", "coverage", ".vite"}
TIMEOUT_S = 600


def sources_digest() -> str:
    digest = hashlib.sha256(cache.NODE_VERSION.encode())
    for path in sorted(SOURCE.rglob("*")):
        inside = path.relative_to(SOURCE)
        if path.is_file() and not LEFT_OUT & set(inside.parts) and path.name != "schema.ts":
            digest.update(f"{inside}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def npm(*args: str) -> None:
    path = f"{cache.path('node-bin')}{os.pathsep}{os.environ['PATH']}"
    command = [str(cache.path("npm")), *args]
    print("$ npm", *args, flush=True)
    subprocess.run(
        command, cwd=SOURCE, env={**os.environ, "PATH": path}, check=True, timeout=TIMEOUT_S
    )


def install() -> None:
    lock = hashlib.sha256((SOURCE / "package-lock.json").read_bytes()).hexdigest()
    stamp = SOURCE / "node_modules" / ".haechi-lock"
    if stamp.exists() and stamp.read_text() == lock:
        return
    npm("ci", "--no-audit", "--no-fund")
    stamp.write_text(lock)


def main() -> int:
    digest = sources_digest()
    check = "--check" in sys.argv[1:]
    built = STAMP.exists() and STAMP.read_text() == digest and (STATIC / "index.html").exists()
    try:
        if check or not built:
            install()
        if check:
            npm("run", "-s", "check")
        if not built:
            npm("run", "-s", "build")
            STAMP.write_text(digest)
    except subprocess.SubprocessError as error:
        print(f"the dashboard could not be built: {error}")
        return 1
    print("dashboard: " + ("ready" if built else "built"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
