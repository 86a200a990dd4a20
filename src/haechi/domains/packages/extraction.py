"""Unpacks an inspected zip into a folder made for it, safely even if the zip were swapped since.

Blocks: call it in a thread. Whatever goes wrong, nothing is left behind.
"""

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final

from haechi.domains.packages.inspection import Limits, Stopped, read_contents
from haechi.domains.packages.zipfile_reader import ZipReader
from haechi.errors import DiskFull

_FOLDER_MODE: Final = 0o755
_PLAIN_MODE: Final = 0o644


def extract(
    zip_path: Path, target: Path, limits: Limits, *, stop: Callable[[], bool] = lambda: False
) -> None:
    """`target` must not exist yet, or be empty."""
    target.mkdir(parents=True, exist_ok=True)
    if any(target.iterdir()):
        raise FileExistsError(target)
    try:
        _extract(zip_path, target, limits, stop)
    except OSError as error:
        shutil.rmtree(target, ignore_errors=True)
        if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
            raise DiskFull(where=str(target.name)) from error
        raise
    except BaseException:
        shutil.rmtree(target, ignore_errors=True)
        raise


def _extract(zip_path: Path, target: Path, limits: Limits, stop: Callable[[], bool]) -> None:
    with ZipReader(zip_path) as zip_file:
        contents = read_contents(zip_file, limits)
        for folder in sorted(contents.folders):
            (target / folder).mkdir(mode=_FOLDER_MODE, exist_ok=True)
        for path, entry in contents.files.items():
            # Links come last, so no part of this path can be one; O_EXCL and O_NOFOLLOW prove it.
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            mode = (entry.mode & 0o755) | 0o600 if entry.mode & 0o777 else _PLAIN_MODE
            with os.fdopen(os.open(target / path, flags, mode), "wb") as file:
                for piece in zip_file.read(entry, path):
                    if stop():
                        raise Stopped
                    file.write(piece)
            (target / path).chmod(mode)
        for path, link_target in contents.targets.items():
            (target / path).symlink_to(link_target)
