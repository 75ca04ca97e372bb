"""Meshes as files in a bounded folder, for planners that take a URI instead of arrays."""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections import OrderedDict
from pathlib import Path

import torch

from cupid_core.mesh.export import export_mesh
from cupid_core.serving.records import ObjectRecord
from cupid_core.types import TriangleMesh


class MeshFiles:
    """The newest mesh of each object as a file; the scale is applied, so the unit is metres where it is known.

    Files appear complete or not at all, and disappear with their object. Not safe from several threads at a time.

    Args:
        folder: where they are; made where it is missing, never deleted.
        suffix: of the format: obj, ply or stl (object frame, z up), or glb (y up).
        limit: files at most; those of the objects that were written longest ago are removed.
    """

    def __init__(self, folder: Path, suffix: str, limit: int) -> None:
        self._folder, self._suffix, self._limit = folder.expanduser().absolute(), suffix, limit
        self._written: OrderedDict[str, tuple[Path, ObjectRecord]] = OrderedDict()

    def write(self, item: ObjectRecord) -> str:
        """Write the mesh of an object, if it has changed; its file:// URI, the same for every mesh of an object.

        Raises:
            OutputError: the folder or the file cannot be written.
        """
        known = self._written.get(item.id)
        path = self._folder / f"{_file_name(item.id)}.{self._suffix}"
        if known is None or not known[1].has_mesh_of(item):
            colors = None if item.colors is None else torch.from_numpy(item.colors)
            mesh = TriangleMesh(torch.from_numpy(item.vertices).float(), torch.from_numpy(item.faces), colors)
            export_mesh(mesh, path)
        self._written[item.id] = path, item
        self._written.move_to_end(item.id)
        while len(self._written) > self._limit:
            self._remove(next(iter(self._written)))
        return path.as_uri()

    def uri(self, id_: str) -> str:
        """URI of the file of an object; empty where there is none."""
        known = self._written.get(id_)
        return "" if known is None else known[0].as_uri()

    def clear(self) -> None:
        """Remove all files that were written here."""
        for id_ in list(self._written):
            self._remove(id_)

    def _remove(self, id_: str) -> None:
        path, _ = self._written.pop(id_)
        with contextlib.suppress(OSError):  # somebody cleaned up, or the disk is read-only by now
            path.unlink()


def _file_name(id_: str) -> str:
    """A readable file name; two ids never share one, and none leaves the folder."""
    readable = re.sub(r"[^A-Za-z0-9_-]", "_", id_)[:60]
    return f"{readable}-{hashlib.sha256(id_.encode()).hexdigest()[:8]}"
