"""The mesh decoder's output, 53 or 101 channels per fine voxel, read as values at grid vertices and cubes.

Layout per cube (corner k has offset (k & 1, (k >> 1) & 1, (k >> 2) & 1)): sdf of the 8 corners [0:8], deformation
of the 8 corners [8:32], FlexiCubes weights [32:53], and with color 6 attributes of the 8 corners [53:101] (RGB
and the normal map, before their sigmoid). Source: TRELLIS (Xiang et al. 2024), mesh decoder.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor

from cupid_core.errors import EmptyMeshError, InvalidTensorError
from cupid_core.mesh.flexicubes_tables import N_CORNERS
from cupid_core.mesh.vertex_grid import CORNERS_BY_ASCENDING_CUBE, VertexGrid, lookup

N_WEIGHTS = 21
N_ATTRIBUTES = 6
CHANNELS_PLAIN = N_CORNERS * 4 + N_WEIGHTS
CHANNELS_COLOR = CHANNELS_PLAIN + N_CORNERS * N_ATTRIBUTES
# A vertex that no cube of the input touches lies outside.
DEFAULT_SDF = 1.0
# Kinds of channels per corner: first channel, channels per corner.
_SDF = (0, 1)
_DEFORMATION = (N_CORNERS, 3)
_ATTRIBUTES = (CHANNELS_PLAIN, N_ATTRIBUTES)
# Cubes per slab of the search for inside vertices: enough to keep a device busy, little against the features.
_SLAB_CUBES = 1 << 17
# Keeps a deformed vertex strictly inside its half-cell.
_DEFORM_LIMIT = 1 - 1e-8


@dataclass(frozen=True, eq=False)
class CubeChannels:
    """Checked decoder output of one object.

    Attributes:
        resolution: fine voxels per axis of the canonical cube.
        grid: the grid of the fine voxels, with `border` layers of empty cubes around it.
        border: 1 where surfaces are to be closed beyond the border of the canonical cube, else 0.
        keys: (N,) sorted keys of the cubes.
        rows: (N,) int64 row of `features` for each key.
        features: (N, 53 or 101) as given, never written to.
    """

    resolution: int
    grid: VertexGrid
    border: int
    keys: Tensor
    rows: Tensor
    features: Tensor

    @classmethod
    def checked(cls, coords: Tensor, features: Tensor, resolution: int, border: int = 0) -> CubeChannels:
        """Check and index decoder output; arguments and errors as in `extract.extract_mesh`."""
        if features.dim() != 2 or features.shape[1] not in (CHANNELS_PLAIN, CHANNELS_COLOR):
            raise InvalidTensorError(
                f"Cube features are {tuple(features.shape)}, expected (N, {CHANNELS_PLAIN}) or "
                f"(N, {CHANNELS_COLOR}).",
                hint="Pass the mesh decoder's output of one object.",
            )
        if coords.shape != (len(features), 3) or coords.is_floating_point() or not features.is_floating_point():
            raise InvalidTensorError(
                f"Coordinates are {tuple(coords.shape)} {coords.dtype} and features {features.dtype}, expected "
                f"integer ({len(features)}, 3) and floating.",
                hint="Pass integer (x, y, z) without the batch column, one row per feature row.",
            )
        if len(coords) == 0:
            raise EmptyMeshError("There is no voxel to extract a mesh from.", hint="Try another seed or mask.")
        if bool((coords < 0).any()) or bool((coords >= resolution).any()):
            raise InvalidTensorError(
                f"Coordinates span {coords.min().item()}..{coords.max().item()}, expected 0..{resolution - 1}.",
                hint="Pass the resolution the decoder puts out (4 times that of its input).",
            )
        grid = VertexGrid(resolution + 2 * border)
        keys, rows = torch.sort(grid.key(coords + border))
        if bool((keys[1:] == keys[:-1]).any()):
            raise InvalidTensorError(
                "Coordinates contain a voxel twice.", hint="Pass the voxels of one object at a time."
            )
        return cls(resolution, grid, border, keys, rows, features)

    @property
    def has_color(self) -> bool:
        """Whether the 48 attribute channels are there."""
        return self.features.shape[1] == CHANNELS_COLOR

    @property
    def dtype(self) -> torch.dtype:
        """Type to compute in: half-precision features are widened column by column."""
        return torch.promote_types(self.features.dtype, torch.float32)

    def inside_vertices(self) -> Tensor:
        """Sorted keys of the vertices with negative mean sdf.

        Raises:
            InvalidTensorError: an sdf value is NaN or infinite.
        """
        inside = []
        for slab, first_key, end_key in self._slabs():
            vertices = self.grid.vertices_of(slab.keys)
            vertices = vertices[(vertices >= first_key) & (vertices < end_key)]
            sdf = slab._slab_means(vertices, (_SDF,))[:, 0]
            if not bool(torch.isfinite(sdf).all()):
                raise not_finite()
            inside.append(vertices[sdf < 0])
        return torch.cat(inside)

    def vertex_values(self, vertex_keys: Tensor) -> Tensor:
        """Means (V, 4 or 10) over the cubes around each vertex: biased sdf 1, deformation 3, attributes 6 if any.

        Deformation and attributes are before their activations. Where no cube touches the vertex, the sdf is
        `DEFAULT_SDF` and the rest 0.
        """
        return self._means(vertex_keys, self._kinds)

    def corner_values(self, corner: int, rows: Tensor) -> Tensor:
        """The same channels (P, 4 or 10) as one corner of the cubes in `rows` states them."""
        return self._corner(corner, rows, self._kinds)

    def positions(self, vertex_keys: Tensor, deformation: Tensor) -> Tensor:
        """Object-frame positions (V, 3) of deformed vertices."""
        regular = (self.grid.coords(vertex_keys) - self.border).to(self.dtype) / self.resolution - 0.5
        return regular + _DEFORM_LIMIT / (2 * self.resolution) * torch.tanh(deformation)

    @property
    def weights(self) -> Tensor:
        """Raw FlexiCubes weights (N, 21) in the order of `features`."""
        return self.features[:, CHANNELS_PLAIN - N_WEIGHTS : CHANNELS_PLAIN]

    def rows_of(self, cube_keys: Tensor) -> Tensor:
        """Row of `features` (M,) of cubes; -1 for cubes that are not in the input."""
        index, found = lookup(self.keys, cube_keys)
        return self.rows[index].masked_fill_(~found, -1)

    @property
    def _kinds(self) -> tuple[tuple[int, int], ...]:
        return (_SDF, _DEFORMATION, _ATTRIBUTES) if self.has_color else (_SDF, _DEFORMATION)

    def _corner(self, corner: int, rows: Tensor, kinds: tuple[tuple[int, int], ...]) -> Tensor:
        columns = []
        for first, width in kinds:
            start = first + corner * width
            columns.append(self.features[:, start : start + width].index_select(0, rows).to(self.dtype))
        # The decoder was trained with this bias: an untrained output of zero means inside.
        columns[0] = columns[0] - 1 / self.resolution
        return torch.cat(columns, dim=1)

    def _slabs(self) -> Iterator[tuple[CubeChannels, int, int]]:
        """Cut the grid along x into (cubes, first vertex key, end of the vertex keys), each with few cubes.

        The cubes of a slab are all that touch its vertices, so neighboring slabs share one layer of cubes.
        """
        stride = self.grid.strides[0]
        bounds = sorted({0, *self.grid.coordinate(self.keys[::_SLAB_CUBES], 0).tolist(), self.grid.resolution + 1})
        for first, end in pairwise(bounds):
            low, high = torch.searchsorted(self.keys, self.keys.new_tensor([first - 1, end]) * stride).tolist()
            yield replace(self, keys=self.keys[low:high], rows=self.rows[low:high]), first * stride, end * stride

    def _means(self, vertex_keys: Tensor, kinds: tuple[tuple[int, int], ...]) -> Tensor:
        """Means (V, total width) of the sdf and other kinds of channels."""
        parts = []
        for slab, first_key, end_key in self._slabs():
            low, high = torch.searchsorted(vertex_keys, vertex_keys.new_tensor([first_key, end_key])).tolist()
            parts.append(slab._slab_means(vertex_keys[low:high], kinds))
        return torch.cat(parts)

    def _slab_means(self, vertex_keys: Tensor, kinds: tuple[tuple[int, int], ...]) -> Tensor:
        """As `_means`, all cubes at once.

        Within a pass no vertex is met twice, so the order of summation is fixed on every device.
        """
        width = sum(width for _, width in kinds)
        total = torch.zeros(len(vertex_keys), width, dtype=self.dtype, device=vertex_keys.device)
        count = torch.zeros(len(vertex_keys), dtype=self.dtype, device=vertex_keys.device)
        for corner in CORNERS_BY_ASCENDING_CUBE:
            index, found = lookup(vertex_keys, self.keys + self.grid.corner_shift(corner))
            touching = torch.nonzero(found).squeeze(1)
            index = index[touching]
            total.index_add_(0, index, self._corner(corner, self.rows[touching], kinds))
            count[index] += 1
        total.div_(count.clamp(min=1)[:, None])
        total[:, 0].masked_fill_(count == 0, DEFAULT_SDF)
        return total


def not_finite() -> InvalidTensorError:
    """The error for NaN or infinity in the field."""
    return InvalidTensorError(
        "The field holds NaN or infinity.", hint="Run the decoder in float32, or look at its input for NaN."
    )
