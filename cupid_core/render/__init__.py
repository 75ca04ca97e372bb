"""Rendering of triangle meshes: depth, silhouette, colors, normals; cameras around an object."""
