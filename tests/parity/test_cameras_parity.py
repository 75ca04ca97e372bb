"""Camera rings and projections against the golden numbers."""

import torch

from cupid_core.geometry import SE3
from cupid_core.render.cameras import (
    clip_projection,
    hammersley_angles,
    hammersley_ring,
    opengl_projection,
    opengl_view,
)


def test_ring_equals_the_reference(fixtures, agree):
    tensors, meta = fixtures("cameras")
    tolerance = meta["tolerance"]
    agree("yaw and pitch", torch.stack(hammersley_angles(100), dim=1), tensors["yaw_pitch"], tolerance)
    ring = hammersley_ring(100)
    agree("extrinsics", ring.T_camera_object.matrix(), tensors["extrinsics"], tolerance)
    agree("intrinsics", ring.K_normalized.expand(100, 3, 3), tensors["intrinsics"], tolerance)


def test_projections_equal_the_reference(fixtures, agree):
    tensors, meta = fixtures("cameras")
    tolerance, pose = meta["tolerance"], SE3.from_matrix(tensors["E"])
    projection = clip_projection(tensors["K"], 1.0, 100.0)
    agree("projection", projection, tensors["mesh_projection_near1_far100"], tolerance)
    points = torch.cat([pose.apply(tensors["points"]), torch.ones(20, 1)], dim=1)
    agree("clip points", points @ projection.T, tensors["clip_points"], tolerance)
    uv = (points[:, :3] @ tensors["K"].T)[:, :2] / points[:, 2:3]
    agree("uv", uv, tensors["uv"], tolerance)
    agree("OpenGL view", opengl_view(pose), tensors["view_gl"], tolerance)
    perspective = opengl_projection(tensors["K"], 0.1, 10.0)
    agree("OpenGL projection", perspective, tensors["perspective_gl_near0.1_far10"], tolerance)
