"""The media process: chooses a relay, starts everything, ends on SIGTERM."""

import asyncio
import contextlib
import logging
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal

from haechi.media.control import Control
from haechi.media.gate import Hall, RtspHall, Visitors
from haechi.media.go2rtc import Go2rtc, find_binary
from haechi.media.relay import Relay
from haechi.media.service import Media

log = logging.getLogger(__name__)

LOG_FORMAT: Final = "%(asctime)s %(levelname)s %(name)s: %(message)s"
Backend = Literal["auto", "go2rtc", "pyav"]


class NoRelay(Exception):
    """The relay that was asked for is not on this machine."""


def relay_for(
    folder: Path, backend: Backend, go2rtc: Path | None
) -> tuple[Relay, Callable[[Visitors], Hall]]:
    """go2rtc where there is a binary, else the relay of this process."""
    binary = None if backend == "pyav" else go2rtc or find_binary()
    if binary is not None:
        relay = Go2rtc(binary, folder)
        return relay, lambda visitors: RtspHall(visitors, lambda: relay.inner_port)
    if backend == "go2rtc":
        raise NoRelay("there is no go2rtc binary: set HAECHI_GO2RTC to its path")
    from haechi.media.pyav_relay import HttpHall, PyavRelay

    own = PyavRelay()
    return own, lambda visitors: HttpHall(visitors, own)


async def serve(
    data_dir: Path,
    *,
    backend: Backend = "auto",
    go2rtc: Path | None = None,
    ended: asyncio.Event | None = None,
) -> None:
    """Run until `ended`, or until SIGTERM or SIGINT where it is not given."""
    _make_private(data_dir)
    relay, hall_of = relay_for(data_dir, backend, go2rtc)
    media = Media(data_dir, relay, hall_of)
    control = Control(media, data_dir)
    if ended is None:
        ended = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, ended.set)
    try:
        await media.start()
        await control.start()
        log.info("media is ready (%s)", relay.backend)
        await ended.wait()
    finally:
        await control.stop()
        await media.stop()


def _make_private(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)


def run(data_dir: Path, backend: Backend | str = "auto", *, go2rtc: Path | None = None) -> int:
    """Entry of `haechi media`: the exit code. Logs to stderr unless the caller set that up."""
    logging.basicConfig(level=logging.INFO, format=LOG_FORMAT)
    chosen: Backend = "go2rtc" if backend == "go2rtc" else "pyav" if backend == "pyav" else "auto"
    try:
        asyncio.run(serve(data_dir, backend=chosen, go2rtc=go2rtc))
    except NoRelay as e:
        log.error("%s", e)  # noqa: TRY400 - not a bug, no traceback
        return 2
    except KeyboardInterrupt:
        pass
    with contextlib.suppress(OSError):
        (data_dir / "media.sock").unlink()
    return 0
