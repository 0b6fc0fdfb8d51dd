"""What is left to the search for garbage, for tests that say that nothing is.

`gateway.collector` sets aside what has survived while connections came. A circle in it that nobody breaks is memory that is
lost: a gateway whose clients came and went within seconds grew by megabytes a minute.
"""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


@asynccontextmanager
async def circles() -> AsyncIterator[Counter[str]]:
    """Objects of the gateway that the block leaves to the search for garbage, by type; known after it."""
    found: Counter[str] = Counter()
    gc.collect()
    gc.disable()
    try:
        yield found
        gc.garbage.clear()
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        found.update(type(item).__qualname__ for item in gc.garbage if type(item).__module__.startswith("gateway."))
        found.update("Task" for item in gc.garbage if isinstance(item, asyncio.Task))
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
