"""Sampling of flow models: noise to data through a velocity callable. Never sees a network, a voxel or a file."""
