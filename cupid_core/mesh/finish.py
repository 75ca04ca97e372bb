"""Post-processing of a decoded mesh: closed, oriented outward, without specks, within a triangle budget.

The result lists what was changed and what could not be repaired.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from cupid_core.config import MeshConfig
from cupid_core.errors import EmptyMeshError, InvalidTensorError
from cupid_core.mesh.cleaning import (
    Surface,
    closed,
    cut,
    fill_holes,
    orient_consistently,
    orient_outward,
    remove_degenerate_faces,
    remove_small_components,
    smooth,
    weld_vertices,
)
from cupid_core.mesh.decimation import decimate
from cupid_core.mesh.edges import pair_half_edges
from cupid_core.mesh.normals import vertex_normals
from cupid_core.types import TriangleMesh


@dataclass(frozen=True, eq=False)
class FinishedMesh:
    """A finished mesh and its state.

    Attributes:
        mesh: within the triangle budget if `within_budget`, with normals, in the frame and unit of the input.
        detailed: the same before decimation; what a texture is baked from.
        watertight: every edge of `mesh` has exactly two faces, which agree about the outside; checked at the end.
        within_budget: the triangle budget is kept.
        notes: what was dropped, closed, left open or not reached; one sentence per entry.
    """

    mesh: TriangleMesh
    detailed: TriangleMesh
    watertight: bool
    within_budget: bool
    notes: tuple[str, ...]


def finish_mesh(mesh: TriangleMesh, config: MeshConfig | None = None) -> FinishedMesh:
    """Clean, close, orient, and decimate; the same input gives the same result.

    Args:
        mesh: any triangles; frame and unit do not matter, all bounds are relative.
        config: settings; None takes the defaults.

    Returns:
        On the device and in the type of the input.

    Raises:
        EmptyMeshError: no face with an area.
        InvalidTensorError: a vertex or color is NaN or infinite, or a face names a vertex that does not exist.
    """
    config = config or MeshConfig()
    notes: list[str] = []
    surface = _cleaned(_arrays(mesh), config, notes)
    detailed = smooth(surface, config.smoothing_rounds) if config.smoothing_rounds else surface
    final, within = detailed, True
    if config.triangle_budget and len(detailed.faces) > config.triangle_budget:
        smaller = decimate(detailed, config.triangle_budget, config.decimation_aggressiveness)
        within, final = smaller is not None, detailed if smaller is None else smaller
        if not within:
            notes.append(f"No sound decimation reached the budget; all {len(final.faces)} triangles are kept.")
    watertight = closed(final)
    if not watertight:
        notes.append("The surface is not watertight, so it has no volume.")
    return FinishedMesh(_tensors(final, mesh), _tensors(detailed, mesh), watertight, within, tuple(notes))


def _cleaned(surface: Surface, config: MeshConfig, notes: list[str]) -> Surface:
    if not closed(surface):
        # Welding a closed surface can only damage it: equal places are two sides of a pinch.
        surface = remove_degenerate_faces(weld_vertices(remove_degenerate_faces(surface)))
        if _is_inconsistent(surface):
            surface = orient_consistently(surface)
    surface, small = remove_small_components(cut(_checked(surface)), config.smallest_component)
    _note(notes, small, "separate piece{s} under {share:.3g} of the largest dropped", config.smallest_component)
    longest = config.largest_hole * float(np.linalg.norm(np.ptp(surface.vertices, axis=0)))
    surface, filled, left = fill_holes(surface, longest)
    _note(notes, filled, "hole{s} closed")
    _note(notes, left, "hole{s} left open, larger than {share:.3g} of the diagonal", config.largest_hole)
    surface, enclosed = orient_outward(surface)
    _note(notes, enclosed, "piece{s} enclosed in another dropped")
    return surface


def _note(notes: list[str], count: int, sentence: str, share: float = 0.0) -> None:
    if count:
        notes.append(f"{count} " + sentence.format(s="" if count == 1 else "s", share=share) + ".")


def _is_inconsistent(surface: Surface) -> bool:
    """Whether two faces run along an edge in the same direction, with no face opposite."""
    partner = pair_half_edges(surface.vertices, surface.faces)
    loose = partner < 0
    start = surface.faces.ravel()[loose]
    end = np.roll(surface.faces, -1, axis=1).ravel()[loose]
    key = start * (len(surface.vertices) + 1) + end
    return len(np.unique(key)) < len(key)


def _checked(surface: Surface) -> Surface:
    corners = surface.vertices[surface.faces]
    if not len(corners) or not np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]).any():
        raise EmptyMeshError(
            f"The mesh has {len(surface.faces)} faces and no area.", hint="Try another seed, or a tighter mask."
        )
    return surface


def _arrays(mesh: TriangleMesh) -> Surface:
    for name, value in (("vertices", mesh.vertices), ("colors", mesh.colors)):
        if value is not None and not bool(torch.isfinite(value).all()):
            raise InvalidTensorError(
                f"TriangleMesh.{name} hold NaN or infinity.", hint="Check the code that made the mesh."
            )
    faces = mesh.faces.cpu().numpy()
    if len(faces) and (int(faces.min()) < 0 or int(faces.max()) >= len(mesh.vertices)):
        raise InvalidTensorError(
            f"A face names vertex {int(faces.max())} or {int(faces.min())} of {len(mesh.vertices)}.",
            hint="Give indices from 0 to V - 1.",
        )
    colors = None if mesh.colors is None else mesh.colors.detach().double().cpu().numpy()
    return Surface(mesh.vertices.detach().double().cpu().numpy(), faces, colors)


def _tensors(surface: Surface, like: TriangleMesh) -> TriangleMesh:
    device, dtype = like.vertices.device, like.vertices.dtype
    vertices = torch.from_numpy(np.ascontiguousarray(surface.vertices)).to(device, dtype)
    faces = torch.from_numpy(np.ascontiguousarray(surface.faces)).to(device)
    colors = None if surface.colors is None else torch.from_numpy(surface.colors).clamp(0, 1).to(device, dtype)
    return TriangleMesh(vertices, faces, colors, vertex_normals(vertices, faces))
