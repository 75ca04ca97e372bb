"""Training and evaluation data: procedural tabletop objects and asset data sets."""
