"""Hypothesis profiles: ``dev`` here, ``ci`` (the same examples every time) where the environment says CI.

``--refusals FOLDER`` records the errors that the tests meet.
"""

import os

import pytest
import refusal_record
from hypothesis import HealthCheck, settings

# No deadline in either: the first example of a test pays for imports and for torch's lazy set-up.
settings.register_profile("dev", max_examples=10, deadline=None)
# A loaded machine is no reason to fail either.
slow = [HealthCheck.too_slow]
settings.register_profile("ci", max_examples=25, deadline=None, derandomize=True, suppress_health_check=slow)
settings.load_profile("ci" if os.environ.get("CI") else "dev")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(refusal_record.OPTION, metavar="FOLDER", help="record every refusal there, for tools/refusals.py")


def pytest_configure(config: pytest.Config) -> None:
    refusal_record.start(config)
