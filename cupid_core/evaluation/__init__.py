"""How good results are: metrics on poses, shapes and pictures, and the benchmark on generated tabletop objects.

`pose_metrics`, `shape_metrics` and `image_metrics` are pure functions that training may use too.
"""
