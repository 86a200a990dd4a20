"""The map from a device's monotonic time to server wall time, under every kind of wrong clock."""

from datetime import UTC, datetime, timedelta

from haechi.core.clock import to_ms
from haechi.domains.agents.clocks import Clocks
from haechi.testing.clock import FakeClock


class Device:
    """Its monotonic clock runs with the server's, `behind_s` earlier; its wall clock is off."""

    def __init__(self, clock: FakeClock, *, wall_off_ms: int = 0, behind_s: float = 990) -> None:
        self.clock, self.wall_off_ms, self.behind_s = clock, wall_off_ms, behind_s

    def mono(self) -> int:
        return round((self.clock.monotonic() - self.behind_s) * 1000)

    def wall(self) -> int:
        return to_ms(self.clock.now()) + self.wall_off_ms


async def ping(clocks: Clocks, clock: FakeClock, device: Device, out_s: float, back_s: float):
    sent_s = clock.monotonic()
    await clock.advance(out_s)
    wall, mono = device.wall(), device.mono()
    await clock.advance(back_s)
    clocks.pong("dev-a", "boot-1", wall, mono, sent_s)


async def test_good_clock_is_believed():
    clock = FakeClock()
    clocks, device = Clocks(clock), Device(clock, wall_off_ms=120)
    await ping(clocks, clock, device, 0.01, 0.01)
    stamp = clocks.stamp("dev-a", "boot-1", device.mono(), device.wall())
    assert (stamp.wall_ms, stamp.clock, stamp.shift_ms) == (device.wall(), "ok", 0)
    assert clocks.state("dev-a")[0] == "ok"


async def test_unset_clock_is_mapped():
    clock = FakeClock()
    clocks, device = Clocks(clock), Device(clock, wall_off_ms=-20 * 365 * 86_400_000)
    await ping(clocks, clock, device, 0.01, 0.01)
    then_mono, then_wall, truth = device.mono(), device.wall(), to_ms(clock.now())
    await clock.advance(30)
    stamp = clocks.stamp("dev-a", "boot-1", then_mono, then_wall)
    assert stamp.clock == "ok"
    assert abs(stamp.wall_ms - truth) <= 1
    assert stamp.shift_ms == stamp.wall_ms - then_wall
    assert clocks.state("dev-a")[0] == "uncertain"


async def test_shortest_round_trip_counts():
    clock = FakeClock()
    clocks, device = Clocks(clock), Device(clock)
    await ping(clocks, clock, device, 0.005, 0.005)
    for _ in range(10):
        await ping(clocks, clock, device, 0.9, 0.1)  # asymmetric and slow: 0.4 s wrong
    wall = clocks.wall_of("dev-a", "boot-1", device.mono())
    assert wall is not None
    assert abs(wall - to_ms(clock.now())) <= 1


async def test_server_clock_jump_moves_all_moments_alike():
    clock = FakeClock()
    clocks, device = Clocks(clock), Device(clock)
    await ping(clocks, clock, device, 0.01, 0.01)
    mono = device.mono()
    clock.set_wall(clock.now() + timedelta(hours=3))
    assert clocks.wall_of("dev-a", "boot-1", mono) == to_ms(clock.now())


async def test_unknown_boot_stays_uncertain_and_is_never_refused():
    clocks = Clocks(FakeClock())
    stamp = clocks.stamp("dev-a", "boot-0", 5, 7)
    assert (stamp.wall_ms, stamp.clock) == (7, "uncertain")


async def test_saved_boot_is_mapped_by_the_next_server_process():
    clock = FakeClock()
    clocks, device = Clocks(clock), Device(clock, wall_off_ms=-(10**9))
    await ping(clocks, clock, device, 0.01, 0.01)
    mono, truth = device.mono(), to_ms(clock.now())
    saved = clocks.dump("dev-a")
    later = Clocks(FakeClock(datetime(2026, 2, 1, tzinfo=UTC)))
    later.load("dev-a", saved)
    assert later.wall_of("dev-a", "boot-1", mono) == truth


async def test_a_new_boot_is_measured_apart():
    clock = FakeClock()
    clocks, device = Clocks(clock), Device(clock)
    await ping(clocks, clock, device, 0.01, 0.01)
    old_mono, truth = device.mono(), to_ms(clock.now())
    await clock.advance(60)
    clocks.hello("dev-a", "boot-2", device.wall(), 500)
    assert clocks.wall_of("dev-a", "boot-2", 500) == to_ms(clock.now())
    assert clocks.wall_of("dev-a", "boot-1", old_mono) == truth
