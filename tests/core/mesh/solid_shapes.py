"""Solids that several tests of meshes start from: fields, their meshes, and what can be wrong with a mesh."""

import torch
import trimesh

from cupid_core.mesh.extract import extract_from_sdf
from cupid_core.types import TriangleMesh


def corners(resolution):
    axis = torch.arange(resolution + 1, dtype=torch.float64) / resolution - 0.5
    return torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), dim=-1)


def sphere(points, radius=0.4):
    return points.norm(dim=-1) - radius


def torus(points, major=0.3, minor=0.12):
    return torch.hypot(torch.hypot(points[..., 0], points[..., 1]) - major, points[..., 2]) - minor


def box(points, half=(0.41, 0.29, 0.17)):
    q = points.abs() - torch.tensor(half, dtype=torch.float64)
    return q.clamp(min=0).norm(dim=-1) + q.amax(dim=-1).clamp(max=0)


def mug(points):
    """A tabletop object: thin wall, a cavity that is open above, a handle."""
    radius = torch.hypot(points[..., 0], points[..., 1])
    wall = torch.maximum(radius - 0.3, points[..., 2].abs() - 0.4)
    wall = torch.maximum(wall, -torch.maximum(radius - 0.25, -(points[..., 2] + 0.33)))
    handle = torch.hypot(torch.hypot(points[..., 0] - 0.3, points[..., 2]) - 0.14, points[..., 1]) - 0.035
    return torch.minimum(wall, torch.maximum(handle, 0.27 - radius))


def colors_at(points):
    """Colors that vary slowly over the cube."""
    return 0.5 + 0.4 * torch.sin(4 * points + torch.tensor([0.0, 1.0, 2.0]))


def meshed(field, resolution=32):
    at = corners(resolution)
    return extract_from_sdf(field(at), colors_at(at).double())


def together(*meshes):
    """Several meshes as one."""
    starts = torch.tensor([0, *(len(mesh.vertices) for mesh in meshes)]).cumsum(0)
    return TriangleMesh(
        torch.cat([mesh.vertices for mesh in meshes]),
        torch.cat([mesh.faces + start for mesh, start in zip(meshes, starts, strict=False)]),
        torch.cat([mesh.colors for mesh in meshes]),
    )


def moved(mesh, scale=1.0, offset=(0.0, 0.0, 0.0)):
    return TriangleMesh(mesh.vertices * scale + torch.tensor(offset).to(mesh.vertices), mesh.faces, mesh.colors)


def judged(mesh):
    """The same mesh in the hands of another library, which knows nothing of how it was made."""
    return trimesh.Trimesh(mesh.vertices.double().numpy(), mesh.faces.numpy(), process=False)
