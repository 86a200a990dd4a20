"""The host side of clusters: what a host is like, what it lacks, how it is made ready and clean.

Knows hosts through `ports.Shell` only: no SSH library, no Kubernetes API, no cluster.
"""
