"""The networks. Knows tensors and topologies, never files (the weights module aside), images or ROS."""
