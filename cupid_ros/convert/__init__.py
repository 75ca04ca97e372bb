"""Messages to plain values and back, one file per kind of message; pure functions."""
