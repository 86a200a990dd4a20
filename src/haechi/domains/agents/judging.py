"""How each device is judged: from whatever was heard of it, by its agent or otherwise, and told to
whoever wants to know.
"""

import logging
from collections.abc import Callable
from typing import Any

from haechi.core.bus import Bus
from haechi.core.clock import Clock, to_ms
from haechi.domains.agents.ports import NeighbourWord, ReasonWord
from haechi.domains.agents.presence import Limits, judge
from haechi.domains.agents.records import Record, Records

log = logging.getLogger(__name__)


class Judging:
    def __init__(self, *, bus: Bus, clock: Clock, records: Records, limits: Limits) -> None:
        self._bus = bus
        self._clock = clock
        self._records = records
        self._limits = limits
        self.connected: Callable[[str], bool] = lambda _device_id: False
        self.handlers: list[Callable[[str, str, str], None]] = []
        self.neighbour_word: NeighbourWord = lambda _device_id: None
        self.reason_word: ReasonWord = lambda _device_id: None

    def judge_all(self, now_s: float) -> None:
        for record in self._records:
            self.judge(record, now_s)

    def judge(self, record: Record, now_s: float) -> None:
        presence, reason = judge(record.last_word_s, now_s, self._limits, None)
        if presence == "silent":
            word = self.neighbour_word(record.device_id)
            presence, reason = judge(record.last_word_s, now_s, self._limits, word)
            if record.reason == "server_start":
                reason = record.reason
        if presence in {"silent", "dead"} and reason != "server_start":
            reason = self.reason_word(record.device_id) or reason
        if (presence, reason) == (record.presence, record.reason):
            return
        turned = presence != record.presence
        record.presence, record.reason = presence, reason
        if turned:
            record.since_ms = to_ms(self._clock.now())
        log.info("device %s is %s (%s)", record.device_id, presence, reason)
        self.announce(record)
        if not turned:
            return
        for handler in self.handlers:
            handler(record.device_id, presence, reason)

    def announce(self, record: Record) -> None:
        data: dict[str, Any] = {
            "kind": "device",
            "id": record.device_id,
            "state": record.presence,
            "reason": record.reason,
            "connected": self.connected(record.device_id),
        }
        self._bus.publish("states", data)

    def forgive(self, late_s: float) -> None:
        """For so long nobody could be heard."""
        for record in self._records:
            if record.last_word_s is not None:
                record.last_word_s += late_s

    def agent_gone(self, device_id: str) -> None:
        """The device has no agent any more: what that said last means nothing from now."""
        self._records.agent_gone(device_id)
        record = self._records.get(device_id)
        if record is not None:
            self.judge(record, self._clock.monotonic())

    # --- heard otherwise than by an agent

    def note_word(self, device_id: str) -> None:
        """Another way than an agent's link has heard of a device that has no agent."""
        record = self._records.of(device_id)
        if record.agent_version:
            return
        record.last_word_s = self._clock.monotonic()
        record.last_seen_at = self._clock.now()
        self.judge(record, record.last_word_s)

    def note_silence(self, device_id: str) -> None:
        """A device that has no agent was asked otherwise and did not answer. One that was never
        heard is silent from now on: there is nothing that it would have to do first.
        """
        record = self._records.of(device_id)
        if record.agent_version or record.last_word_s is not None:
            return
        now_s = self._clock.monotonic()
        record.last_word_s = now_s - self._limits.silent_after_s
        self.judge(record, now_s)

    def forget_word(self, device_id: str) -> None:
        """Nobody asks a device that has no agent any more: its silence means nothing from now."""
        record = self._records.get(device_id)
        if record is None or record.agent_version:
            return
        record.last_word_s = None
        self.judge(record, self._clock.monotonic())
