"""Where training and evaluation data come from: procedural tabletop objects and asset data sets."""
