"""Keep what a C library's allocator does out of measurements of speed."""

from __future__ import annotations

import os
import sys

# An allocator that gives memory back to the system after every call faults it in again at the next, which costs more than
# the operations themselves and differs from run to run. All configurations, the bare model first, run with this.
SETTINGS = {"MALLOC_TRIM_THRESHOLD_": "4000000000", "MALLOC_MMAP_THRESHOLD_": "33554432"}


def keep_memory() -> None:
    """Start the running command again with an allocator that gives nothing back, unless that has been done."""
    if not SETTINGS.keys() <= os.environ.keys():
        # Not sys.argv, in which `python -m package.module` has become a file that cannot import its package.
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, **SETTINGS})
