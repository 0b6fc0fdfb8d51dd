"""From observations to committed events: task state (pure) and intake."""
