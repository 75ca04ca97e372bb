"""Where networks run and what this machine offers for it; knows tensors and engines, not images or ROS."""
