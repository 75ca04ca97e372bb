"""Training of the networks: targets, losses, schedules; knows networks and data, never images or ROS."""
