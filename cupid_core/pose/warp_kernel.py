"""The pose solver as one Warp kernel, one block of lanes per object, without a return to the host in between.

As `solve` and `polish`: moments, DLT, robust Newton steps on a sample, then steps whose gradient comes from all
pairs, covariance. Lanes share the passes; the first one does the algebra and hands the state to the others.

Annotations here are Warp's types: this module is compiled by Warp, not run by Python.
"""

import warp as wp

from cupid_core.pose.warp_newton import VARIANCE_FLOOR, moved, newton_step, sample_step
from cupid_core.pose.warp_passes import (
    State,
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


@wp.kernel(enable_backward=False)
def solve_kernel(  # noqa: PLR0915 - one block runs from start to end
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
    lanes = wp.block_dim()
    first = offsets[b]
    count = offsets[b + 1] - first
    stride = wp.max(count / sample, 1)
    moments = moments_together(moments_pass(points, image, weights, first, count, stride, lane, lanes))
    state = State()
    if lane == 0:
        rows = projection_from_moments(moments)
        state = view_with_square_pixels(rows)
        if size == 6:
            state = view_with_camera(rows, mean)
        state[16] = wp.float64(1.0)
        for k in range(10):
            results[b, 68 + k] = moments.one[k]
    state = handed_out(state)
    rough = robust_pass(points, image, weights, first, count, stride, lane, lanes, state, cutoff, 0)
    rough = gradient_together(rough)
    state[16] = wp.float64(0.5) * rough.stats[8] / rough.stats[0] + VARIANCE_FLOOR
    for _step in range(SAMPLE_STEPS):
        if state[17] == wp.float64(0.0):
            sums = robust_pass(points, image, weights, first, count, stride, lane, lanes, state, cutoff, 1)
            sums = moments_together(gradient_together(sums))
            if lane == 0:
                state = sample_step(state, sums, cutoff, mean, precision, size)
            state = handed_out(state)
    state[17] = wp.float64(0.0)
    for _step in range(FULL_STEPS):
        if state[17] == wp.float64(0.0):
            curve = robust_pass(points, image, weights, first, count, stride, lane, lanes, state, cutoff, 1)
            curve = moments_together(gradient_together(curve))
            pull = curve
            if stride > 1:
                pull = gradient_together(
                    robust_pass(points, image, weights, first, count, 1, lane, lanes, state, cutoff, 0)
                )
            if lane == 0:
                newton = newton_step(state, curve, pull, cutoff, mean, precision, size)
                settled = newton.remainder <= TOLERANCE
                if stride == 1 and newton.length > wp.float64(0.5):
                    settled = False
                for k in range(45):
                    results[b, 18 + k] = newton.covariance[k]
                results[b, 63] = pull.stats[0]
                results[b, 64] = pull.stats[5]
                # Roots of outliers are zero, so this is the sum over the inliers.
                results[b, 65] = pull.stats[1]
                results[b, 66] = newton.remainder
                results[b, 67] = -pull.stats[7]
                state = moved(state, newton.step)
                if settled:
                    state[17] = wp.float64(1.0)
            state = handed_out(state)
    if lane == 0:
        for k in range(18):
            results[b, k] = state[k]
