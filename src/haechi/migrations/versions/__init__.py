"""Migrations in order; written by `make migration name=…`."""
