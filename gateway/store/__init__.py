"""The durable log. `gateway.store.api` is the interface; engines stand beside it."""
