"""The passes over pairs of the Warp pose solver: lanes of a block share the pairs and add up what they found.

As in `point_passes`, a pass ends in a few small matrices. Pairs are float32; sums of a few hundred are added in
float64. The same source runs on a CPU (one lane) and on CUDA.

Annotations here are Warp's types: this module is compiled by Warp, not run by Python.
"""

import warp as wp

vec10 = wp.types.vector(length=10, dtype=wp.float64)
vec12 = wp.types.vector(length=12, dtype=wp.float64)
vec10f = wp.types.vector(length=10, dtype=wp.float32)
vec12f = wp.types.vector(length=12, dtype=wp.float32)
vec9f = wp.types.vector(length=9, dtype=wp.float32)
# R row by row, t, fx fy cx cy, robust variance, 1 when a step was small.
State = wp.types.vector(length=18, dtype=wp.float64)
# Pairs, sum of s, s^2, s^4, s^5, inliers, sum of the loss of the M-scale, negative smallest depth, sum of squares.
Stats = wp.types.vector(length=9, dtype=wp.float64)

# Cutoff of Tukey's loss for a scale that half of the pairs may spoil: the mean loss of Gaussian residuals of two
# coordinates is then one half.
M_SCALE_CUTOFF = wp.constant(wp.float64(2.660803392834586))
# Pairs that are added in float32 before the sum goes to float64.
RUN = wp.constant(256)
# An odd number that spreads the bits of what it multiplies.
MIX = wp.constant(wp.uint32(2654435761))


@wp.struct
class Sums:
    """Sums over pairs: a X X^T as ten entries for a = 1, u, v, u^2 + v^2; gradient rows; `Stats`."""

    one: vec10
    u: vec10
    v: vec10
    squares: vec10
    pull_u: wp.vec4d
    pull_v: wp.vec4d
    pull_depth: wp.vec4d
    stats: Stats


@wp.func
def entry(row: int, column: int):
    """Place of an entry of a symmetric 4x4 matrix among its ten."""
    low = wp.min(row, column)
    return low * (9 - low) / 2 + wp.max(row, column) - low


@wp.func
def outer_product(x: wp.float32, y: wp.float32, z: wp.float32):
    """X X^T of X = (x, y, z, 1)."""
    return vec10f(x * x, x * y, x * z, x, y * y, y * z, y, z * z, z, wp.float32(1.0))


@wp.func
def sampled_row(number: int, stride: int):
    """One pair of every `stride`, at a place that jitters: equal steps could follow the rows of voxels."""
    if stride == 1:
        return number
    mixed = wp.uint32(number) * wp.uint32(MIX)
    mixed = (mixed ^ (mixed >> wp.uint32(15))) * wp.uint32(MIX)
    return number * stride + int((mixed >> wp.uint32(8)) % wp.uint32(stride))


@wp.struct
class Pairs:
    """The pairs of one object, and which of them a lane adds up.

    Points as three rows, image as two; `first` and `count` of the object; `lane` of `lanes`.
    """

    points: wp.array2d(dtype=wp.float32)
    image: wp.array2d(dtype=wp.float32)
    weights: wp.array(dtype=wp.float32)
    first: int
    count: int
    lane: int
    lanes: int


@wp.struct
class Run:
    """`Sums` of a few hundred pairs in float32."""

    one: vec10f
    u: vec10f
    v: vec10f
    squares: vec10f
    pull_u: wp.vec4f
    pull_v: wp.vec4f
    pull_depth: wp.vec4f
    stats: vec9f


@wp.func
def moments_pass(pairs: Pairs, stride: int):
    """Moments of the measured pairs, one of every `stride`."""
    sums = Sums()
    for number in range(pairs.lane, pairs.count / stride, pairs.lanes):
        row = pairs.first + sampled_row(number, stride)
        u = pairs.image[0, row]
        v = pairs.image[1, row]
        product = outer_product(pairs.points[0, row], pairs.points[1, row], pairs.points[2, row])
        product = product * pairs.weights[row]
        sums.one += vec10(product)
        sums.u += vec10(product * u)
        sums.v += vec10(product * v)
        sums.squares += vec10(product * (u * u + v * v))
    return sums


