"""Libraries that come with an extra and are imported when they are asked for."""

from __future__ import annotations

import importlib
from typing import Any

from ..errors import InterfaceError


def imported(name: str) -> Any:
    """A module that an extra of the same name brings; pyarrow's is ``arrow``.

    Raises:
        InterfaceError: It is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError:
        extra = "arrow" if name == "pyarrow" else name
        raise InterfaceError(f"{name} is not installed: pip install 'aiotaos[{extra}]'") from None
