"""Several objects of one view in one frame; knows meshes, poses and cameras, never networks."""
