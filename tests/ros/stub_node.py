"""The node as a process of its own, with a job that needs no networks: python stub_node.py --ros-args ..."""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from serving_stubs import MakeActorLate

if __name__ == "__main__":  # the worker process imports this file again
    from cupid_ros.node_process import main

    sys.exit(main(make_job=MakeActorLate(float(os.environ.get("LOADING_S", "0")))))
