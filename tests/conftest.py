"""What holds for every test."""

from __future__ import annotations

import pytest
import structlog


@pytest.fixture(autouse=True)
def no_log_settings_of_others() -> None:
    """A test that configures the log must not decide which lines the next one of the same process sees."""
    structlog.reset_defaults()
