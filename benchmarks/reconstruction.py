"""Time of every step of a reconstruction, and the peak memory of the process.

    python benchmarks/reconstruction.py [--checkpoint tabletop] [--objects 4] [--samples 1] [--threads 0]

One generated view after the other, as `cupid evaluate tabletop` makes them, from image and mask to mesh and pose.
The first one is a warm-up and not counted. Imports and loading are reported separately.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time


def main() -> None:
    """Measure, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", default="tabletop")
    parser.add_argument("--objects", type=int, default=4)
    parser.add_argument("--samples", type=int, default=1)
    parser.add_argument("--threads", type=int, default=0, help="of torch; 0 leaves its own choice")
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    start = time.perf_counter()
    import torch

    from cupid_core.data.tabletop import TabletopSettings
    from cupid_core.errors import CupidError
    from cupid_core.evaluation.tabletop_cases import tabletop_cases
    from cupid_core.reconstruct.pipeline import Cupid

    if given.threads:
        torch.set_num_threads(given.threads)
    imported = time.perf_counter()
    cupid = Cupid.from_pretrained(given.checkpoint, device=given.device)
    loaded = time.perf_counter()
    cases = tabletop_cases(range(given.objects + 1), TabletopSettings(views_per_object=1))
    steps: dict[str, list[float]] = {}
    failures = 0
    for number, case in enumerate(cases):
        try:
            begin = time.perf_counter()
            scene = cupid(case.image, masks=case.mask, camera=case.camera, samples=given.samples)
            scene[0]  # raises what made it fail
            total = time.perf_counter() - begin
        except CupidError as error:
            print(f"object {number}: [{error.code}] {error.problem}")
            failures += 1
            continue
        if number:
            for name, seconds in {**scene.timings_s, "together": total}.items():
                steps.setdefault(name, []).append(seconds)
    print(
        f"{given.objects} objects, {given.samples} hypotheses, {torch.get_num_threads()} threads, "
        f"{failures} failed"
    )
    print(f"imports {imported - start:.1f} s, loading {loaded - imported:.1f} s")
    for name, taken in steps.items():
        print(f"{name:12s} median {statistics.median(taken):7.3f} s   largest {max(taken):7.3f} s")
    print(f"largest memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2:.2f} GB")


if __name__ == "__main__":
    main()
