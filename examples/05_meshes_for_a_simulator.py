"""Meshes for a simulator: URDF with visual and collision geometry, mass and inertia, one per object."""

from pathlib import Path

from generated_frame import checkpoint, generated_frame, settings

from cupid_core.image.camera_files import read_camera_info
from cupid_core.image.files import read_depth, read_image, read_labels
from cupid_core.mesh.export import write_urdf
from cupid_core.reconstruct.cupid import Cupid

files = generated_frame()
cupid = Cupid.from_pretrained(checkpoint(), config=settings())
scene = cupid.reconstruct_scene(
    read_image(files.color).rgb,
    read_labels(files.labels),
    names={1: "mug", 2: "box", 3: "banana"},
    camera=read_camera_info(files.info),
    depth=read_depth(files.depth),
)

for item in scene.objects:
    # `convex_parts` (pip install 'cupid_ros[convex]') gives better collision geometry than the mesh itself.
    path = Path(f"build/examples/urdf/{item.label}.urdf")
    model = write_urdf(path, item.mesh, density_kg_m3=400.0)
    print(model, "at", item.T_camera_object.translation.tolist(), "m in the camera frame")
for id_, error in scene.failures.items():
    print(id_, error.code, error)
