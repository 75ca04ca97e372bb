"""The start of the Warp pose solver: DLT from moments, then the nearest view of the kind of camera wanted.

As `dlt.projection_from_blocks`, `pinhole.view_from_projection` and `pinhole.view_with_intrinsics`.

Annotations here are Warp's types: this module is compiled by Warp, not run by Python.
"""

import warp as wp

from cupid_core.pose.warp_passes import State, Sums, entry, vec10, vec12

PLANAR_CONDITION = wp.constant(wp.float64(1.0e-9))
SWEEPS = wp.constant(12)


@wp.struct
class Eigen:
    """Eigenvalues, ascending, and vectors in columns."""

    values: wp.vec4d
    vectors: wp.mat44d


@wp.func
def unpacked(entries: vec10):
    """The symmetric 4x4 matrix of ten entries."""
    out = wp.mat44d()
    for r in range(4):
        for c in range(4):
            out[r, c] = entries[entry(r, c)]
    return out


@wp.func
def eigen_of(matrix: wp.mat44d):
    """Eigenvalues and vectors of a symmetric 4x4 matrix by cyclic Jacobi rotations."""
    a = matrix
    vectors = wp.identity(n=4, dtype=wp.float64)
    for _sweep in range(SWEEPS):
        for p in range(3):
            for q in range(p + 1, 4):
                if wp.abs(a[p, q]) > wp.float64(1.0e-18) * wp.sqrt(wp.abs(a[p, p] * a[q, q])):
                    theta = (a[q, q] - a[p, p]) / (wp.float64(2.0) * a[p, q])
                    tangent = wp.float64(1.0) / (wp.abs(theta) + wp.sqrt(theta * theta + wp.float64(1.0)))
                    if theta < wp.float64(0.0):
                        tangent = -tangent
                    cosine = wp.float64(1.0) / wp.sqrt(tangent * tangent + wp.float64(1.0))
                    sine = tangent * cosine
                    turn = wp.identity(n=4, dtype=wp.float64)
                    turn[p, p] = cosine
                    turn[q, q] = cosine
                    turn[p, q] = sine
                    turn[q, p] = -sine
                    a = wp.transpose(turn) * a * turn
                    vectors = vectors * turn
    out = Eigen()
    out.values = wp.get_diag(a)
    out.vectors = vectors
    for i in range(3):
        lowest = i
        for j in range(i + 1, 4):
            if out.values[j] < out.values[lowest]:
                lowest = j
        if lowest != i:
            value = out.values[i]
            out.values[i] = out.values[lowest]
            out.values[lowest] = value
            for r in range(4):
                value = out.vectors[r, i]
                out.vectors[r, i] = out.vectors[r, lowest]
                out.vectors[r, lowest] = value
    return out


@wp.func
def projection_from_moments(moments: Sums):
    """Projection matrix, row by row, with positive determinant; meaningless for points in a plane."""
    measured = eigen_of(unpacked(moments.one))
    floor = PLANAR_CONDITION * measured.values[3]
    whiten = measured.vectors
    for c in range(4):
        shrink = wp.float64(1.0) / wp.sqrt(wp.max(measured.values[c], floor))
        for r in range(4):
            whiten[r, c] = whiten[r, c] * shrink
    back = wp.transpose(whiten)
    identity = wp.identity(n=4, dtype=wp.float64)
    cu = moments.u[9] / moments.one[9]
    cv = moments.v[9] / moments.one[9]
    u = back * unpacked(moments.u) * whiten
    v = back * unpacked(moments.v) * whiten
    squares = back * unpacked(moments.squares) * whiten - wp.float64(2.0) * (cu * u + cv * v)
    squares = squares + (cu * cu + cv * cv) * identity
    u = u - cu * identity
    v = v - cv * identity
    least = eigen_of(squares - u * u - v * v)
    third = wp.vec4d(least.vectors[0, 0], least.vectors[1, 0], least.vectors[2, 0], least.vectors[3, 0])
    first_row = whiten * (u * third + cu * third)
    second_row = whiten * (v * third + cv * third)
    third_row = whiten * third
    rows = vec12()
    for c in range(4):
        rows[c] = first_row[c]
        rows[4 + c] = second_row[c]
        rows[8 + c] = third_row[c]
    if wp.determinant(left_block(rows)) < wp.float64(0.0):
        rows = -rows
    return rows


@wp.func
def left_block(rows: vec12):
    """The left 3x3 block of a projection matrix."""
    return wp.mat33d(rows[0], rows[1], rows[2], rows[4], rows[5], rows[6], rows[8], rows[9], rows[10])


@wp.func
def view_with_camera(rows: vec12, camera: wp.vec4d):
    """The nearest view with known fx, fy, cx, cy."""
    ray = rows
    for c in range(4):
        ray[c] = (rows[c] - camera[2] * rows[8 + c]) / camera[0]
        ray[4 + c] = (rows[4 + c] - camera[3] * rows[8 + c]) / camera[1]
    left = wp.mat33d()
    stretch = wp.vec3d()
    right = wp.mat33d()
    wp.svd3(left_block(ray), left, stretch, right)
    rotation = left * wp.transpose(right)
    shrink = wp.float64(3.0) / (stretch[0] + stretch[1] + stretch[2])
    state = State()
    for r in range(3):
        for c in range(3):
            state[3 * r + c] = rotation[r, c]
        state[9 + r] = ray[4 * r + 3] * shrink
        state[12 + r] = camera[r]
    state[15] = camera[3]
    return state


@wp.func
def view_with_square_pixels(rows: vec12):
    """The view by RQ decomposition, its focal lengths made equal and its skew left out."""
    left = left_block(rows)
    products = left * wp.transpose(left)
    depth = products[2, 2]
    cx = products[0, 2] / depth
    cy = products[1, 2] / depth
    fy = wp.sqrt(products[1, 1] / depth - cy * cy)
    skew = (products[0, 1] / depth - cx * cy) / fy
    fx = wp.sqrt(products[0, 0] / depth - cx * cx - skew * skew)
    unit = rows / wp.sqrt(depth)
    for c in range(4):
        unit[4 + c] = (unit[4 + c] - cy * unit[8 + c]) / fy
        unit[c] = (unit[c] - skew * unit[4 + c] - cx * unit[8 + c]) / fx
    state = State()
    for r in range(3):
        for c in range(3):
            state[3 * r + c] = unit[4 * r + c]
        state[9 + r] = unit[4 * r + 3]
    focal = wp.sqrt(fx * fy)
    state[12] = focal
    state[13] = focal
    state[14] = cx
    state[15] = cy
    return state
