"""Processes that end with the server, however it ends: they would hold memory, and the address that it listened at."""

from __future__ import annotations

import multiprocessing
import os
import threading
from multiprocessing.managers import SyncManager


def end_with_parent() -> None:
    """Watch, in a thread of this process, over the one that started it; end this one at once when that is gone."""
    threading.Thread(target=_watch, name="muxwrap-parent", daemon=True).start()


def _watch() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


# A manager is a process too, and Python's own lets it stay when the process that started it is killed. It runs what is
# registered here on request, and LitServe makes the manager itself, so that a class of its own could not be given to it.
SyncManager.register("end_with_parent", end_with_parent, exposed=())
