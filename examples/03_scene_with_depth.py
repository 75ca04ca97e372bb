"""Several objects and a depth image: all in their places in metres, refined, in one GLB.

`cupid reconstruct COLOR --labels L --depth D --camera-info C --refine --out DIR` does the same, with a report.
"""

from pathlib import Path

from generated_frame import checkpoint, generated_frame, settings

from cupid_core.image.camera_files import read_camera_info
from cupid_core.image.files import read_depth, read_image, read_labels
from cupid_core.mesh.glb import SceneItem, write_scene_glb
from cupid_core.reconstruct.cupid import Cupid

files = generated_frame()
cupid = Cupid.from_pretrained(checkpoint(), config=settings())
scene = cupid.reconstruct_scene(
    read_image(files.color).rgb,
    read_labels(files.labels),
    names={1: "mug", 2: "cracker box", 3: "banana"},
    camera=read_camera_info(files.info),
    depth=read_depth(files.depth),
    refine=True,
)
for item in scene.objects:
    print(item.id, item.label, item.quality, sep="  ")
    print(item.T_camera_object.matrix())
for id_, error in scene.failures.items():
    print(id_, error.code, error)
if scene.objects:
    items = [SceneItem(item.label, item.mesh, item.T_camera_object) for item in scene.objects]
    write_scene_glb(Path("build/examples/scene.glb"), items)
