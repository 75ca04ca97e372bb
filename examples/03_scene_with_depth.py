"""Several objects and a depth image: all of them in their places in metres, one GLB, and a report to look at."""

from generated_frame import checkpoint, generated_frame

from cupid_core.cli import main

files = generated_frame()
code = main(
    [
        "reconstruct",
        str(files.colour),
        *("--labels", str(files.labels)),
        *("--depth", str(files.depth)),
        *("--camera-info", str(files.info)),
        *("--names", str(files.info)),
        *("--checkpoint", checkpoint()),
        "--refine",
        *("--out", "build/examples/scene"),
    ]
)
print("exit code", code, "- open build/examples/scene/report.html, or read objects.json")
