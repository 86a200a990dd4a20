"""Whose results count while cameras move."""

from hypothesis import given
from hypothesis import strategies as st

from haechi.domains.deployments.epochs import Epochs

CAM, PKG = "cam-1", "pkg-1"


def rule(*known):
    epochs = Epochs()
    for epoch, device, effective in known:
        epochs.put(CAM, PKG, epoch, device, effective)
    return lambda epoch, device, captured=None: epochs.authoritative(
        CAM, PKG, epoch, device, captured
    )


def test_nothing_known_counts():
    assert rule()(None, "dev-a")
    assert rule()(7, "dev-a")


def test_highest_effective_epoch_wins_from_its_moment():
    counts = rule((1, "dev-a", 100), (2, "dev-b", 200))
    assert counts(1, "dev-a", 150)
    assert not counts(1, "dev-a", 250)
    assert counts(2, "dev-b", 250)
    assert not counts(2, "dev-b", 150)  # the old one was still the one
    assert not counts(1, "dev-a")
    assert counts(2, "dev-b")


def test_a_trial_never_counts_and_takes_nothing_away():
    counts = rule((1, "dev-a", 100), (2, "dev-b", None))
    assert counts(1, "dev-a", 500)
    assert not counts(2, "dev-b", 500)


def test_what_an_agent_decided_while_cut_off_counts():
    counts = rule((1, "dev-a", 100))
    assert counts(2, "dev-b", 300)


def test_equal_epochs_lower_device():
    counts = rule((2, "dev-b", 100))
    assert counts(2, "dev-a", 300)
    assert not counts(2, "dev-c", 300)


def test_a_result_without_epoch_is_its_devices_newest():
    counts = rule((1, "dev-a", 100), (2, "dev-b", 200))
    assert not counts(None, "dev-a", 300)
    assert counts(None, "dev-b", 300)


def test_a_dropped_trial():
    epochs = Epochs()
    epochs.put(CAM, PKG, 1, "dev-a", 100)
    epochs.put(CAM, PKG, 2, "dev-b", None)
    epochs.drop(CAM, PKG, 2)
    assert epochs.authoritative(CAM, PKG, 1, "dev-a", 300)
    assert not epochs.authoritative(CAM, PKG, 2, "dev-b", 300)


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=10, unique=True), st.integers(0, 1200))
def test_exactly_one_epoch_counts_at_any_moment(moments, captured):
    known = [(n, f"dev-{n}", at) for n, at in enumerate(sorted(moments), start=1)]
    counts = rule(*known)
    assert sum(counts(epoch, device, captured) for epoch, device, _ in known) == 1
