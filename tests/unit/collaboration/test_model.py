"""Variants and versions: which package is for which class, and which version is older."""

from datetime import UTC, datetime, timedelta

import pytest

from haechi.domains.collaboration.model import (
    AiVersion,
    UnknownClass,
    Variant,
    class_name,
    is_older,
    newest,
    numbers_of,
    variant_of_name,
)

DAY = datetime(2026, 1, 1, tzinfo=UTC)


def version(text, day=0):
    uploaded_at = DAY + timedelta(days=day)
    return AiVersion(f"ver-{text}-{day}", "pkg", text, Variant("weather", "01"), uploaded_at)


@pytest.mark.parametrize(
    ("name", "variant"),
    [
        ("weather-01", ("weather", "01")),
        ("weather-cam-02", ("weather-cam", "02")),
        ("weather-07", ("weather-07", "")),
        ("weather-1", ("weather-1", "")),
        ("weather-01-beta", ("weather-01-beta", "")),
        ("-01", ("-01", "")),
        ("날씨-06", ("날씨", "06")),
    ],
)
def test_only_a_trailing_class_is_cut(name, variant):
    assert variant_of_name(name) == Variant(*variant)


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("1", (1,)),
        ("01", (1,)),
        ("v1.2", (1, 2)),
        ("0.01v", (0, 1)),
        ("1.10.0", (1, 10)),
        ("2026-01-02", (2026, 1, 2)),
        ("latest", None),
        ("1.2-beta", None),
        ("", None),
        ("9" * 128, (int("9" * 18),)),
    ],
)
def test_numbers_of_versions(text, numbers):
    assert numbers_of(text) == numbers


def test_numbers_decide_part_by_part_else_the_upload_time():
    assert is_older(version("1.9", day=5), version("1.10", day=1))
    assert not is_older(version("1.10"), version("1.9", day=9))
    assert is_older(version("latest"), version("1", day=1))
    assert not is_older(version("latest", day=1), version("1"))
    assert is_older(version("1", day=0), version("1.0", day=1))
    assert newest([version("1.9", 3), version("1.10", 1), version("1.2", 2)]) == version("1.10", 1)
    assert newest([]) is None


def test_classes():
    assert [class_name(text) for text in ("1", "01", "6")] == ["01", "01", "06"]
    for text in ("7", "맑음", "", "-1", "1.0"):
        with pytest.raises(UnknownClass):
            class_name(text)
