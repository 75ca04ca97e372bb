"""Pictures of meshes for checking; knows cameras and meshes, never the networks that made them."""
