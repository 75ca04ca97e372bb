"""One photo and a mask: the object's mesh in its own frame, and its pose up to scale (camera unknown)."""

import numpy as np
from PIL import Image

from cupid_core import Cupid, sample_frame

frame = sample_frame()
photo = Image.open(frame.color)
mask = np.asarray(Image.open(frame.labels)) == 1

cupid = Cupid.from_pretrained()
scene = cupid(photo, masks=mask)
mug = scene[0]

print(mug)
print(mug.pose.matrix())  # T_camera_object; unit: the edge of the canonical cube
print("focal length, estimated:", round(float(scene.camera.K[0, 0])), "px")
mug.mesh.export("mug.glb")
