"""`haechi agent`: the process on every device. Imports protocol, core and named adapters only.

It must stay within 40 MB and 1 % of a core, so what it imports is measured: no FastAPI, pydantic,
SQLAlchemy, rich or HTTP client library, and `cryptography` only in short-lived children that
enrol or renew. Everything it must remember lies in its data folder (`home.py`); whatever an AI
was told is stored is in the queue file first (`outbox.py`).
"""
