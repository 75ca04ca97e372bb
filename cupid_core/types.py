"""Frozen values that travel between rooms; knows tensors and frames, not how anything is computed."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from cupid_core.errors import InvalidTensorError
from cupid_core.geometry.sim3 import Sim3


@dataclass(frozen=True, eq=False)
class TriangleMesh:
    """Triangles in the object's canonical frame.

    Attributes:
        vertices: (V, 3) floating, object frame: z up, canonical cube [-0.5, 0.5]^3 before metric scaling.
        faces: (F, 3) int64 indices into `vertices`, counter-clockwise seen from outside.
        colours: (V, 3) floating linear-in-file RGB in [0, 1], or None where the source has no colour.
        normals: (V, 3) floating unit outward vertex normals in the object frame, or None where not computed.
    """

    vertices: Tensor
    faces: Tensor
    colours: Tensor | None = None
    normals: Tensor | None = None

    def __post_init__(self) -> None:
        """Check shapes and types.

        Raises:
            InvalidTensorError: a shape or type is not the documented one.
        """
        count = self.vertices.shape[0] if self.vertices.dim() else 0
        for name in ("vertices", "colours", "normals"):
            value = getattr(self, name)
            if value is not None and (value.shape != (count, 3) or not value.is_floating_point()):
                raise InvalidTensorError(
                    f"TriangleMesh.{name} is {tuple(value.shape)} {value.dtype}, expected (V, 3) floating with "
                    f"V = {count}.",
                    cure="Give one row of three floating numbers per vertex.",
                )
        if self.faces.dim() != 2 or self.faces.shape[1] != 3 or self.faces.dtype != torch.int64:
            raise InvalidTensorError(
                f"TriangleMesh.faces is {tuple(self.faces.shape)} {self.faces.dtype}, expected (F, 3) int64.",
                cure="Give three vertex indices per face as int64.",
            )

    def to(self, device: torch.device | str) -> TriangleMesh:
        """The same mesh on another device."""
        return replace(
            self,
            vertices=self.vertices.to(device),
            faces=self.faces.to(device),
            colours=None if self.colours is None else self.colours.to(device),
            normals=None if self.normals is None else self.normals.to(device),
        )

    def transformed(self, S_a_b: Sim3) -> TriangleMesh:
        """The same mesh, given in frame b, in frame a.

        Args:
            S_a_b: one similarity (no batch); rotates normals, rotates, scales and moves vertices.
        """
        normals = None if self.normals is None else self.normals @ S_a_b.rotation().mT
        return replace(self, vertices=S_a_b.apply(self.vertices), normals=normals)
