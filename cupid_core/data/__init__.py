"""Where training and evaluation data come from: procedural tabletop objects and asset data sets.

Knows files, images and geometry; must not know how a network is trained or what it predicts.
"""
