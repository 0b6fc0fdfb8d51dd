"""What holds for every test."""

from __future__ import annotations

import pytest
import structlog
from hypothesis import settings

# How long an example takes says something of the machine; speed is what `make bench` is for.
settings.register_profile("mainstem", deadline=None)
settings.load_profile("mainstem")


@pytest.fixture(autouse=True)
def no_log_settings_of_others() -> None:
    """A test that configures the log must not decide which lines the next one of the same process sees."""
    structlog.reset_defaults()
