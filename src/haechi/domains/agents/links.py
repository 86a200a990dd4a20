"""All links: who may come in, what their frames lead to, and one ticker for pings and judgement.

A thousand agents cost one timer, not a thousand, and it waits for nothing: no disk and no agent.
Nothing an agent sends can raise beyond its own link.
"""

import asyncio
import logging
from typing import Final

from haechi.core.bus import Bus
from haechi.core.clock import Clock, to_ms, to_text
from haechi.core.db import Database
from haechi.core.tasks import Tasks
from haechi.domains.agents.clocks import Clocks
from haechi.domains.agents.desired import DesiredStates
from haechi.domains.agents.judging import Judging
from haechi.domains.agents.link import BadFrame, Link, decode_frame
from haechi.domains.agents.model import (
    AlreadyConnected,
    CloneFound,
    NoFirstWord,
    NotConnected,
    TooNew,
    TooOld,
    WrongDevice,
)
from haechi.domains.agents.ports import (
    Directory,
    ResultsHandler,
    ResultsListener,
    SamplesHandler,
    Socket,
    SocketClosed,
    StateHandler,
)
from haechi.domains.agents.presence import TICK_S
from haechi.domains.agents.records import Records
from haechi.errors import AppError
from haechi.protocol.desired import DesiredState, ObservedState, StreamStatus
from haechi.protocol.frames import (
    ACCEPTED,
    MISSED_PINGS,
    PING_S,
    Ack,
    Desired,
    FromAgent,
    Hello,
    Log,
    Ping,
    Pong,
    Refused,
    Results,
    Samples,
    State,
    Welcome,
    encode,
)

log = logging.getLogger(__name__)

HELLO_S: Final = 10.0
CHECK_OLD_S: Final = 1.0
REFUSED_CLOSE: Final = 4403
_SAVE_S: Final = 3.0
_RETRY_RESULTS_S: Final = 1.0
_PINGS_KEPT: Final = 16
_LATE_S: Final = 1.0


_SeenStream = tuple[StreamStatus, bool]
"""What media says of a camera, and whether it came up, went down or fails otherwise than before."""


