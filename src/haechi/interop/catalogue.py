"""The endpoints as documents need them: declared without any service behind them."""

from typing import Any, cast

from haechi.interop import deploys, inventory, packages, reports, status, year3
from haechi.interop.endpoint import Endpoint


class _Nobody:
    """Has every handler's name and does nothing: only the declarations are read."""

    def __getattr__(self, name: str) -> Any:
        return name


def describe() -> list[Endpoint]:
    nobody = cast("Any", _Nobody())
    return [
        *inventory.endpoints(nobody),
        *year3.endpoints(nobody, nobody, nobody),
        *packages.endpoints(nobody),
        *deploys.endpoints(nobody),
        *reports.endpoints(nobody),
        *status.endpoints(nobody),
    ]
