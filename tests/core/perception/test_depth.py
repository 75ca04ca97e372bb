"""Sources of depth: sensors, MoGe (the real package, where it is installed), and none."""

import importlib.util
import sys

import numpy as np
import pytest
import torch

from cupid_core.config import DepthConfig
from cupid_core.errors import CheckpointError, InvalidCameraError, InvalidDepthError, MissingPackageError
from cupid_core.geometry import Camera, Distortion
from cupid_core.perception.depth import NoDepth, SensorDepth, build_depth_source
from cupid_core.perception.moge import MogeDepth
from cupid_core.types import ScaleSource

HEIGHT, WIDTH = 48, 64
IMAGE = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
needs_moge = pytest.mark.skipif(
    importlib.util.find_spec("moge") is None, reason="moge is not installed: pip install 'cupid_ros[moge]'"
)


def camera(distortion=None, width=WIDTH, height=HEIGHT):
    return Camera.from_parameters(
        fx=55.0,
        fy=55.0,
        cx=(width - 1) / 2,
        cy=(height - 1) / 2,
        width=width,
        height=height,
        distortion=distortion,
    )


def plane_m(rays):
    """Depth of a slanted plane where rays (H, W, 3) meet it."""
    return 1.2 / (1.0 + 0.3 * rays[..., 0] - 0.4 * rays[..., 1])


def test_sensor_depth_is_in_metres_with_its_deviation():
    counts = np.random.default_rng(1).integers(0, 3000, (HEIGHT, WIDTH)).astype(np.uint16)
    found = SensorDepth(counts, DepthConfig(sensor_scale_std=0.02)).depth(IMAGE)
    assert (found.source, found.scale_std, found.camera) == (ScaleSource.SENSOR, 0.02, None)
    np.testing.assert_allclose(np.nan_to_num(found.depth_m.numpy()), counts / 1000, rtol=1e-6)
    assert SensorDepth(counts / 1000.0).depth(IMAGE).depth_m.dtype == torch.float32
    with pytest.raises(InvalidDepthError):
        SensorDepth(counts.T).depth(IMAGE)
    with pytest.raises(InvalidDepthError):
        SensorDepth(np.full((HEIGHT, WIDTH), np.nan, dtype=np.float32))


def test_no_depth_is_none():
    assert isinstance(build_depth_source(), NoDepth)
    assert build_depth_source().depth(IMAGE) is None


def test_a_missing_package_names_the_extra(monkeypatch):
    for module in {"moge", *(name for name in sys.modules if name.startswith("moge."))}:
        monkeypatch.setitem(sys.modules, module, None)  # what import sees where it is not installed
    with pytest.raises(MissingPackageError, match=r"cupid_ros\[moge\]"):
        build_depth_source(DepthConfig(kind="moge"))


def tiny_arguments(metric=True):
    """Arguments of a MoGeModel, small but for its backbone, which comes in fixed sizes."""

    def stack(inputs, outputs):
        return {
            "dim_in": inputs, "dim_res_blocks": [32] * 5, "dim_out": outputs, "resamplers": ["bilinear"] * 4,
        }  # fmt: skip

    arguments = {
        "encoder": {"backbone": "dinov2_vits14", "intermediate_layers": 2, "dim_out": 32},
        "neck": stack([34, 2, 2, 2, 2], [32] * 5),
        "points_head": stack([32] * 5, [None] * 4 + [3]),
        "mask_head": stack([32] * 5, [None] * 4 + [1]),
        "remap_output": "exp",
        "num_tokens_range": [24, 48],
    }
    return {**arguments, "scale_head": {"dims": [384, 32, 1]}} if metric else arguments


@pytest.fixture(scope="module")
def knowing_model():
    """The real MoGe-2 class with its own `infer`, whose network knows the scene: a plane, half of it masked."""
    from moge.model.v2 import MoGeModel

    class Knowing(MoGeModel):
        def forward(self, image, num_tokens):
            rays = camera().rays().float()
            points = rays * plane_m(rays)[..., None] / 2.0  # the metric scale, 2, comes from its own head
            points[..., 2] += 0.3  # affine: the shift is for `infer` to find
            mask = torch.ones(HEIGHT, WIDTH)
            mask[:, : WIDTH // 4] = 0.0
            return {"points": points[None], "mask": mask[None], "metric_scale": torch.tensor([2.0])}

    torch.manual_seed(0)
    return Knowing(**tiny_arguments())


@needs_moge
def test_moge_gives_metres_and_an_estimated_camera(knowing_model):
    found = MogeDepth(knowing_model, DepthConfig(model_scale_std=0.2)).depth(IMAGE)
    assert (found.source, found.scale_std) == (ScaleSource.MODEL, 0.2)
    torch.testing.assert_close(found.camera.K, camera().K, rtol=0.02, atol=0.5)
    assert bool(found.depth_m[:, : WIDTH // 4].isnan().all())
    seen = found.depth_m[:, WIDTH // 4 :]
    torch.testing.assert_close(seen, plane_m(camera().rays()).float()[:, WIDTH // 4 :], rtol=0.02, atol=0.0)


@needs_moge
def test_moge_takes_a_known_camera(knowing_model):
    found = MogeDepth(knowing_model).depth(IMAGE, camera())
    assert found.camera is None
    seen = found.depth_m[:, WIDTH // 4 :]
    torch.testing.assert_close(seen, plane_m(camera().rays()).float()[:, WIDTH // 4 :], rtol=1e-3, atol=0.0)
    with pytest.raises(InvalidCameraError):
        MogeDepth(knowing_model).depth(IMAGE, camera(width=2 * WIDTH))


@needs_moge
def test_moge_depth_lies_at_the_pixels_of_a_lens(knowing_model):
    bent = camera(Distortion("plumb_bob", (-0.2, 0.05, 0.0, 0.0, 0.0)))
    found = MogeDepth(knowing_model).depth(IMAGE, bent).depth_m
    expected = plane_m(bent.rays()).float()
    valid = found.isfinite() & expected.isfinite()
    assert valid.float().mean() > 0.6
    torch.testing.assert_close(found[valid], expected[valid], rtol=0.02, atol=0.0)


@needs_moge
def test_moge_itself_runs_on_the_cpu_from_a_file(tmp_path):
    from moge.model.v2 import MoGeModel

    torch.manual_seed(0)
    path = tmp_path / "model.pt"
    for metric in (True, False):
        model = MoGeModel(**tiny_arguments(metric))
        torch.save({"model_config": tiny_arguments(metric), "model": model.state_dict()}, path)
        config = DepthConfig(kind="moge", moge_weights=str(path), moge_resolution_level=0)
        if metric:
            found = build_depth_source(config).depth(IMAGE, camera())
            assert found.depth_m.shape == (HEIGHT, WIDTH)
            assert bool((found.depth_m[found.depth_m.isfinite()] > 0).all())
        else:
            with pytest.raises(CheckpointError, match="no metric depth"):
                build_depth_source(config)
    path.write_bytes(b"no weights")
    with pytest.raises(CheckpointError, match=r"model\.pt"):
        build_depth_source(config)
