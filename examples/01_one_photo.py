"""One photo and a mask: the object's mesh in its own frame, and its pose up to scale (camera unknown)."""

from pathlib import Path

from generated_frame import checkpoint, generated_frame, settings

from cupid_core.image.files import read_image, read_labels
from cupid_core.mesh.glb import write_glb
from cupid_core.reconstruct.cupid import Cupid

files = generated_frame()
image = read_image(files.color).rgb
mask = read_labels(files.labels) == 1

cupid = Cupid.from_pretrained(checkpoint(), config=settings())
best = cupid.reconstruct(image, mask, seed=0).best

print(best.pose.T_camera_object.matrix())  # unit: the longest side of the object is about 1
print("focal length, estimated:", float(best.pose.camera.K[0, 0]), "px")
print("silhouette IoU:", best.quality.silhouette_iou, best.quality.verdict.value, *best.quality.reasons)
write_glb(Path("build/examples/one_photo.glb"), best.mesh)
