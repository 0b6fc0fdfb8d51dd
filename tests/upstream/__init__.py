"""The upstream room: connections, backoff, liveness, repair."""
