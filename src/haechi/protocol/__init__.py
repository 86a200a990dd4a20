"""Shapes spoken between processes: AI ↔ agent ↔ server (CONTRACTS 2-6).

msgspec structs: the agent must stay small and the ingest path fast. No behaviour beyond
validation; no third-party import but msgspec.
"""
