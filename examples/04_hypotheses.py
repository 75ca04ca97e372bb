"""Several draws for one object: one image leaves things open, and the image itself says which draw fits best."""

from generated_frame import checkpoint, generated_frame, settings

from cupid_core.image.camera_files import read_camera_info
from cupid_core.image.files import read_depth, read_image, read_labels
from cupid_core.reconstruct.cupid import Cupid

files = generated_frame()
image = read_image(files.color).rgb
mask = read_labels(files.labels) == 3

cupid = Cupid.from_pretrained(checkpoint(), config=settings())
found = cupid.reconstruct(
    image, mask, camera=read_camera_info(files.info), depth=read_depth(files.depth), samples=4, seed=7
)

print("best first; all were drawn in one batch")
for draw in found.hypotheses:
    quality = draw.quality
    print(
        f"draw {draw.number}: score {draw.score:.3f}, IoU {quality.silhouette_iou:.3f}, "
        f"reprojection {quality.reprojection_rms_px:.2f} px, {len(draw.coords)} voxels, {quality.verdict.value}"
    )
for number, error in found.lost.items():
    print(f"draw {number} gave nothing: {error.code}")
