"""What hosts join a cluster by: a bootstrap token, and a key to control planes' certificates."""

import secrets
import string
from typing import Any, Final

from haechi.core.secrets import Secret

NAMESPACE: Final = "kube-system"
_TOKEN_LETTERS: Final = string.ascii_lowercase + string.digits
JOINING: Final = "haechi"
"""Id of the token by which hosts join. Always the same: a new one takes the place of any that a
server which was killed has left.
"""


def new_token(token_id: str = "") -> Secret:
    """A bootstrap token as Kubernetes wants it: `[a-z0-9]{6}.[a-z0-9]{16}`, the first its id."""
    text = "".join(secrets.choice(_TOKEN_LETTERS) for _ in range(22))
    return Secret(f"{token_id or text[:6]}.{text[6:]}")


def new_certificate_key() -> Secret:
    """AES key of the certificates that control planes hand to each other, in hex."""
    return Secret(secrets.token_hex(32))


def token_name(token_id: str) -> str:
    return f"bootstrap-token-{token_id}"


def named_secret(name: str) -> dict[str, Any]:
    """One of those by which hosts join."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": NAMESPACE},
    }


def token_secret(token: Secret, expires_at: str) -> dict[str, Any]:
    """The Secret that makes a bootstrap token known to a cluster that runs."""
    token_id, _, token_secret_part = token.reveal().partition(".")
    return {
        **named_secret(token_name(token_id)),
        "type": "bootstrap.kubernetes.io/token",
        "stringData": {
            "token-id": token_id,
            "token-secret": token_secret_part,
            "expiration": expires_at,
            "usage-bootstrap-authentication": "true",
            "usage-bootstrap-signing": "true",
            "auth-extra-groups": "system:bootstrappers:kubeadm:default-node-token",
        },
    }
