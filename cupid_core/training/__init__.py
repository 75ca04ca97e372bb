"""Training of the networks: targets, losses, schedules."""
