"""The metrics' part of the telemetry DB.

Raw samples lie together per device in the order of time (`WITHOUT ROWID`), so a chart is one walk
and a device's hour takes a millisecond. Per-core use is one byte a core. Rollups of both steps
share their tables. `metric_dirty` names the minutes that changed since they were rolled up, late
samples included, so that a restart forgets none.
"""

from typing import Final

from haechi.core.telemetry import Schema

SCHEMA: Final = Schema(
    "metrics",
    (
        """
        CREATE TABLE metric_names (
            number INTEGER PRIMARY KEY,
            text TEXT NOT NULL UNIQUE
        ) STRICT;
        CREATE TABLE samples (
            device INTEGER NOT NULL,
            at_ms INTEGER NOT NULL,
            boot INTEGER NOT NULL,
            seq INTEGER NOT NULL,
            cpu_ratio REAL NOT NULL,
            cpu_per_core BLOB,
            memory_used_bytes INTEGER NOT NULL,
            memory_total_bytes INTEGER NOT NULL,
            disk_free_bytes INTEGER NOT NULL,
            temperature_c REAL,
            throttled INTEGER,
            gpu_use_ratio REAL,
            gpu_memory_used_bytes INTEGER,
            rx_bytes INTEGER,
            tx_bytes INTEGER,
            wifi_dbm REAL,
            loss_ratio REAL,
            rtt_ms REAL,
            PRIMARY KEY (device, at_ms)
        ) STRICT, WITHOUT ROWID;
        CREATE UNIQUE INDEX samples_identity ON samples (boot, seq);
        CREATE TABLE container_samples (
            device INTEGER NOT NULL,
            at_ms INTEGER NOT NULL,
            deployment INTEGER NOT NULL,
            cpu_ratio REAL NOT NULL,
            memory_bytes INTEGER NOT NULL,
            restarts INTEGER NOT NULL,
            frame_lag_ms REAL,
            PRIMARY KEY (device, at_ms, deployment)
        ) STRICT, WITHOUT ROWID;
        CREATE TABLE sample_rollups (
            step_s INTEGER NOT NULL,
            device INTEGER NOT NULL,
            at_ms INTEGER NOT NULL,
            count INTEGER NOT NULL,
            cpu_ratio REAL NOT NULL,
            cpu_ratio_max REAL NOT NULL,
            memory_used_bytes INTEGER NOT NULL,
            memory_total_bytes INTEGER NOT NULL,
            disk_free_bytes INTEGER NOT NULL,
            temperature_c REAL,
            throttled INTEGER,
            gpu_use_ratio REAL,
            gpu_memory_used_bytes INTEGER,
            rx_bytes INTEGER,
            tx_bytes INTEGER,
            wifi_dbm REAL,
            loss_ratio REAL,
            rtt_ms REAL,
            PRIMARY KEY (step_s, device, at_ms)
        ) STRICT, WITHOUT ROWID;
        CREATE TABLE container_rollups (
            step_s INTEGER NOT NULL,
            device INTEGER NOT NULL,
            at_ms INTEGER NOT NULL,
            deployment INTEGER NOT NULL,
            count INTEGER NOT NULL,
            cpu_ratio REAL NOT NULL,
            cpu_ratio_max REAL NOT NULL,
            memory_bytes INTEGER NOT NULL,
            restarts INTEGER NOT NULL,
            frame_lag_ms REAL,
            PRIMARY KEY (step_s, device, at_ms, deployment)
        ) STRICT, WITHOUT ROWID;
        CREATE TABLE metric_dirty (
            step_s INTEGER NOT NULL,
            at_ms INTEGER NOT NULL,
            device INTEGER NOT NULL,
            PRIMARY KEY (step_s, at_ms, device)
        ) STRICT, WITHOUT ROWID;
        """,
    ),
)
