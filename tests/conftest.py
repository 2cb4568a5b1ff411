"""For all tests: no property fails because the machine is slow; speed is measured by ``securefl bench``.

A test to which the registry of claims leaves a function that is seen in no attack must call it.
"""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings

from tests.guarantees.reached import reaching

settings.register_profile(
    "securefl",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=bool(os.environ.get("CI")),
    print_blob=True,
)
settings.load_profile("securefl")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    with reaching(item.nodeid):
        return (yield)
