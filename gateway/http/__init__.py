"""The aiohttp application: routes, problem details, health, metrics."""
