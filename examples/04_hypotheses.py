"""Several hypotheses for one object: one image leaves things open, and the image says which one fits best."""

from cupid_core import Cupid, sample_frame

frame = sample_frame()
cupid = Cupid.from_pretrained()
scene = cupid(frame.color, masks=frame.labels, camera=frame.camera, depth=frame.depth, only=[3], samples=4, seed=7)
for item in scene:
    print("best first")
    for hypothesis in item.hypotheses:
        quality = hypothesis.quality
        print(
            f"hypothesis {hypothesis.number}: score {hypothesis.score:.3f}, IoU {quality.silhouette_iou:.3f}, "
            f"reprojection {quality.reprojection_rms_px:.2f} px, {len(hypothesis.structure.coords)} voxels, "
            f"{len(hypothesis.mesh().faces)} triangles, {quality.verdict.value}"
        )
    for number, error in item.failures.items():
        print(f"hypothesis {number} gave nothing: {error.code}")
