"""A calibrated camera and an object of known size: a pose in metres with its uncertainty, from one photo."""

from generated_frame import checkpoint, generated_frame, settings

from cupid_core.image.camera_files import read_camera_info
from cupid_core.image.files import read_image, read_labels
from cupid_core.reconstruct.cupid import Cupid

files = generated_frame()
image = read_image(files.color).rgb
labels = read_labels(files.labels)
camera = read_camera_info(files.info)  # a CameraInfo as YAML does as well, lens distortion included

cupid = Cupid.from_pretrained(checkpoint(), config=settings())
scene = cupid.reconstruct_scene(image, {2: labels == 2}, camera=camera, longest_sides_m={2: 0.21})

for item in scene.objects:
    print("T_camera_object, metres:", item.T_camera_object.matrix(), sep="\n")
    print("standard deviations x y z (m), rx ry rz (rad):", item.covariance.diagonal().sqrt())
    print("scale:", item.scale, "+-", item.scale_std, "m, from", item.scale_source.value)
for id_, error in scene.failures.items():
    print(id_, error.code, error)
