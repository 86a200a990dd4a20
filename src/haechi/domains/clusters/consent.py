"""What the caller of one operation allows on the hosts that it takes: asked for anew each time.

It is kept with the operation (`ctx`), not with the cluster: a word about hosts that somebody has
looked at says nothing of those that come a year later. Only warnings that a host has in common with
its kind or its site go on being accepted (`LASTING`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Self

from haechi.domains.clusters.model import FormOptions

TRUST: Final = "host_key_unknown"
"""Accepted, it pins the keys that hosts show at their first contact."""
LASTING: Final = frozenset({"clock_off", "disk_nearly_full", "firewall_closed", "memory_scarce"})
"""Warnings that, accepted when a cluster was formed, count as accepted for later hosts too: nothing
is trusted, removed or started again for them, and what comes of it shows on that host alone.
"""
_KEY: Final = "consent"


@dataclass(frozen=True, slots=True)
class Consent:
    accept: list[str] = field(default_factory=list)
    """Names of warnings that the caller has read and accepts."""
    clean_leftovers: bool = False
    """Remove what an earlier cluster left on these hosts, instead of refusing them."""

    @classmethod
    def of(cls, options: FormOptions) -> Self:
        """What was asked for together with forming."""
        return cls([*options.accept], options.clean_leftovers)

    def as_ctx(self) -> dict[str, Any]:
        """For the `ctx` of the operation that it is given to."""
        return {_KEY: self.as_json()}

    def as_json(self) -> dict[str, Any]:
        return {"accept": [*self.accept], "clean_leftovers": self.clean_leftovers}

    def over(self, options: FormOptions) -> FormOptions:
        """The cluster's options for the hosts that this was said of."""
        lasting = [one for one in options.accept if one in LASTING and one not in self.accept]
        return replace(
            options, accept=[*self.accept, *lasting], clean_leftovers=self.clean_leftovers
        )


NONE: Final = Consent()


def options_for(ctx: Mapping[str, Any], options: FormOptions) -> FormOptions:
    """The cluster's options as an operation has them. One that an older release began has no
    consent of its own and ends as it began: with all that was saved.
    """
    saved = ctx.get(_KEY)
    if saved is None:
        return options
    return Consent(list(saved["accept"]), bool(saved["clean_leftovers"])).over(options)
