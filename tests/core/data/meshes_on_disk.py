"""Small mesh files for the tests of asset preparation; nothing here is a test."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import trimesh
from PIL import Image
from trimesh.visual.material import PBRMaterial

MAJOR, MINOR = 0.6, 0.25


def torus(path: Path) -> trimesh.Trimesh:
    """A closed ring around z, colored by position: red along x, green along y, blue along z."""
    mesh = trimesh.creation.torus(MAJOR, MINOR, major_sections=48, minor_sections=24)
    color = (mesh.vertices / (2 * (MAJOR + MINOR)) + 0.5).clip(0, 1)
    mesh.visual.vertex_colors = (np.concatenate([color, np.ones_like(color[:, :1])], axis=1) * 255).astype(
        np.uint8
    )
    mesh.export(path)
    return mesh


def textured_box(path: Path, extents: tuple[float, float, float] = (0.4, 1.0, 0.6)) -> trimesh.Trimesh:
    """A box that is red in the left half of its texture and blue in the right; u follows x, v follows y."""
    mesh = trimesh.creation.box(extents)
    mesh.unmerge_vertices()
    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[:, :4, 0], pixels[:, 4:, 2] = 255, 255
    uv = mesh.vertices[:, :2] / np.asarray(extents)[:2] + 0.5
    material = PBRMaterial(baseColorTexture=Image.fromarray(pixels), baseColorFactor=[255, 255, 255, 255])
    mesh.visual = trimesh.visual.TextureVisuals(uv=uv, material=material)
    mesh.export(path)
    return mesh
