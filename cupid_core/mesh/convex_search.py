"""Runs coacd in a process of its own: `python -m cupid_core.mesh.convex_search`, arrays in and out as `.npz`.

The library can end the process that calls it, and cannot be stopped; here that does no harm. Knows arrays only.
"""

from __future__ import annotations

import io
import sys

import numpy as np

from cupid_core.mesh.optional_package import optional_package


def main() -> None:
    """Read vertices, faces, threshold and most parts from stdin; write vertices and faces of every part."""
    given = np.load(io.BytesIO(sys.stdin.buffer.read()))
    coacd = optional_package("coacd", "convex")
    coacd.set_log_level("off")
    found = coacd.run_coacd(
        coacd.Mesh(given["vertices"], given["faces"]),
        threshold=float(given["threshold"]),
        max_convex_hull=int(given["parts"]),
        seed=0,
    )
    answer = {}
    for number, (vertices, faces) in enumerate(found):
        answer[f"vertices_{number}"], answer[f"faces_{number}"] = np.asarray(vertices), np.asarray(faces)
    stream = io.BytesIO()
    np.savez(stream, **answer)
    sys.stdout.buffer.write(stream.getvalue())


if __name__ == "__main__":
    main()
