"""Preparing a machine for development and the demo: one module per thing that has to be there.

Standard library only: it runs before the project's own environment exists. Each step looks first
and does nothing where the work is done; each outside call has a time limit; each failure says what
to do about it. Nothing is written into the checkout except `.venv`, nothing is set globally.
"""
