"""How the stream is doing: metrics, status, the live table."""
