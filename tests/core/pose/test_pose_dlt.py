"""Laws of the DLT and of the RQ decomposition."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cupid_core.errors import InvalidTensorError, PoseDegenerateError, TooFewCorrespondencesError
from cupid_core.pose.dlt import decompose_projection, dlt, reference_dlt

SEEDS = st.integers(0, 10_000)


def any_projection(seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """K with skew and unequal focal lengths, a rotation, a translation in front."""
    random = np.random.default_rng(seed)
    rotation, _ = np.linalg.qr(random.normal(size=(3, 3)))
    rotation *= np.sign(np.linalg.det(rotation))
    K = np.array(
        [[random.uniform(0.3, 5.0), 0.1 * random.normal(), random.normal()], [0.0, 1.0, 0.5], [0.0, 0.0, 1.0]]
    )
    K[1, 1] = random.uniform(0.3, 5.0)
    translation = np.array([*random.uniform(-0.3, 0.3, 2), random.uniform(1.5, 8.0)])
    return torch.from_numpy(K), torch.from_numpy(rotation), torch.from_numpy(translation)


def compose(K: torch.Tensor, rotation: torch.Tensor, translation: torch.Tensor) -> torch.Tensor:
    return K @ torch.cat((rotation, translation[..., None]), dim=-1)


def image_of(matrix: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    seen = points @ matrix[..., :3].mT + matrix[..., None, :, 3]
    return seen[..., :2] / seen[..., 2:]


def unit(matrix: torch.Tensor) -> torch.Tensor:
    return matrix / matrix.flatten(-2).norm(dim=-1)[..., None, None]


@given(seed=SEEDS, scale=st.floats(1e-3, 1e3), sign=st.sampled_from([-1.0, 1.0]))
@settings(max_examples=40, deadline=None)
def test_decomposition_undoes_composition_at_any_scale_and_sign(seed: int, scale: float, sign: float) -> None:
    truth = any_projection(seed)
    for found, expected in zip(decompose_projection(scale * sign * compose(*truth)), truth, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def test_decomposition_keeps_batch_shape_and_type() -> None:
    matrix = torch.stack([compose(*any_projection(seed)) for seed in range(6)]).reshape(2, 3, 3, 4).float()
    K, rotation, translation = decompose_projection(matrix)
    assert (K.shape, rotation.shape, translation.shape) == ((2, 3, 3, 3), (2, 3, 3, 3), (2, 3, 3))
    assert K.dtype == rotation.dtype == translation.dtype == torch.float32
    torch.testing.assert_close(unit(compose(K, rotation, translation)), unit(matrix), rtol=1e-4, atol=1e-5)


@given(seed=SEEDS)
@settings(max_examples=30, deadline=None)
def test_exact_points_give_the_exact_matrix(seed: int) -> None:
    truth = compose(*any_projection(seed))
    points = torch.from_numpy(np.random.default_rng(seed).uniform(-0.5, 0.5, (40, 3)))
    found = dlt(points, image_of(truth, points))
    torch.testing.assert_close(unit(found), unit(truth), rtol=1e-7, atol=1e-8)
    # The third row gives depth up to one positive factor.
    assert torch.linalg.det(found[:, :3]) > 0


@given(seed=SEEDS)
@settings(max_examples=20, deadline=None)
def test_no_similarity_of_image_or_points_changes_the_answer(seed: int) -> None:
    random = np.random.default_rng(seed)
    truth = compose(*any_projection(seed))
    points = torch.from_numpy(random.uniform(-0.5, 0.5, (100, 3)))
    uv = image_of(truth, points) + 0.003 * torch.from_numpy(random.normal(size=(100, 2)))
    plain = dlt(points, uv)
    moved = dlt(7.0 * points + 30.0, 500.0 * uv - 200.0)
    torch.testing.assert_close(
        image_of(moved, 7.0 * points + 30.0), 500.0 * image_of(plain, points) - 200.0, rtol=0.0, atol=1e-4
    )


def test_weights_act_like_repetition_and_zero_like_absence(problem) -> None:
    case = problem(3, count=60, noise=0.005)
    times = torch.arange(60) % 3
    repeated = dlt(case.points.repeat_interleave(times, 0), case.uv.repeat_interleave(times, 0))
    torch.testing.assert_close(
        unit(dlt(case.points, case.uv, times.double())), unit(repeated), rtol=1e-8, atol=1e-9
    )


def test_a_batch_equals_its_items(problem) -> None:
    cases = [problem(seed, count=50, noise=0.003) for seed in range(3)]
    together = dlt(torch.stack([c.points for c in cases]), torch.stack([c.uv for c in cases]))
    for found, case in zip(together, cases, strict=True):
        torch.testing.assert_close(found, dlt(case.points, case.uv), rtol=1e-9, atol=1e-10)


def test_noise_biases_the_plain_method_but_not_ours(problem) -> None:
    """The plain DLT's error does not shrink with the number of points, ours does with its root."""
    errors: dict[tuple[str, int], list[float]] = {}
    for count in (500, 8000):
        for seed in range(8):
            case = problem(seed, count=count, thickness=0.2, noise=0.003)
            for name, matrix in (
                ("ours", dlt(case.points, case.uv)),
                ("plain", reference_dlt(case.points[None], case.uv[None])[0]),
            ):
                rotation = decompose_projection(matrix)[1].numpy()
                angle = np.degrees(np.linalg.norm(rotation - case.rotation) / np.sqrt(2.0))
                errors.setdefault((name, count), []).append(float(angle))
    median = {key: float(np.median(values)) for key, values in errors.items()}
    assert median["ours", 8000] < 0.5 * median["ours", 500]
    assert median["plain", 8000] > 3.0 * median["ours", 8000]


def test_points_in_a_plane_are_refused(problem) -> None:
    case = problem(0, thickness=0.0)
    with pytest.raises(PoseDegenerateError):
        dlt(case.points, case.uv)


@pytest.mark.parametrize("method", [dlt, lambda points, uv: reference_dlt(points[None], uv[None])])
def test_five_points_are_refused(method, problem) -> None:
    case = problem(0)
    with pytest.raises(TooFewCorrespondencesError):
        method(case.points[:5], case.uv[:5])


def test_misfitting_shapes_are_refused(problem) -> None:
    case = problem(0)
    with pytest.raises(InvalidTensorError):
        dlt(case.points, case.uv[:-1])
    with pytest.raises(InvalidTensorError):
        dlt(case.points, case.uv, torch.ones(3))
    with pytest.raises(InvalidTensorError):
        decompose_projection(torch.eye(3))


def test_a_camera_at_infinity_is_refused() -> None:
    affine = torch.tensor([[1.0, 0.0, 0.0, 0.1], [0.0, 1.0, 0.0, 0.2], [0.0, 0.0, 0.0, 1.0]])
    with pytest.raises(PoseDegenerateError):
        decompose_projection(affine)
