"""Masks and metric depth from other people's models and from sensors; knows images, not reconstruction.

`segment.Segmenter` and `depth.DepthSource` are what the rest of the package sees. Models of optional packages are
imported when one is built, never before.
"""
