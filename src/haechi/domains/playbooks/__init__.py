"""Ansible's way to haechi's devices: an inventory, and playbooks that deploy one package version.

For sites that run Ansible already, or where the server is not at hand on the day. What a playbook
starts is Docker's and the site's own: the server does not watch it, but takes its results.
"""

from haechi.domains.playbooks.service import Playbooks

__all__ = ["Playbooks"]
