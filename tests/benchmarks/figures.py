"""The form of one figure, the same for every benchmark: `build/*.json` are lists of it."""

import statistics
from collections.abc import Sequence
from typing import Any

Row = dict[str, Any]


def row(
    name: str,
    values: float | Sequence[float],
    unit: str,
    reference: str | None = None,
    reference_values: float | Sequence[float] | None = None,
) -> Row:
    """Of several rounds the median counts, of the value and of what it is measured beside."""
    value = _median(values)
    beside = None if reference_values is None else _median(reference_values)
    return {
        "name": name,
        "value": round(value, 3),
        "unit": unit,
        "reference": reference,
        "reference_value": None if beside is None else round(beside, 3),
        "ratio": round(value / beside, 3) if beside else None,
    }


def _median(values: float | Sequence[float]) -> float:
    return statistics.median(values) if isinstance(values, Sequence) else values
