"""``python -m muxwrap`` is the command line."""

import sys

from muxwrap.cli import main

sys.exit(main())
