"""A calibrated camera and an object of known size: a pose in metres with its uncertainty, without depth."""

from cupid_core import Cupid, sample_frame

frame = sample_frame()
cupid = Cupid.from_pretrained()
scene = cupid(frame.color, masks=frame.labels, camera=frame.camera, only=[2], sizes_m={2: 0.21})

for item in scene:
    print("T_camera_object, metres:", item.pose.matrix(), sep="\n")
    print("standard deviations x y z (m), rx ry rz (rad):", item.state.covariance.diagonal().sqrt())
    print("scale:", item.model.scale, "+-", item.model.scale_std, "m, from", item.model.scale_source.value)
for id_, error in scene.failures.items():
    print(id_, error.code, error)
