"""Evaluation: metrics on poses, shapes and images, and the benchmark on generated tabletop objects.

`pose_metrics`, `shape_metrics` and `image_metrics` are pure functions that training may use too.
"""
