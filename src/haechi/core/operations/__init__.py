"""Durable long work: named steps with undo, saved after each step, resumed after a crash.

A domain registers a `Definition` (its steps) and starts operations of that kind; the engine
keeps one running operation per subject, survives `kill -9`, and lets a newer haechi finish what
an older one began because steps are found by name, never by position.
"""

from haechi.core.operations.engine import Operations
from haechi.core.operations.model import (
    Definition,
    Operation,
    Permanent,
    Run,
    State,
    Step,
    Temporary,
)

__all__ = [
    "Definition",
    "Operation",
    "Operations",
    "Permanent",
    "Run",
    "State",
    "Step",
    "Temporary",
]
