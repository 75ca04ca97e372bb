"""The node as a process of its own, with a job that needs no networks: python stub_node.py --ros-args ..."""

from __future__ import annotations

import os
import sys
from pathlib import Path

# The checkout before what is installed of it.
sys.path[:0] = [str(Path(__file__).resolve().parents[level]) for level in (1, 2)]
from serving_stubs import MakeActorLate  # noqa: E402 - found on the path above

if __name__ == "__main__":  # the worker process imports this file again
    from cupid_ros.node_process import main

    sys.exit(main(make_job=MakeActorLate(float(os.environ.get("LOADING_S", "0")))))
