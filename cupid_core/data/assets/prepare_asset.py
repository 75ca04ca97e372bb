"""Makes the files of one asset from its mesh, part by part; finished parts that are up to date are kept."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cupid_core.config.assets import AssetPreparationConfig
from cupid_core.data.assets.layout import AssetFolder
from cupid_core.data.assets.mesh_file import MeshSource, read_mesh
from cupid_core.data.assets.ply import ply_points
from cupid_core.data.assets.ray_scene import RayScene
from cupid_core.data.assets.record import (
    PartRecord,
    PreparedAsset,
    digest_of,
    read_record,
    remove_files,
    write_whole,
)
from cupid_core.data.assets.render_views import draw_light, render_view
from cupid_core.data.assets.surface import AssetSurface
from cupid_core.data.assets.view_cameras import draw_cameras
from cupid_core.data.assets.voxelize import surface_voxels
from cupid_core.geometry.grid import voxel_centers

# Increased when the content of a part changes without a change of the settings.
_VERSION = 1
_HASH_DIGITS = 12


class LatentRecipe(Protocol):
    """How one kind of latents is computed from a prepared asset; must be picklable."""

    @property
    def folder(self) -> str:
        """Folder of the latents, e.g. "latents/NAME"."""
        ...

    @property
    def column(self) -> str:
        """Column of metadata.csv, e.g. "latent_NAME"."""
        ...

    @property
    def needs(self) -> tuple[str, ...]:
        """Names of the parts that they are computed from: "surface", "voxels", "renders_cond"."""
        ...

    @property
    def digest(self) -> str:
        """A text that differs where the latents of the same asset would differ."""
        ...

    def make(self, asset: AssetFolder) -> Mapping[str, Any]:
        """Arrays of the .npz file, by name."""
        ...


@dataclass(frozen=True)
class AssetReport:
    """Report of one asset.

    Attributes:
        sha256: its name.
        source: its mesh file.
        made: parts that were made.
        kept: parts that were up to date.
        again: those of `made` that existed, but were damaged or made with other settings.
        seconds: duration.
    """

    sha256: str
    source: Path
    made: tuple[str, ...]
    kept: tuple[str, ...]
    again: tuple[str, ...]
    seconds: float


@dataclass(frozen=True)
class _Part:
    """A part to be made: what it depends on, and how. `make` returns files by relative path, and facts."""

    name: str
    digest: str
    columns: tuple[str, ...]
    make: Callable[[], tuple[Mapping[str, bytes], Mapping[str, str]]]
    made_of: Mapping[str, str] = field(default_factory=dict)


def prepare_asset(
    source: MeshSource, out: Path, config: AssetPreparationConfig, recipes: Sequence[LatentRecipe] = ()
) -> AssetReport:
    """Update the files of one asset.

    The record is written after every part, so that an interrupted asset continues where it stopped. All random
    numbers follow from the content of the mesh and the seed, so files are reproducible.

    Args:
        source: the mesh.
        out: folder of the data set.
        config: how it is prepared.
        recipes: of latents; latents of other recipes stay as long as what they were made of does.

    Raises:
        DatasetError: the mesh cannot be used.
        OutputError: a file cannot be written.
        MissingPackageError: open3d cannot be loaded.
    """
    start = time.monotonic()
    record = read_record(out, source.sha256) or PreparedAsset(source.sha256, str(source.path))
    record = PreparedAsset(source.sha256, str(source.path), record.parts)
    maker = _Maker(source, out, config)
    made: list[str] = []
    kept: list[str] = []
    again: list[str] = []
    for part in maker.parts(recipes):
        old = record.parts.get(part.name)
        if old is not None and old.digest == part.digest and old.is_whole(out):
            kept.append(part.name)
            continue
        if old is not None:
            record = _removed(record, part.name, out)
            again.append(part.name)
        contents, facts = part.make()
        files = {name: write_whole(out / name, content) for name, content in contents.items()}
        finished = PartRecord(part.digest, part.columns, files, facts, part.made_of)
        record = record.with_part(part.name, finished)
        record.write(out)
        made.append(part.name)
    for name in maker.stale(record, recipes):
        record = _removed(record, name, out)
    record.write(out)
    return AssetReport(
        source.sha256, source.path, tuple(made), tuple(kept), tuple(again), time.monotonic() - start
    )


def is_prepared(
    source: MeshSource, out: Path, config: AssetPreparationConfig, recipes: Sequence[LatentRecipe] = ()
) -> bool:
    """Whether `prepare_asset` would find all parts up to date; arguments as there."""
    record = read_record(out, source.sha256)
    if record is None or record.source != str(source.path):
        return False
    maker = _Maker(source, out, config)
    wanted = {part.name: part.digest for part in maker.parts(recipes)}
    found = {name: part.digest for name, part in record.parts.items() if part.is_whole(out)}
    return wanted.items() <= found.items() and not maker.stale(record, recipes)


def _removed(record: PreparedAsset, name: str, out: Path) -> PreparedAsset:
    """Remove a part from the record, then its files; a record without files would claim that they exist."""
    shorter = record.without(name)
    shorter.write(out)
    remove_files(out, record.parts[name])
    return shorter


class _Maker:
    """Makes the parts of one asset; surface and ray casting scene are made when first used."""

    def __init__(self, source: MeshSource, out: Path, config: AssetPreparationConfig) -> None:
        self._source, self._out, self._config = source, out, config
        name = source.sha256
        self._digests = {
            "surface": digest_of(_VERSION, name, _values(config, "longest_side", "up", "texture_size"))
        }
        self._digests["voxels"] = digest_of(self._digests["surface"], _values(config, "resolution"))
        lens = ("views", "image_size", "samples_per_edge", "focal_low_mm", "focal_high_mm", "seed")
        self._digests["renders_cond"] = digest_of(self._digests["surface"], _values(config, *lens))

    def parts(self, recipes: Sequence[LatentRecipe]) -> list[_Part]:
        """All parts, each after those it needs."""
        own = [
            _Part("surface", self._digests["surface"], ("surface",), self._surface_files),
            _Part("voxels", self._digests["voxels"], ("voxelized",), self._voxel_files),
            _Part("renders_cond", self._digests["renders_cond"], ("cond_rendered",), self._view_files),
        ]
        return own + [self._latent_part(recipe) for recipe in recipes]

    def stale(self, record: PreparedAsset, recipes: Sequence[LatentRecipe]) -> list[str]:
        """Latents of recipes that were not given, made from parts that no longer exist."""
        given = {recipe.folder for recipe in recipes} | set(self._digests)
        found = []
        for name, part in record.parts.items():
            changed = any(self._digests.get(need) != digest for need, digest in part.made_of.items())
            if changed and name not in given:
                found.append(name)
        return found

    @cached_property
    def _canonical(self) -> tuple[AssetSurface, Any, float]:
        config = self._config
        surface = read_mesh(self._source.path, up=config.up, texture_size=config.texture_size)
        return surface.normalized(config.longest_side)

    @cached_property
    def _scene(self) -> RayScene:
        return RayScene(self._canonical[0])

    def _surface_files(self) -> tuple[dict[str, bytes], dict[str, str]]:
        surface = self._canonical[0]
        facts = {"watertight": str(surface.watertight)}
        return {f"surfaces/{self._source.sha256}.npz": surface.to_bytes()}, facts

    def _voxel_files(self) -> tuple[dict[str, bytes], dict[str, str]]:
        coords = surface_voxels(self._canonical[0], self._config.resolution)
        points = voxel_centers(coords, self._config.resolution).astype(np.float32)
        facts = {"num_voxels": str(len(coords)), "resolution": str(self._config.resolution)}
        return {f"voxels/{self._source.sha256}.ply": ply_points(points)}, facts

    def _view_files(self) -> tuple[dict[str, bytes], dict[str, str]]:
        config, folder = self._config, f"renders_cond/{self._source.sha256}"
        generator = np.random.default_rng((config.seed, int(self._source.sha256[:_HASH_DIGITS], 16)))
        cameras = draw_cameras(config, generator)
        files = {}
        for camera in cameras:
            light = draw_light(generator)
            image = render_view(self._scene, camera, light, config.image_size, config.samples_per_edge)
            files[f"{folder}/{camera.name}.png"] = _png(image)
        _, offset, scale = self._canonical
        # How the mesh was normalized: canonical = (point of the z-up mesh + offset) * scale.
        described = {
            "scale": scale,
            "offset": offset.tolist(),
            "frames": [camera.frame() for camera in cameras],
        }
        files[f"{folder}/transforms.json"] = json.dumps(described, indent=1).encode()
        return files, {}

    def _latent_part(self, recipe: LatentRecipe) -> _Part:
        made_of = {need: self._digests[need] for need in recipe.needs}

        def make() -> tuple[dict[str, bytes], dict[str, str]]:
            stream = io.BytesIO()
            np.savez(stream, **recipe.make(AssetFolder(self._out, self._source.sha256)))
            return {f"{recipe.folder}/{self._source.sha256}.npz": stream.getvalue()}, {}

        return _Part(recipe.folder, digest_of(recipe.digest, made_of), (recipe.column,), make, made_of)


def _values(config: AssetPreparationConfig, *names: str) -> dict[str, Any]:
    return {name: getattr(config, name) for name in names}


def _png(image: NDArray[np.uint8]) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, format="png")
    return stream.getvalue()
