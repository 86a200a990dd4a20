"""Offline bundle: everything a bare host needs to become a node, as one folder of checked files.

Knows which versions belong together, what the folder holds for which role, and how to tell a whole
bundle from a damaged one. Must not know hosts or clusters; compilers and mirrors are ports.
"""
