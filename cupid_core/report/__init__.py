"""The output of a reconstruction: objects.json, meshes, the overlay and the HTML report."""
