"""Meshes of decoder channels: order, defaults, gradients, bad input."""

import pytest
import torch

from cupid_core.errors import EmptyMeshError, InvalidTensorError
from cupid_core.mesh.cube_channels import CHANNELS_COLOR, CHANNELS_PLAIN
from cupid_core.mesh.extract import extract_from_sdf, extract_mesh, extract_surface, extract_training_surface

OFFSETS = torch.tensor([[k & 1, k >> 1 & 1, k >> 2 & 1] for k in range(8)])


def cubes(resolution):
    axis = torch.arange(resolution)
    return torch.cartesian_prod(axis, axis, axis)


def sphere_channels(coords, resolution, radius, channels=CHANNELS_COLOR):
    """Neutral channels that state a sphere exactly at every corner."""
    at = (coords[:, None] + OFFSETS).double() / resolution - 0.5
    features = torch.zeros(len(coords), channels, dtype=torch.float64)
    features[:, :8] = at.norm(dim=-1) - radius + 1 / resolution
    return features


def noise_channels(coords, seed, channels=CHANNELS_COLOR, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(len(coords), channels, generator=generator, dtype=dtype)


def shell(resolution, radius):
    coords = cubes(resolution)
    distance = ((coords + 0.5) / resolution - 0.5).norm(dim=1) - radius
    return coords[distance.abs() < 1.5 / resolution]


def sorted_rows(rows):
    for column in reversed(range(rows.shape[1])):
        rows = rows[rows[:, column].argsort(stable=True)]
    return rows


def test_neutral_channels_equal_the_plain_sdf():
    """The sparse path over all cubes and the dense path over corners are the same mesh."""
    resolution, radius = 12, 0.31
    axis = torch.arange(resolution + 1, dtype=torch.float64) / resolution - 0.5
    field = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), dim=-1).norm(dim=-1) - radius
    coords = cubes(resolution)
    sparse = extract_mesh(coords, sphere_channels(coords, resolution, radius), resolution)
    dense = extract_from_sdf(field, closed=False)
    torch.testing.assert_close(sparse.vertices, dense.vertices, atol=1e-12, rtol=0)
    assert torch.equal(sparse.faces, dense.faces)
    assert sparse.colors is not None
    torch.testing.assert_close(sparse.colors, torch.full_like(sparse.colors, 0.5))


def test_a_shell_gives_the_outer_surface_of_the_whole_grid():
    resolution, radius = 24, 0.36
    coords = shell(resolution, radius)
    outer = extract_mesh(coords, sphere_channels(coords, resolution, radius), resolution)
    everything = cubes(resolution)
    whole = extract_mesh(everything, sphere_channels(everything, resolution, radius), resolution)
    found = torch.cdist(whole.vertices, outer.vertices, compute_mode="donot_use_mm_for_euclid_dist").amin(dim=1)
    assert float(found.max()) < 1e-12
    assert len(outer.vertices) > len(whole.vertices), "the inner side of the shell is a surface as well"


def test_order_of_voxels_does_not_matter_and_input_is_not_touched():
    coords = cubes(6)
    features = noise_channels(coords, seed=2)
    kept_coords, kept = coords.clone(), features.clone()
    first = extract_surface(coords, features, 6)
    order = torch.randperm(len(coords), generator=torch.Generator().manual_seed(3))
    second = extract_surface(coords[order].int(), features[order], 6)
    assert torch.equal(first.vertices, second.vertices)
    assert torch.equal(first.faces, second.faces)
    assert first.attributes is not None and second.attributes is not None
    assert torch.equal(first.attributes, second.attributes)
    assert torch.equal(features, kept) and torch.equal(coords, kept_coords)


def test_slabs_change_nothing(monkeypatch):
    coords = shell(16, 0.35)
    features = noise_channels(coords, seed=4)
    whole = extract_surface(coords, features, 16)
    monkeypatch.setattr("cupid_core.mesh.cube_channels._SLAB_CUBES", 50)
    cut = extract_surface(coords, features, 16)
    assert torch.equal(whole.vertices, cut.vertices) and torch.equal(whole.faces, cut.faces)


def test_vertices_stay_in_reach_of_their_cubes():
    """Deformation moves a grid vertex at most half a cell, so no vertex leaves the cube by more than that."""
    coords = cubes(5)
    surface = extract_surface(coords, 10 * noise_channels(coords, seed=5), 5)
    assert float(surface.vertices.abs().max()) <= 0.5 + 0.5 / 5
    assert surface.attributes is not None
    assert float(surface.attributes.min()) >= 0 and float(surface.attributes.max()) <= 1


