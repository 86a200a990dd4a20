"""ASGI application: error handler, access enforcement, stream, static files, fast ingest path."""
