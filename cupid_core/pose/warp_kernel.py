"""The pose solver as one Warp kernel, one block of lanes per object, without a return to the host in between.

As `solve` and `polish`: moments, DLT, robust Newton steps on a sample, then steps whose gradient comes from all
pairs, covariance. Lanes share the passes; the first one does the algebra and hands the state to the others.

Annotations here are Warp's types: this module is compiled by Warp, not run by Python.
"""

import warp as wp

from cupid_core.pose.warp_newton import VARIANCE_FLOOR, Newton, moved, newton_step, sample_step
from cupid_core.pose.warp_passes import (
    Pairs,
    State,
    Sums,
    gradient_together,
    moments_pass,
    moments_together,
    robust_pass,
)
from cupid_core.pose.warp_start import projection_from_moments, view_with_camera, view_with_square_pixels

# Unrolled loops took minutes to compile and were not faster.
wp.set_module_options({"max_unroll": 0, "enable_backward": False})

# Steps on the sample and on all pairs.
SAMPLE_STEPS = wp.constant(12)
FULL_STEPS = wp.constant(4)
TOLERANCE = wp.constant(wp.float64(0.1))


@wp.func
def handed_out(state: State):
    """The state of the first lane, in every lane."""
    return wp.tile_extract(wp.tile_from_thread(shape=1, value=state, thread_idx=0), 0)


@wp.func
def start(moments: Sums, mean: wp.vec4d, size: int):
    """The state of the DLT, with the known camera or square pixels."""
    rows = projection_from_moments(moments)
    state = view_with_square_pixels(rows)
    if size == 6:
        state = view_with_camera(rows, mean)
    state[16] = wp.float64(1.0)
    return state


@wp.func
def store(results: wp.array2d(dtype=wp.float64), b: int, newton: Newton, pull: Sums):
    """Covariance and outcome into a row of the results."""
    for k in range(45):
        results[b, 18 + k] = newton.covariance[k]
    results[b, 63] = pull.stats[0]
    results[b, 64] = pull.stats[5]
    # Roots of outliers are zero, so this is the sum over the inliers.
    results[b, 65] = pull.stats[1]
    results[b, 66] = newton.remainder
    results[b, 67] = -pull.stats[7]


@wp.kernel(enable_backward=False)
def solve_kernel(
    points: wp.array2d(dtype=wp.float32),
    image: wp.array2d(dtype=wp.float32),
    weights: wp.array(dtype=wp.float32),
    offsets: wp.array(dtype=wp.int32),
    prior: wp.array2d(dtype=wp.float64),
    size: int,
    sample: int,
    cutoff: wp.float64,
    results: wp.array2d(dtype=wp.float64),
):
    """Solve object b by block b: state, covariance, outcome and moments, one after the other in a row of results.

    Few arrays, because each costs Python some microseconds per call. A row of the prior is fx, fy, cx, cy, and the
    inverse variances of log f, cx, cy.
    """
    b, lane = wp.tid()
    mean = wp.vec4d(prior[b, 0], prior[b, 1], prior[b, 2], prior[b, 3])
    precision = wp.vec3d(prior[b, 4], prior[b, 5], prior[b, 6])
    count = offsets[b + 1] - offsets[b]
    pairs = Pairs()
    pairs.points = points
    pairs.image = image
    pairs.weights = weights
    pairs.first = offsets[b]
    pairs.count = count
    pairs.lane = lane
    pairs.lanes = wp.block_dim()
    stride = wp.max(count / sample, 1)
    moments = moments_together(moments_pass(pairs, stride))
    state = State()
    if lane == 0:
        state = start(moments, mean, size)
        for k in range(10):
            results[b, 68 + k] = moments.one[k]
    state = handed_out(state)
    rough = gradient_together(robust_pass(pairs, stride, state, cutoff, 0))
    state[16] = wp.float64(0.5) * rough.stats[8] / rough.stats[0] + VARIANCE_FLOOR
    for _step in range(SAMPLE_STEPS):
        if state[17] == wp.float64(0.0):
            sums = moments_together(gradient_together(robust_pass(pairs, stride, state, cutoff, 1)))
            if lane == 0:
                state = sample_step(state, sums, cutoff, mean, precision, size)
            state = handed_out(state)
    state[17] = wp.float64(0.0)
    for _step in range(FULL_STEPS):
        if state[17] == wp.float64(0.0):
            curve = moments_together(gradient_together(robust_pass(pairs, stride, state, cutoff, 1)))
            pull = curve
            if stride > 1:
                pull = gradient_together(robust_pass(pairs, 1, state, cutoff, 0))
            if lane == 0:
                newton = newton_step(state, curve, pull, cutoff, mean, precision, size)
                store(results, b, newton, pull)
                state = moved(state, newton.step)
                if newton.remainder <= TOLERANCE and (stride > 1 or newton.length <= wp.float64(0.5)):
                    state[17] = wp.float64(1.0)
            state = handed_out(state)
    if lane == 0:
        for k in range(18):
            results[b, k] = state[k]