@pytest.mark.parametrize("closed", [False, True])
def test_closed_decides_about_the_border(closed):
    resolution = 8
    coords = cubes(resolution)
    features = sphere_channels(coords, resolution, 0.62, CHANNELS_PLAIN)
    mesh = extract_mesh(coords, features, resolution, closed=closed)
    assert mesh.colors is None
    pairs = torch.cat([mesh.faces[:, [0, 1]], mesh.faces[:, [1, 2]], mesh.faces[:, [2, 0]]])
    balanced = torch.equal(sorted_rows(pairs), sorted_rows(pairs.flip(1)))
    assert balanced == closed
    assert float(mesh.vertices.abs().max()) <= 0.5 + 1 / resolution


def test_half_precision_channels_are_widened():
    coords = cubes(8)
    full = extract_mesh(coords, sphere_channels(coords, 8, 0.3).float(), 8)
    half = extract_mesh(coords, sphere_channels(coords, 8, 0.3).half(), 8)
    assert half.vertices.dtype == torch.float32
    torch.testing.assert_close(half.vertices, full.vertices, atol=2e-3, rtol=0)


def test_training_surface_contains_the_inference_vertices_and_is_closed():
    coords = cubes(10)
    features = sphere_channels(coords, 10, 0.3)
    plain, training = extract_surface(coords, features, 10), extract_training_surface(coords, features, 10)
    n = len(plain.vertices)
    torch.testing.assert_close(training.surface.vertices[:n], plain.vertices)
    assert len(training.surface.faces) == 2 * len(plain.faces)
    assert len(training.tsdf_points) == 11**3
    pairs = torch.cat([training.surface.faces[:, [i, (i + 1) % 3]] for i in range(3)])
    assert torch.equal(sorted_rows(pairs), sorted_rows(pairs.flip(1)))


def test_exact_agreement_of_cubes_costs_nothing_but_the_deviation():
    coords = cubes(10)
    training = extract_training_surface(coords, sphere_channels(coords, 10, 0.3), 10)
    assert training.surface.deviation is not None
    torch.testing.assert_close(training.regularizer, 0.5 * training.surface.deviation.mean())


def test_gradients_are_right():
    coords = cubes(3)
    features = noise_channels(coords, seed=7, dtype=torch.float64)
    weight = torch.randn(1000, 9, generator=torch.Generator().manual_seed(8), dtype=torch.float64)

    def loss(values):
        out = extract_training_surface(coords, values, 3)
        surface = out.surface
        assert surface.attributes is not None
        joined = torch.cat([surface.vertices, surface.attributes], dim=1)
        return (joined * weight[: len(joined)]).sum() + out.regularizer + out.tsdf_values.square().sum()

    features.requires_grad_(True)
    assert torch.autograd.gradcheck(loss, (features,), fast_mode=True, atol=1e-6)


def test_training_survives_a_field_without_surface():
    coords = cubes(4)
    features = torch.full((len(coords), CHANNELS_PLAIN), 2.0, requires_grad=True)
    out = extract_training_surface(coords, features, 4)
    assert out.surface.faces.shape == (0, 3) and out.surface.vertices.shape == (0, 3)
    out.regularizer.backward()
    assert features.grad is not None and torch.isfinite(features.grad).all()


def test_nothing_inside_is_an_error_in_inference():
    coords = cubes(4)
    with pytest.raises(EmptyMeshError):
        extract_mesh(coords, torch.full((len(coords), CHANNELS_PLAIN), 2.0), 4)
    with pytest.raises(EmptyMeshError):
        extract_mesh(coords[:0], torch.zeros(0, CHANNELS_PLAIN), 4)


@pytest.mark.parametrize("channel", [0, 8, 33, 53])
def test_nan_anywhere_near_the_surface_is_an_error(channel):
    coords = cubes(6)
    features = sphere_channels(coords, 6, 0.3)
    features[:, channel] = float("nan")
    with pytest.raises(InvalidTensorError):
        extract_mesh(coords, features, 6)


@pytest.mark.parametrize(
    ("coords", "features", "resolution"),
    [
        (cubes(2), torch.zeros(8, 100), 2),
        (cubes(2), torch.zeros(7, CHANNELS_PLAIN), 2),
        (cubes(2).float(), torch.zeros(8, CHANNELS_PLAIN), 2),
        (cubes(2), torch.zeros(8, CHANNELS_PLAIN, dtype=torch.int64), 2),
        (cubes(3), torch.zeros(27, CHANNELS_PLAIN), 2),
        (cubes(2) - 1, torch.zeros(8, CHANNELS_PLAIN), 2),
        (torch.zeros(2, 3, dtype=torch.int64), torch.zeros(2, CHANNELS_PLAIN), 2),
    ],
)
def test_bad_input_is_refused(coords, features, resolution):
    with pytest.raises(InvalidTensorError):
        extract_mesh(coords, features, resolution)
