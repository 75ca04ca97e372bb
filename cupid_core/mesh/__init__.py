"""Surfaces as triangles: extraction from fields; knows tensors and meshes, never the networks that made them."""
