"""Hypothesis profiles: ``dev`` here, ``ci`` (the same examples every time) where the environment says CI."""

import os

from hypothesis import HealthCheck, settings

# No deadline in either: the first example of a test pays for imports and for torch's lazy set-up.
settings.register_profile("dev", max_examples=10, deadline=None)
# A loaded machine is no reason to fail either.
slow = [HealthCheck.too_slow]
settings.register_profile("ci", max_examples=25, deadline=None, derandomize=True, suppress_health_check=slow)
settings.load_profile("ci" if os.environ.get("CI") else "dev")
