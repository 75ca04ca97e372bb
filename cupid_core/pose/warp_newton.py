"""The small algebra of the Warp pose solver, float64, done by one lane of a block: steps and covariance.

As `refine.newton_step`. Derivatives go through the twelve entries of the projection matrix, row by row: no large
matrix is held, because every lane of a GPU would have to keep room for it.

Annotations here are Warp's types: this module is compiled by Warp, not run by Python.
"""

import warp as wp

from cupid_core.pose.warp_passes import State, Sums, entry, vec12

vec9 = wp.types.vector(length=9, dtype=wp.float64)
vec45 = wp.types.vector(length=45, dtype=wp.float64)
VARIANCE_FLOOR = wp.constant(wp.float64(9.0e-10))
# Radians up to which a step counts as small.
SMALL_ANGLE = wp.constant(wp.float64(0.05))


@wp.func
def packed(row: int, column: int):
    """Place of an entry of a lower triangle, row by row; column <= row."""
    return row * (row + 1) / 2 + column


@wp.func
def jacobian_row(state: State, parameter: int):
    """Derivative of these twelve by one of tx ty tz, rx ry rz, log f, cx, cy."""
    row = vec12()
    if parameter < 2:
        row[4 * parameter + 3] = state[12 + parameter]
    elif parameter == 2:
        row[3] = state[14]
        row[7] = state[15]
        row[11] = wp.float64(1.0)
    elif parameter < 6:
        # A turn about an axis moves the second next row of R to the next one, and the next one back, negative.
        axis = parameter - 3
        nearer = (axis + 1) % 3
        farther = (axis + 2) % 3
        for c in range(3):
            turned = wp.vec3d()
            turned[nearer] = -state[3 * farther + c]
            turned[farther] = state[3 * nearer + c]
            row[c] = state[12] * turned[0] + state[14] * turned[2]
            row[4 + c] = state[13] * turned[1] + state[15] * turned[2]
            row[8 + c] = turned[2]
    elif parameter == 6:
        for c in range(3):
            row[c] = state[12] * state[c]
            row[4 + c] = state[13] * state[3 + c]
        row[3] = state[12] * state[9]
        row[7] = state[13] * state[10]
    else:
        place = 4 * (parameter - 7)
        for c in range(3):
            row[place + c] = state[6 + c]
        row[place + 3] = state[11]
    return row


@wp.func
def times_normal(row: vec12, sums: Sums):
    """A row times the 12x12 normal matrix that the four blocks make up."""
    out = vec12()
    for c in range(4):
        for r in range(4):
            k = entry(r, c)
            out[c] += row[r] * sums.one[k] - row[8 + r] * sums.u[k]
            out[4 + c] += row[4 + r] * sums.one[k] - row[8 + r] * sums.v[k]
            out[8 + c] += row[8 + r] * sums.squares[k] - row[r] * sums.u[k] - row[4 + r] * sums.v[k]
    return out


@wp.func
def inverse_of(matrix: vec45, size: int):
    """Inverse of a positive definite matrix, both as lower triangles: Cholesky, triangular inverse, product."""
    a = matrix
    for i in range(size):
        for j in range(i + 1):
            value = a[packed(i, j)]
            for k in range(j):
                value -= a[packed(i, k)] * a[packed(j, k)]
            if i == j:
                a[packed(i, i)] = wp.sqrt(wp.max(value, wp.float64(1.0e-200)))
            else:
                a[packed(i, j)] = value / a[packed(j, j)]
    for i in range(size):
        a[packed(i, i)] = wp.float64(1.0) / a[packed(i, i)]
        for j in range(i):
            value = wp.float64(0.0)
            for k in range(j, i):
                value += a[packed(i, k)] * a[packed(k, j)]
            a[packed(i, j)] = -value * a[packed(i, i)]
    out = vec45()
    for i in range(size):
        for j in range(i + 1):
            value = wp.float64(0.0)
            for k in range(i, size):
                value += a[packed(k, i)] * a[packed(k, j)]
            out[packed(i, j)] = value
    return out


@wp.func
def information(state: State, curve: Sums, weight: wp.float64, precision: wp.vec3d, size: int):
    """Information of the free parameters, the prior's included, as a lower triangle."""
    out = vec45()
    for i in range(size):
        product = times_normal(jacobian_row(state, i), curve)
        for j in range(i + 1):
            out[packed(i, j)] = wp.dot(product, jacobian_row(state, j)) * weight
    for i in range(6, size):
        out[packed(i, i)] += precision[i - 6]
    return out