class Links:
    def __init__(
        self,
        *,
        db: Database,
        bus: Bus,
        clock: Clock,
        directory: Directory,
        records: Records,
        clocks: Clocks,
        judging: Judging,
        server_id: str,
    ) -> None:
        self._db = db
        self._bus = bus
        self._clock = clock
        self._directory = directory
        self._records = records
        self._clocks = clocks
        self._judging = judging
        judging.connected = self.is_connected
        self._server_id = server_id
        self._links: dict[str, Link] = {}
        self._checking: dict[str, asyncio.Lock] = {}
        self._pings: dict[int, float] = {}
        self._ticked_s = 0.0
        self._next_ping_s = 0.0
        self._ping_id = 0
        self._arrivals: dict[str, list[asyncio.Future[None]]] = {}
        self._tasks = Tasks("agents")
        self.desired = DesiredStates(db=db, push=self._push)
        self.samples_handler: SamplesHandler | None = None
        self.results_handler: ResultsHandler | None = None
        self.results_listeners: list[ResultsListener] = []
        self.state_handlers: list[StateHandler] = []

    async def start(self) -> None:
        await self.desired.start()
        self._tasks.forever("tick", self._tick_forever)
        self._tasks.forever("save", self._save_forever)

    async def close(self) -> None:
        for link in list(self._links.values()):
            link.end("server_stops", 1012)
        await self._tasks.close()
        await self.desired.close()
        await self._records.save(self._db)

    def link(self, device_id: str) -> Link:
        """Raises NotConnected."""
        link = self._links.get(device_id)
        if link is None or link.is_closed:
            raise NotConnected(device_id=device_id)
        return link

    def is_connected(self, device_id: str) -> bool:
        link = self._links.get(device_id)
        return link is not None and not link.is_closed

    async def wait_connected(self, device_id: str, timeout_s: float) -> bool:
        if self.is_connected(device_id):
            return True
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting = self._arrivals.setdefault(device_id, [])
        waiting.append(future)
        try:
            async with asyncio.timeout(timeout_s):
                await future
        except TimeoutError:
            return False
        finally:
            waiting.remove(future)
        return True

    def end(self, device_id: str, reason: str) -> None:
        link = self._links.get(device_id)
        if link is not None:
            link.end(reason, 1008)

    # --- one connection

    async def serve(self, device_id: str, socket: Socket, remote: str) -> None:
        """Everything from the first frame to the end. `device_id` is the certificate's."""
        try:
            hello = await self._first_word(socket)
            await self._check(device_id, hello, remote)
            link = await self._admit(device_id, hello, socket, remote)
        except AppError as error:
            log.warning("agent at %s turned away: %s", remote, error)
            await self._refuse(device_id, socket, error)
            return
        except (SocketClosed, TimeoutError):
            log.info("agent at %s left before its hello", remote)
            return
        try:
            await link.run(
                lambda frame: self._on_frame(link, frame), lambda r: self._store(link, r)
            )
        finally:
            if self._links.get(device_id) is link:
                del self._links[device_id]
                self._judging.announce(self._records.of(device_id))
            log.info("link of %s (%s) closed: %s", device_id, remote, link.close_reason)

    async def _first_word(self, socket: Socket) -> Hello:
        async with asyncio.timeout(HELLO_S):
            data = await socket.receive()
        try:
            hello = decode_frame(data)
        except BadFrame as error:
            raise NoFirstWord(problem=str(error)) from error
        if not isinstance(hello, Hello):
            raise NoFirstWord
        return hello

    async def _check(self, device_id: str, hello: Hello, remote: str) -> None:
        if hello.device_id != device_id:
            raise WrongDevice(certificate=device_id, claimed=hello.device_id[:64])
        if hello.protocol not in ACCEPTED:
            kind = TooNew if hello.protocol > max(ACCEPTED) else TooOld
            raise kind(protocol=hello.protocol, agent_version=hello.agent_version[:64])
        async with self._db.read() as tx:
            await self._directory.check_device(tx, device_id)
        record = self._records.of(device_id)
        if record.machine_id and hello.machine_id and record.machine_id != hello.machine_id:
            raise CloneFound(device_id=device_id, host_name=hello.host_name[:255], remote=remote)

    async def _admit(self, device_id: str, hello: Hello, socket: Socket, remote: str) -> Link:
        lock = self._checking.setdefault(device_id, asyncio.Lock())
        async with lock:
            await self._check_old(device_id, hello)
            now_s = self._clock.monotonic()
            link = Link(device_id, hello, socket, remote, self._clock.monotonic)
            record = self._records.of(device_id)
            if not record.machine_id:
                record.machine_id = hello.machine_id[:64]
            record.heard(hello, remote)
            record.refusal = None
            record.last_word_s = now_s
            record.last_seen_at = self._clock.now()
            self._records.touch(device_id)
            self._clocks.hello(device_id, hello.boot_id, hello.wall_ms, hello.monotonic_ms)
            await self._directory.note_hello(device_id, hello, remote)
            state = await self.desired.refresh(device_id)
            old = self._links.get(device_id)
            self._links[device_id] = link
            if old is not None:
                old.end("replaced")
        link.send(Welcome(self._server_id, to_ms(self._clock.now()), state.revision))
        if hello.desired_revision != state.revision:
            link.send(Desired(state))
        self.desired.reported(device_id, hello.desired_revision)
        self._judging.judge(record, now_s)
        self._judging.announce(record)
        for future in self._arrivals.get(device_id, []):
            if not future.done():
                future.set_result(None)
        log.info("agent of %s connected from %s", device_id, remote)
        return link

    async def _check_old(self, device_id: str, hello: Hello) -> None:
        """A socket that still answers belongs to a second agent; one that does not is half-open."""
        old = self._links.get(device_id)
        if old is None or old.is_closed:
            return
        asked_s = self._clock.monotonic()
        old.send(Ping(self._new_ping(asked_s)))
        deadline_s = asyncio.get_running_loop().time() + CHECK_OLD_S
        while asyncio.get_running_loop().time() < deadline_s and not old.is_closed:
            if old.last_word_s > asked_s:
                raise AlreadyConnected(device_id=device_id, boot_id=hello.boot_id[:64])
            await asyncio.sleep(0.05)

    async def _refuse(self, device_id: str, socket: Socket, error: AppError) -> None:
        refusal = {"code": error.code, "data": error.data}
        if isinstance(error, CloneFound | WrongDevice | TooNew | TooOld | AlreadyConnected):
            record = self._records.of(device_id)
            record.refusal = {**refusal, "at": to_text(self._clock.now())}
            self._records.touch(device_id)
            self._judging.announce(record)
        try:
            async with asyncio.timeout(2):
                await socket.send(encode(Refused(refusal)))
                await socket.close(REFUSED_CLOSE, error.code)
        except (SocketClosed, TimeoutError):
            log.debug("agent of %s did not wait for its refusal", device_id)

    # --- frames

    def _on_frame(self, link: Link, frame: FromAgent) -> None:
        match frame:
            case Pong():
                sent_s = self._pings.get(frame.id)
                if sent_s is not None:
                    self._clocks.pong(
                        link.device_id,
                        link.hello.boot_id,
                        frame.wall_ms,
                        frame.monotonic_ms,
                        sent_s,
                    )
            case Samples():
                if frame.rows and not frame.backfill:
                    self._records.of(link.device_id).runtime = frame.rows[-1].runtime
                if self.samples_handler is not None:
                    self.samples_handler(link.device_id, frame.rows, frame.backfill)
            case State():
                self._observed(link, frame)
            case Log():
                line = frame.line[:2000]
                self._bus.publish(f"log:{link.device_id}", f"{frame.level}: {line}")
            case _:
                log.debug("frame %s of %s ignored", type(frame).__name__, link.device_id)

    def _observed(self, link: Link, frame: State) -> None:
        record = self._records.of(link.device_id)
        before, record.observed = record.observed, frame.state
        if frame.state.addresses:
            record.addresses = list(frame.state.addresses)
        self._records.touch(link.device_id)
        self.desired.reported(link.device_id, frame.state.revision)
        seen = _changed_streams(frame.state, before)
        if seen:
            _ = self._tasks.spawn("streams", self._note_streams(link.device_id, seen))
        for handler in self.state_handlers:
            handler(link.device_id, frame.state, before)
        now = frame.state
        if before is None or (before.revision, before.media.running, before.addresses) != (
            now.revision,
            now.media.running,
            now.addresses,
        ):
            self._judging.announce(record)

    async def _note_streams(self, device_id: str, seen: list[_SeenStream]) -> None:
        """Of cameras at home there: a device that relays or invents one does not speak for it."""
        home = await self._directory.cameras_of(device_id)
        for status, turned in seen:
            if status.camera_id not in home:
                continue
            if turned:
                data = {
                    "kind": "camera",
                    "id": status.camera_id,
                    "device_id": device_id,
                    "state": "ok" if status.online else (status.error or "offline"),
                }
                self._bus.publish("states", data)
            if status.online and status.codec:
                await self._directory.note_stream(status)

    async def _store(self, link: Link, frame: Results) -> None:
        """Acknowledged after commit; while the results domain cannot take them, ask it again."""
        if self.results_handler is None:
            return
        through: int | None = None
        while through is None:
            try:
                through = await self.results_handler(
                    link.device_id, frame.queue_id, frame.from_seq, frame.rows, frame.lost
                )
            except AppError as error:
                log.warning("results of %s wait: %s", link.device_id, error)
                await self._clock.sleep(error.retry_after_s or _RETRY_RESULTS_S)
        link.acknowledge(Ack(frame.queue_id, through), len(frame.rows))
        for listener in self.results_listeners:
            listener(link.device_id, frame.rows)

    def _push(self, device_id: str, state: DesiredState) -> None:
        link = self._links.get(device_id)
        if link is not None:
            link.send(Desired(state))

    # --- the ticker

    async def _tick_forever(self) -> None:
        while True:
            await self._clock.sleep(TICK_S)
            self.tick()

    async def _save_forever(self) -> None:
        while True:
            await self._clock.sleep(_SAVE_S)
            await self._records.save(self._db)

    def tick(self) -> None:
        """Acknowledge, judge everybody; once a second, ping."""
        now_s = self._clock.monotonic()
        self._forgive_own_absence(now_s)
        now = self._clock.now()
        for device_id, link in self._links.items():
            if link.is_closed:  # its last frames are no word of a device whose agent was removed
                continue
            link.say_ack()
            record = self._records.of(device_id)
            if record.last_word_s is None or link.last_word_s > record.last_word_s:
                record.last_word_s = link.last_word_s
                record.last_seen_at = now
                self._records.touch(device_id)
            if now_s - link.last_word_s > MISSED_PINGS * PING_S + PING_S / 2:
                link.end("missed_pings")
        self._judging.judge_all(now_s)
        if now_s >= self._next_ping_s:
            self._next_ping_s = now_s + PING_S
            ping = encode(Ping(self._new_ping(now_s)))
            for link in list(self._links.values()):
                link.send_bytes(ping)

    def _forgive_own_absence(self, now_s: float) -> None:
        """A server that was stopped or busy itself has heard nobody: that is nobody's silence."""
        late_s = now_s - self._ticked_s - TICK_S if self._ticked_s else 0.0
        self._ticked_s = now_s
        if late_s < _LATE_S:
            return
        log.warning("the server itself was away for %.1f s", late_s)
        for link in self._links.values():
            link.last_word_s += late_s
        self._judging.forgive(late_s)

    def _new_ping(self, now_s: float) -> int:
        self._ping_id += 1
        self._pings[self._ping_id] = now_s
        self._pings.pop(self._ping_id - _PINGS_KEPT, None)
        return self._ping_id


def _changed_streams(now: ObservedState, before: ObservedState | None) -> list[_SeenStream]:
    known = {one.camera_id: one for one in (before.media.streams if before else ())}
    seen: list[_SeenStream] = []
    for status in now.media.streams:
        was = known.get(status.camera_id)
        if was != status:
            turned = was is None or (was.online, was.error) != (status.online, status.error)
            seen.append((status, turned))
    return seen
