"""The networks, their checkpoints, and the index structures that they work on."""
