"""Masks and metric depth from third-party models and from sensors.

The rest of the package uses the interfaces `segment.Segmenter` and `depth.DepthSource`. Optional packages are
imported when a model of theirs is built.
"""