@wp.func
def force(state: State, pull: Sums, trust: wp.float64, mean: wp.vec4d, precision: wp.vec3d, size: int):
    """Negative gradient of robust loss and prior by the free parameters."""
    out = vec9()
    for i in range(size):
        row = jacobian_row(state, i)
        for c in range(4):
            out[i] += row[c] * pull.pull_u[c] + row[4 + c] * pull.pull_v[c] - row[8 + c] * pull.pull_depth[c]
        out[i] *= trust
    if size > 6:
        out[6] -= precision[0] * wp.log(state[12] / mean[0])
        out[7] -= precision[1] * (state[14] - mean[2])
        out[8] -= precision[2] * (state[15] - mean[3])
    return out


@wp.func
def moved(state: State, step: vec9):
    """The state after a step."""
    turn = wp.vec3d(step[3], step[4], step[5])
    angle = wp.sqrt(wp.max(wp.dot(turn, turn), wp.float64(1.0e-200)))
    half = wp.sin(wp.float64(0.5) * angle) / (wp.float64(0.5) * angle)
    cross = wp.skew(turn)
    rotation = wp.identity(n=3, dtype=wp.float64) + cross * (wp.sin(angle) / angle)
    rotation += cross * cross * (wp.float64(0.5) * half * half)
    out = state
    for r in range(3):
        for c in range(3):
            out[3 * r + c] = (
                rotation[r, 0] * state[c] + rotation[r, 1] * state[3 + c] + rotation[r, 2] * state[6 + c]
            )
        out[9 + r] = state[9 + r] + step[r]
    out[12] = state[12] * wp.exp(step[6])
    out[13] = state[13] * wp.exp(step[6])
    out[14] = state[14] + step[7]
    out[15] = state[15] + step[8]
    return out


@wp.struct
class Newton:
    """A step with its covariance, what a further one might change, and its own length, in standard deviations."""

    step: vec9
    covariance: vec45
    remainder: wp.float64
    length: wp.float64


@wp.func
def newton_step(
    state: State,
    curve: Sums,
    pull: Sums,
    cutoff: wp.float64,
    mean: wp.vec4d,
    precision: wp.vec3d,
    size: int,
):
    """As `refine.newton_step`: curvature from one set of pairs, gradient from another."""
    second = wp.max(curve.stats[2], wp.float64(1.0))
    slope = wp.max(wp.float64(3.0) - wp.float64(2.0) * curve.stats[1] / second, wp.float64(0.3))
    spread = wp.float64(0.5) * cutoff * cutoff * (curve.stats[3] - curve.stats[4]) / second
    total = wp.float64(2.0) * pull.stats[0]
    redundancy = total / wp.max(total - wp.float64(size), wp.float64(1.0))
    trust = slope / (wp.max(spread, wp.float64(0.1)) * state[16] * redundancy)
    share = pull.stats[0] / wp.max(curve.stats[0], wp.float64(1.0))
    out = Newton()
    out.covariance = inverse_of(information(state, curve, trust * slope * share, precision, size), size)
    push = force(state, pull, trust, mean, precision, size)
    for i in range(size):
        change = wp.float64(0.0)
        for j in range(size):
            change += out.covariance[packed(wp.max(i, j), wp.min(i, j))] * push[j]
        out.step[i] = change
        deviation = wp.sqrt(out.covariance[packed(i, i)])
        unit = wp.float64(1.0)
        if i < 3:
            unit = wp.float64(1.0) / wp.abs(state[11])
        elif i > 6:
            unit = wp.float64(1.0) / state[12]
        allowed = wp.clamp(deviation * unit, wp.float64(1.0e-200), SMALL_ANGLE)
        out.remainder = wp.max(out.remainder, change * unit * change * unit / allowed)
        out.length = wp.max(out.length, wp.abs(change) / wp.max(deviation, wp.float64(1.0e-200)))
    return out


@wp.func
def sample_step(state: State, sums: Sums, cutoff: wp.float64, mean: wp.vec4d, precision: wp.vec3d, size: int):
    """One step on the sample, and the next estimate of the scale."""
    newton = newton_step(state, sums, sums, cutoff, mean, precision, size)
    out = moved(state, newton.step)
    growth = wp.float64(2.0) * sums.stats[6] / sums.stats[0]
    out[16] = state[16] * wp.min(growth, wp.float64(4.0)) + wp.float64(1.0e-3) * VARIANCE_FLOOR
    if newton.length < wp.float64(0.5) and growth > wp.float64(0.9) and growth < wp.float64(1.1):
        out[17] = wp.float64(1.0)
    return out
