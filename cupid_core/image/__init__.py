"""Images of objects: reading files, masks, lens distortion, crops."""
