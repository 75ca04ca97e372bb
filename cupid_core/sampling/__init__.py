"""Sampling of flow models: noise to data by integrating a velocity callable."""
