"""Meshes for a simulator: URDF with visual and collision geometry, mass and inertia, one per object."""

from pathlib import Path

from cupid_core import Cupid, sample_frame

frame = sample_frame()
cupid = Cupid.from_pretrained()
scene = cupid(frame.color, masks=frame.labels, camera=frame.camera, depth=frame.depth)

for item in scene:
    if not item.model.watertight:
        print(f"{item.label}: not closed, so it has no volume and no mass")
        continue
    path = Path(f"object_{item.id}.urdf")
    item.mesh.export(path)
    print(f"{item.label}: {path}, {len(item.mesh.faces)} triangles")
