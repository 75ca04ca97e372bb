"""The generated tables obey the symmetry of the cube and cover every crossing once."""

from itertools import permutations, product

import numpy as np

from cupid_core.mesh.flexicubes_tables import EDGE_CORNERS, N_CASES, corner_offset, cube_tables


def symmetries():
    """The 48 ways to map a cube onto itself, as maps of corners."""
    for order, flips in product(permutations(range(3)), product((0, 1), repeat=3)):
        yield [sum((corner_offset(c)[order[axis]] ^ flips[axis]) << axis for axis in range(3)) for c in range(8)]


def mapped(case, corner_map):
    return sum(1 << corner_map[corner] for corner in range(8) if case >> corner & 1)


def test_every_crossed_edge_belongs_to_one_dual_vertex_and_no_other_edge_does():
    tables = cube_tables()
    for case in range(N_CASES):
        crossed = [(case >> a & 1) != (case >> b & 1) for a, b in EDGE_CORNERS]
        assert [group >= 0 for group in tables.edge_group[case]] == crossed
        used = set(tables.edge_group[case].tolist()) - {-1}
        assert used == set(range(tables.dual_count[case]))
        # A dual vertex closes a loop over the faces of the cube, so it has at least three crossings.
        assert all((tables.edge_group[case] == group).sum() >= 3 for group in used)


def test_tables_do_not_depend_on_how_the_cube_is_turned():
    for corner_map in symmetries():
        assert_tables_keep_a_symmetry(corner_map)


def assert_tables_keep_a_symmetry(corner_map):
    tables = cube_tables()
    edges = {frozenset(pair): edge for edge, pair in enumerate(EDGE_CORNERS)}
    edge_map = [edges[frozenset(corner_map[c] for c in pair)] for pair in EDGE_CORNERS]
    offsets = np.array([corner_offset(c) for c in corner_map])
    axes = np.stack([offsets[1 << axis] - offsets[0] for axis in range(3)], axis=1)
    for case in range(N_CASES):
        other = mapped(case, corner_map)
        assert tables.dual_count[other] == tables.dual_count[case]
        groups = {
            frozenset(edge_map[e] for e in np.nonzero(tables.edge_group[case] == g)[0])
            for g in range(tables.dual_count[case])
        }
        turned = {
            frozenset(np.nonzero(tables.edge_group[other] == g)[0].tolist())
            for g in range(tables.dual_count[other])
        }
        assert groups == turned
        assert tables.is_problem[other] == tables.is_problem[case]
        np.testing.assert_array_equal(tables.partner_step[other], axes @ tables.partner_step[case])


def test_problem_cases_lead_to_a_neighbor_and_the_rest_to_none():
    tables = cube_tables()
    assert tables.is_problem.sum() == 36
    np.testing.assert_array_equal(np.abs(tables.partner_step).sum(axis=1), tables.is_problem.astype(int))
    # The complement of a problem case is none, so turning a pair over never has to be repeated.
    assert not (tables.is_problem & tables.is_problem[::-1]).any()
