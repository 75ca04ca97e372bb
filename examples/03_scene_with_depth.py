"""Several objects and a depth image: all in their places in metres, refined, with meshes, pictures and a report.

`cupid reconstruct sample --out results` does the same.
"""

from cupid_core import Cupid, sample_frame

frame = sample_frame()
cupid = Cupid.from_pretrained()
scene = cupid(
    frame.color,
    masks=frame.labels,
    camera=frame.camera,
    depth=frame.depth,
    names={1: "mug", 2: "cracker box", 3: "apple", 4: "can"},
    refine="shape",
)
print(scene)
for item in scene:
    print(item.id, item.label, item.quality, sep="  ")
    print(item.pose.matrix())
scene.save("results")  # objects.json, meshes, scene.glb, overlay.png, report.html
