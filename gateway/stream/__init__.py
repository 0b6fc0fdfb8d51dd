"""From the log to the stream's connections: views, hub, WebSocket, SSE."""
