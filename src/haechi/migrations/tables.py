"""Imports every module that declares tables, so that `Base.metadata` is whole."""

import importlib
import pkgutil

import haechi.domains
from haechi.core.db import Base
from haechi.core.operations import store as _operations  # noqa: F401 - declares a table
from haechi.interop import store as _interop  # noqa: F401 - declares a table
from haechi.web import idempotency as _idempotency  # noqa: F401 - declares a table
from haechi.web import settings as _settings  # noqa: F401 - declares a table

for _module in pkgutil.walk_packages(haechi.domains.__path__, "haechi.domains."):
    if _module.name.endswith(".store"):
        importlib.import_module(_module.name)

metadata = Base.metadata
