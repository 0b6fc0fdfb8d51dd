"""Knowledge of upstreams, without any I/O: configuration, wire formats, meaning. `adapters.api` is the interface."""
