"""Triangle meshes: extraction from fields, cleaning, decimation, texture, physical properties, files."""
