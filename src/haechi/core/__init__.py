"""What every part stands on: time, ids, secrets, the control DB, tasks, bus, operations, access.

Knows no domain and no web framework.
"""
