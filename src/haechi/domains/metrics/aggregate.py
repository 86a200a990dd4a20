"""How samples are put together to one step: the same sums for rollups and for answers.

Ratios and amounts are means weighted by the samples they stand for, free disk space is the least,
counters are the last (they only rise), restarts and throttling the highest.
"""

from typing import Final


def _mean(column: str) -> str:
    """Weighted by `count`; NULL where there was none."""
    weight = f"sum(CASE WHEN {column} IS NOT NULL THEN count END)"
    return f"sum({column} * count) / CAST({weight} AS REAL)"


def _whole(expression: str) -> str:
    return f"CAST(round({expression}) AS INTEGER)"


DEVICE_OF_RAW: Final = f"""
    count(*), avg(cpu_ratio), max(cpu_ratio), {_whole("avg(memory_used_bytes)")},
    max(memory_total_bytes), min(disk_free_bytes), avg(temperature_c), max(throttled),
    avg(gpu_use_ratio), {_whole("avg(gpu_memory_used_bytes)")}, max(rx_bytes), max(tx_bytes),
    avg(wifi_dbm), avg(loss_ratio), avg(rtt_ms)
"""
DEVICE_OF_ROLLED: Final = f"""
    sum(count), {_mean("cpu_ratio")}, max(cpu_ratio_max), {_whole(_mean("memory_used_bytes"))},
    max(memory_total_bytes), min(disk_free_bytes), {_mean("temperature_c")}, max(throttled),
    {_mean("gpu_use_ratio")}, {_whole(_mean("gpu_memory_used_bytes"))}, max(rx_bytes),
    max(tx_bytes), {_mean("wifi_dbm")}, {_mean("loss_ratio")}, {_mean("rtt_ms")}
"""
CONTAINERS_OF_RAW: Final = f"""
    count(*), avg(cpu_ratio), max(cpu_ratio), {_whole("avg(memory_bytes)")}, max(restarts),
    avg(frame_lag_ms)
"""
CONTAINERS_OF_ROLLED: Final = f"""
    sum(count), {_mean("cpu_ratio")}, max(cpu_ratio_max), {_whole(_mean("memory_bytes"))},
    max(restarts), {_mean("frame_lag_ms")}
"""
