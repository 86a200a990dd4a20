"""The results' part of the telemetry DB.

The row number carries the time (`captured_ms << 20 | counter`), so the table itself is the index
by time. Ids that repeat in every row (camera, class, instance…) are numbers of the `names` table;
who said it is one number of `sources`. Objects are compact JSON in the row: measured 97 bytes a
row with one object against 126 as rows of their own, and one insert less. What was said before is
known by ranges of `seq` per instance (`result_seen`, mostly one row each): a unique index would
cost 21 bytes and a fifth of the time of every row.

A row is in one index only, `results_stream`: who said it about which camera, in order of time. A
camera has few sources and a device few cameras, so each question is a few walks of it, merged
(`queries`). Classes are found by the minutes in which they were counted: an index of them by row
cost as much as the rows' own.
"""

from typing import Final

from haechi.core.telemetry import Schema

ID_BITS: Final = 20
LAST_MS: Final = (1 << (63 - ID_BITS)) - 1
"""The latest time that an id can hold (year 2248)."""
SCOPE: Final = "/"
"""Between deployment and instance in `result_names`."""
UNCERTAIN, ARRIVAL, NOT_AUTHORITATIVE = 1, 2, 4
ANY_CLASS: Final = 0
"""In `result_minutes`: the line that counts every look."""
OTHER_CLASS: Final = "(other)"
"""What further classes of an AI count as that has named `CLASSES_A_DAY` of them already."""
CLASSES_A_DAY: Final = 1_000
DAY_MS: Final = 86_400_000

SCHEMA: Final = Schema(
    "results",
    (
        """
        CREATE TABLE result_names (
            number INTEGER PRIMARY KEY,
            text TEXT NOT NULL UNIQUE
        ) STRICT;
        CREATE TABLE result_sources (
            number INTEGER PRIMARY KEY,
            device_id TEXT NOT NULL,
            deployment_id TEXT NOT NULL,
            package_id TEXT NOT NULL,
            package_name TEXT NOT NULL,
            version_id TEXT NOT NULL,
            version TEXT NOT NULL,
            image_digest TEXT NOT NULL,
            UNIQUE (deployment_id, device_id, package_id, package_name, version_id, version,
                    image_digest)
        ) STRICT;
        CREATE INDEX result_sources_device ON result_sources (device_id);
        CREATE INDEX result_sources_package ON result_sources (package_id);
        CREATE TABLE results (
            id INTEGER PRIMARY KEY,
            source INTEGER NOT NULL,
            camera INTEGER,
            instance INTEGER,
            seq INTEGER,
            assignment INTEGER,
            epoch INTEGER,
            received_ms INTEGER NOT NULL,
            stored_ms INTEGER NOT NULL,
            flags INTEGER NOT NULL,
            class INTEGER,
            class_prob REAL,
            took_ms REAL,
            objects TEXT,
            attributes TEXT,
            claimed TEXT
        ) STRICT;
        CREATE INDEX results_camera ON results (camera, id);
        CREATE INDEX results_source ON results (source, id);
        CREATE TABLE result_seen (
            instance INTEGER NOT NULL,
            low INTEGER NOT NULL,
            high INTEGER NOT NULL,
            PRIMARY KEY (instance, low)
        ) STRICT, WITHOUT ROWID;
        CREATE TABLE result_classes (
            class INTEGER NOT NULL,
            id INTEGER NOT NULL,
            PRIMARY KEY (class, id)
        ) STRICT, WITHOUT ROWID;
        CREATE TABLE result_minutes (
            camera INTEGER NOT NULL,
            minute INTEGER NOT NULL,
            source INTEGER NOT NULL,
            class INTEGER NOT NULL,
            results INTEGER NOT NULL,
            objects INTEGER NOT NULL,
            PRIMARY KEY (camera, minute, source, class)
        ) STRICT, WITHOUT ROWID;
        CREATE TABLE result_queues (
            device_id TEXT NOT NULL,
            queue_id TEXT NOT NULL,
            through_seq INTEGER NOT NULL,
            lost INTEGER NOT NULL,
            updated_ms INTEGER NOT NULL,
            PRIMARY KEY (device_id, queue_id)
        ) STRICT, WITHOUT ROWID;
        """,
        # Names nobody uses any more go with the rows that used them.
        """
        ALTER TABLE result_names ADD COLUMN used_day INTEGER NOT NULL DEFAULT 0;
        UPDATE result_names SET used_day = unixepoch() / 86400;
        """,
        # One index instead of three: a row costs a sixth less.
        """
        DROP INDEX results_camera;
        DROP INDEX results_source;
        DROP TABLE result_classes;
        CREATE INDEX results_stream ON results (camera, source);
        CREATE INDEX result_minutes_class ON result_minutes (class, camera, source, minute);
        """,
    ),
)
