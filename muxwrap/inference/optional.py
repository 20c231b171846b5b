"""Libraries that only some installations have."""

from __future__ import annotations

import importlib
from typing import Any

from muxwrap.errors import MuxwrapError


def optional(module: str, extra: str) -> Any:
    """Import a module of an optional library.

    Args:
        module: its full name.
        extra: of muxwrap, which installs it.

    Raises:
        MuxwrapError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        package = module.partition(".")[0]
        raise MuxwrapError(f"predict: {package} is not installed; pip install 'muxwrap[{extra}]'") from error
