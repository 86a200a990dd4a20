"""Backups of a cluster: etcd, certificates and configuration; and the ways back from one."""
