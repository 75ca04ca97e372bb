"""The node as a process of its own, with a job that needs no networks: python stub_node.py --ros-args ..."""

from __future__ import annotations

import os
import sys

from acting_job import MakeActorLate

if __name__ == "__main__":  # the worker process reads this file again
    from cupid_ros.node_process import main

    sys.exit(main(make_job=MakeActorLate(float(os.environ.get("LOADING_S", "0")))))
