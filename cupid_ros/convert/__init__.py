"""Messages to plain values and back, one file a kind of message; pure functions that know no node and no bag."""
