"""Kubernetes clusters on devices of the inventory: formed, changed and deleted over SSH.

`host/` prepares and cleans one host, `bundle/` is what is installed; the files here make clusters
of hosts. Kubernetes itself is reached through the ports only.
"""
