"""Runs coacd in a process of its own: `python -m cupid_core.mesh.convex_search`, arrays in and out as `.npz`.

The library can crash the process that calls it, and cannot be interrupted; here neither matters.
"""

from __future__ import annotations

import io
import sys
from typing import Any

import numpy as np

from cupid_core.packages import optional_package

# A fifth of the library's effort: seconds instead of minutes, and for household objects the same number of parts.
_EFFORT = {"mcts_iterations": 40, "mcts_nodes": 10, "mcts_max_depth": 2, "resolution": 500}


def main() -> None:
    """Read vertices, faces, threshold, most parts and whether it is closed from stdin; write the parts."""
    given = np.load(io.BytesIO(sys.stdin.buffer.read()))
    coacd = optional_package("coacd", "convex")
    coacd.set_log_level("off")
    found = coacd.run_coacd(
        coacd.Mesh(given["vertices"], given["faces"]),
        threshold=float(given["threshold"]),
        max_convex_hull=int(given["parts"]),
        # Its own repair takes minutes and can fail; what is closed needs none.
        preprocess_mode="off" if given["closed"] else "on",
        seed=0,
        **_EFFORT,
    )
    answer: dict[str, Any] = {}
    for number, (vertices, faces) in enumerate(found):
        answer[f"vertices_{number}"], answer[f"faces_{number}"] = np.asarray(vertices), np.asarray(faces)
    stream = io.BytesIO()
    np.savez(stream, **answer)
    sys.stdout.buffer.write(stream.getvalue())


if __name__ == "__main__":
    main()