@wp.func
def robust_pass(pairs: Pairs, stride: int, state: State, cutoff: wp.float64, curved: int):
    """Gradient of Tukey's loss and its statistics over one pair of every `stride`; `curved` adds the curvature."""
    sums = Sums()
    sums.stats[7] = wp.float64(-1.0e30)
    m = vec12f(projection_rows(state))
    scale = wp.float32(-1.0 / float(cutoff * cutoff * state[16]))
    wide = wp.float32(-1.0 / float(M_SCALE_CUTOFF * M_SCALE_CUTOFF * state[16]))
    total = pairs.count / stride
    start = pairs.lane
    while start < total:
        stop = wp.min(start + RUN * pairs.lanes, total)
        run = Run()
        run.stats[7] = wp.float32(-1.0e30)
        for number in range(start, stop, pairs.lanes):
            row = pairs.first + sampled_row(number, stride)
            w = pairs.weights[row]
            if w > wp.float32(0.0):
                x = pairs.points[0, row]
                y = pairs.points[1, row]
                z = pairs.points[2, row]
                depth = m[8] * x + m[9] * y + m[10] * z + m[11]
                inverse = wp.float32(1.0) / depth
                u = (m[0] * x + m[1] * y + m[2] * z + m[3]) * inverse
                v = (m[4] * x + m[5] * y + m[6] * z + m[7]) * inverse
                du = pairs.image[0, row] - u
                dv = pairs.image[1, row] - v
                squared = w * (du * du + dv * dv)
                root = wp.max(wp.float32(1.0) + squared * scale, wp.float32(0.0))
                rest = wp.max(wp.float32(1.0) + squared * wide, wp.float32(0.0))
                second = root * root
                factor = w * second * inverse
                position = wp.vec4f(x, y, z, wp.float32(1.0))
                run.pull_u += position * (factor * du)
                run.pull_v += position * (factor * dv)
                run.pull_depth += position * (factor * (du * u + dv * v))
                inside = wp.where(root > wp.float32(0.0), wp.float32(1.0), wp.float32(0.0))
                lost = wp.float32(1.0) - rest * rest * rest
                nearest = wp.max(run.stats[7], -depth)
                fourth = second * second
                run.stats += vec9f(
                    wp.float32(1.0), root, second, fourth, fourth * root, inside, lost, wp.float32(0.0), squared
                )
                run.stats[7] = nearest
                if curved == 1:
                    product = outer_product(x, y, z) * (factor * inverse)
                    run.one += product
                    run.u += product * u
                    run.v += product * v
                    run.squares += product * (u * u + v * v)
        sums = with_run(sums, run)
        start += RUN * pairs.lanes
    return sums


@wp.func
def with_run(sums: Sums, run: Run):
    """The sums with those of a run added."""
    sums.pull_u += wp.vec4d(run.pull_u)
    sums.pull_v += wp.vec4d(run.pull_v)
    sums.pull_depth += wp.vec4d(run.pull_depth)
    nearest = wp.max(sums.stats[7], wp.float64(run.stats[7]))
    sums.stats += Stats(run.stats)
    sums.stats[7] = nearest
    sums.one += vec10(run.one)
    sums.u += vec10(run.u)
    sums.v += vec10(run.v)
    sums.squares += vec10(run.squares)
    return sums


@wp.func
def moments_together(part: Sums):
    """The sums of all lanes, in every lane: the quadratic ones."""
    one = part.one + vec10()
    u = part.u + vec10()
    v = part.v + vec10()
    squares = part.squares + vec10()
    part.one = wp.tile_extract(wp.tile_reduce(wp.add, wp.tile(one, preserve_type=True)), 0)
    part.u = wp.tile_extract(wp.tile_reduce(wp.add, wp.tile(u, preserve_type=True)), 0)
    part.v = wp.tile_extract(wp.tile_reduce(wp.add, wp.tile(v, preserve_type=True)), 0)
    part.squares = wp.tile_extract(wp.tile_reduce(wp.add, wp.tile(squares, preserve_type=True)), 0)
    return part


@wp.func
def gradient_together(part: Sums):
    """The same for gradient and statistics."""
    pull_u = part.pull_u + wp.vec4d()
    pull_v = part.pull_v + wp.vec4d()
    pull_depth = part.pull_depth + wp.vec4d()
    stats = part.stats + Stats()
    nearest = part.stats[7] + wp.float64(0.0)
    part.pull_u = wp.tile_extract(wp.tile_reduce(wp.add, wp.tile(pull_u, preserve_type=True)), 0)
    part.pull_v = wp.tile_extract(wp.tile_reduce(wp.add, wp.tile(pull_v, preserve_type=True)), 0)
    part.pull_depth = wp.tile_extract(wp.tile_reduce(wp.add, wp.tile(pull_depth, preserve_type=True)), 0)
    part.stats = wp.tile_extract(wp.tile_reduce(wp.add, wp.tile(stats, preserve_type=True)), 0)
    part.stats[7] = wp.tile_extract(wp.tile_reduce(wp.max, wp.tile(nearest)), 0)
    return part


@wp.func
def projection_rows(state: State):
    """The twelve entries of K [R | t], row by row."""
    m = vec12()
    for c in range(3):
        m[c] = state[12] * state[c] + state[14] * state[6 + c]
        m[4 + c] = state[13] * state[3 + c] + state[15] * state[6 + c]
        m[8 + c] = state[6 + c]
    m[3] = state[12] * state[9] + state[14] * state[11]
    m[7] = state[13] * state[10] + state[15] * state[11]
    m[11] = state[11]
    return m
