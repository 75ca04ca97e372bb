"""Laws of the structured-latent encoder and decoders: batches, order, windows, tracing, precision, attributes."""

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cupid_core.errors import ConfigError, InputError
from cupid_core.models.appearance_vae import SLatEncoder
from cupid_core.models.decode_gaussians import Gaussians, SLatGaussianDecoder
from cupid_core.models.decode_mesh import SLatMeshDecoder
from cupid_core.models.decode_radiance_field import SLatRadianceFieldDecoder
from cupid_core.models.layers.sparse import subdivide
from cupid_core.models.topology import VoxelTopology

R, WINDOW = 8, 4
SIZES = [30, 5, 61]
TRUNK: dict[str, Any] = {
    "resolution": R,
    "model_channels": 32,
    "latent_channels": 6,
    "num_blocks": 2,
    "num_heads": 4,
    "mlp_ratio": 2,
    "window_size": WINDOW,
}
SPLATS: dict[str, Any] = {
    "lr": {"_xyz": 1.0, "_features_dc": 1.0, "_opacity": 1.0, "_scaling": 1.0, "_rotation": 0.1},
    "perturb_offset": True,
    "voxel_size": 1.5,
    "num_gaussians": 4,
    "3d_filter_kernel_size": 9e-4,
    "scaling_bias": 4e-3,
    "opacity_bias": 0.1,
    "scaling_activation": "softplus",
}
NETWORKS: dict[str, tuple[type[nn.Module], dict[str, Any]]] = {
    "encoder": (SLatEncoder, {"in_channels": 6}),
    "encoder on whole items": (SLatEncoder, {"in_channels": 6, "attn_mode": "full", "qk_rms_norm": True}),
    "gaussians": (SLatGaussianDecoder, {"representation_config": SPLATS}),
    "mesh": (SLatMeshDecoder, {"model_channels": 256, "representation_config": {"use_color": True}}),
    "radiance field": (SLatRadianceFieldDecoder, {"representation_config": {"rank": 3, "dim": 2}}),
}
BOUND = {"atol": 1e-4, "rtol": 1e-4}


@pytest.fixture(autouse=True)
def no_grad():
    torch.manual_seed(0)
    with torch.no_grad():
        yield


def network(name: str, **changes: Any) -> Any:
    """A small network whose every parameter is random, also those that start at zero."""
    kind, extra = NETWORKS[name]
    torch.manual_seed(1)
    made = kind(**{**TRUNK, **extra, **changes}).eval()
    for key, parameter in made.named_parameters():
        if parameter.dim() > 1:
            nn.init.normal_(parameter, std=1 / math.sqrt(parameter[0].numel()))
        else:
            nn.init.normal_(parameter, mean=float("weight" in key), std=0.2)
    return made


def build(coords: Tensor) -> VoxelTopology:
    return VoxelTopology.build(coords, R, window_size=WINDOW)


def rows_out(result: Any) -> Tensor:
    """The one tensor of rows of any of the networks."""
    if isinstance(result, Tensor):
        return result
    return result.rows if hasattr(result, "rows") else torch.cat([result.mean, result.logvar], dim=1)


def of_item(rows: Tensor, own: Tensor, total: int) -> Tensor:
    """Rows of some voxels where each voxel may have become several adjacent rows."""
    return rows.reshape(total, -1, rows.shape[1])[own].flatten(0, 1)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_batch_equals_its_items_alone(agree, voxels, name):
    coords, net = voxels(SIZES, R, 3), network(name)
    topology, rows = build(coords), torch.randn(sum(SIZES), 6)
    together = rows_out(net(rows, topology))
    assert together.std() > 0.1
    for item in range(3):
        own = topology.rows_of(item)
        alone = rows_out(net(rows[own], build(coords[own] * torch.tensor([0, 1, 1, 1]))))
        agree(f"item {item} of {SIZES[item]}", alone, of_item(together, own, len(coords)), BOUND)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_order_of_voxels_does_not_matter(agree, voxels, name):
    coords, net = voxels(SIZES, R, 3), network(name)
    rows, order = torch.randn(len(coords), 6), torch.randperm(len(coords))
    plain = rows_out(net(rows, build(coords)))
    shuffled = rows_out(net(rows[order], build(coords[order])))
    agree("shuffled", shuffled, of_item(plain, order, len(coords)), BOUND)


def test_information_travels_by_windows_that_shift(voxels):
    """One block reaches one window; the second, shifted by half, reaches further; nothing reaches another item."""
    coords = torch.cat(
        [F.pad(torch.cartesian_prod(*[torch.arange(R)] * 3), (1, 0), value=item) for item in (0, 1)]
    )
    topology = build(coords)
    rows = torch.randn(len(coords), 6)
    changed = rows.clone()
    changed[0] += 1
    reach = []
    for blocks in (1, 2):
        net = network("encoder", num_blocks=blocks)
        touched = (net(rows, topology).mean != net(changed, topology).mean).any(dim=1)
        assert not touched[topology.item == 1].any()
        reach.append(int(coords[touched, 1:].amax()))
    # Windows of the second block end at 2 (half a window) and 6: those that meet cells 0 to 3 reach cell 5.
    assert reach == [WINDOW - 1, WINDOW + WINDOW // 2 - 1]


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize(("dtype", "bound"), [(torch.bfloat16, 0.1), (torch.float16, 0.01)])
def test_half_precision_torso_stays_near(voxels, name, dtype, bound):
    coords, net = voxels([40], R, 3), network(name)
    rows, topology = torch.randn(40, 6), build(coords)
    full = rows_out(net(rows, topology))
    half = rows_out(net.to_precision(dtype)(rows, topology))
    assert half.dtype == torch.float32
    assert 0 < (half - full).norm() / full.norm() < bound


class Decoder(nn.Module):
    """A network as a graph of tensors only."""

    def __init__(self, net: nn.Module, template: VoxelTopology) -> None:
        super().__init__()
        self.net, self.template = net, template

    def forward(self, rows: Tensor, *tables: Tensor) -> Tensor:
        return rows_out(self.net(rows, self.template.with_tensors(tables)))


@pytest.mark.filterwarnings("error::torch.jit.TracerWarning", "ignore:.*torch.jit.trace:DeprecationWarning")
@pytest.mark.parametrize("name", NETWORKS)
def test_a_trace_serves_other_objects(agree, voxels, name):
    net = network(name)
    first, second = build(voxels([30, 12], R, 1)), build(voxels([17, 44], R, 2))
    model = Decoder(net, first)
    traced = torch.jit.trace(model, (torch.randn(42, 6), *first.tensors()), check_trace=False)
    rows = torch.randn(61, 6)
    agree("trace on other voxels", traced(rows, *second.tensors()), model(rows, *second.tensors()), BOUND)


def test_mesh_decoder_equals_subdividing_before_convolving(agree, voxels):
    """The blocks run their first convolution and skip on parents; the plain order gives the same."""
    coords, net = voxels(SIZES, R, 3), network("mesh")
    rows, topology = torch.randn(len(coords), 6), build(coords)
    hidden = net.tokens(rows, topology)
    for block in net.upsample:
        fine = topology.subdivide()
        inside = subdivide(F.silu(block.act_layers[0](hidden, topology)))
        inside = block.out_layers[0](inside, fine)
        inside = block.out_layers[3](F.silu(block.out_layers[1](inside, fine)), fine)
        hidden, topology = inside + block.skip_connection(subdivide(hidden)), fine
    made = net(rows, build(coords))
    agree("plain order", made.rows, net.out_layer(hidden), BOUND)
    assert torch.equal(made.topology.coords, topology.coords)
    assert made.rows.shape == (64 * len(coords), 101) and made.topology.resolution == 4 * R


def test_mesh_decoder_without_color_has_53_channels():
    assert network("mesh", representation_config=None).out_layer.out_features == 53


def splats(raw_scale: float = 1.0) -> tuple[SLatGaussianDecoder, Gaussians]:
    coords = torch.tensor([[0, 0, 0, 0], [0, 7, 3, 1], [1, 2, 2, 2]])
    net, topology = network("gaussians"), build(coords)
    return net, net.attributes(torch.randn(3, 56) * raw_scale, topology)


def test_gaussians_lie_in_reach_of_their_voxel():
    _, made = splats(raw_scale=100)
    center = (torch.tensor([[0, 0, 0], [7, 3, 1], [2, 2, 2]]) + 0.5) / R - 0.5
    distance = (made.positions.reshape(3, 4, 3) - center[:, None]).abs().amax()
    assert 0.7 / R < distance <= 0.75 / R + 1e-6
    assert made.item.tolist() == [0] * 8 + [1] * 4
    assert made.of_item(1).positions.shape == (4, 3)


def test_gaussians_at_network_output_zero_have_the_configured_values():
    net, made = splats(raw_scale=0)
    torch.testing.assert_close(made.scales, torch.full((12, 3), math.hypot(4e-3, 9e-4)))
    torch.testing.assert_close(made.opacities, torch.full((12, 1), 0.1))
    torch.testing.assert_close(made.quats_xyzw, torch.tensor([[0.0, 0.0, 0.0, 1.0]]).expand(12, -1))
    torch.testing.assert_close(made.rgb, torch.full((12, 3), 0.5))
    offset = (made.positions - ((torch.tensor([[2, 2, 2]]) + 0.5) / R - 0.5))[8:] * R
    torch.testing.assert_close(offset, torch.tanh(net.offset_perturbation) * 0.75)
    exponential = network("gaussians", representation_config={**SPLATS, "scaling_activation": "exp"})
    torch.testing.assert_close(exponential.activation.scales(torch.zeros(1)), made.scales[0, :1])


def test_covariances_are_those_of_the_turned_axes():
    _, made = splats()
    full = torch.zeros(12, 3, 3)
    row, column = torch.triu_indices(3, 3)
    full[:, row, column] = full[:, column, row] = made.covariances()
    found = torch.linalg.eigvalsh(full).sqrt()
    torch.testing.assert_close(found, made.scales.sort(dim=1).values, atol=1e-6, rtol=1e-3)


def test_file_rotation_turns_positions_and_covariances_alike():
    """Splats read back from the table are the object's, turned."""
    _, made = splats()
    turn = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])
    table = made.ply_table()
    read = Gaussians(
        positions=table[:, :3],
        scales=table[:, 10:13].exp(),
        quats_xyzw=table[:, 13:].roll(-1, dims=1),
        opacities=torch.sigmoid(table[:, 9:10]),
        colors_dc=table[:, 6:9],
        item=made.item,
    )
    torch.testing.assert_close(
        read.positions, torch.stack([made.positions[:, i] for i in (0, 2, 1)], 1) * torch.tensor([1.0, -1.0, 1.0])
    )
    row, column = torch.triu_indices(3, 3)
    covariance = torch.zeros(12, 3, 3)
    covariance[:, row, column] = covariance[:, column, row] = made.covariances()
    expected = (turn @ covariance @ turn.T)[:, row, column]
    torch.testing.assert_close(read.covariances(), expected, atol=1e-7, rtol=1e-3)
    assert table[:, 3:6].abs().max() == 0
    torch.testing.assert_close(read.opacities, made.opacities)


def test_radiance_field_names_its_channels():
    net, topology = network("radiance field"), build(torch.tensor([[0, 1, 2, 3]]))
    raw = torch.arange(30.0)[None]
    made = net.attributes(raw, topology)
    assert torch.equal(made.trivec.flatten(), raw[0, :18] + 1) and made.trivec.shape == (1, 3, 3, 2)
    assert torch.equal(made.density.flatten(), raw[0, 18:21])
    assert torch.equal(made.colors_dc.flatten(), raw[0, 21:])
    torch.testing.assert_close(made.positions, (torch.tensor([[1.5, 2.5, 3.5]])) / R - 0.5)


def test_gradients_reach_every_parameter(voxels):
    coords = voxels([20], R)
    for name in ("encoder on whole items", "mesh"):
        net = network(name)
        with torch.enable_grad():
            rows_out(net(torch.randn(20, 6), build(coords))).square().sum().backward()
        without = [key for key, value in net.named_parameters() if value.grad is None or not value.grad.any()]
        assert without == []


def test_refusals(voxels):
    coords = voxels([20], R)
    net, rows = network("encoder"), torch.randn(20, 6)
    with pytest.raises(InputError, match="window_size=4"):
        net(rows, VoxelTopology.build(coords, R))
    with pytest.raises(InputError, match="window_size=4"):
        net(rows, VoxelTopology.build(coords, R, window_size=2))
    with pytest.raises(InputError, match="grid of 16"):
        net(rows, VoxelTopology.build(coords, 2 * R, window_size=WINDOW))
    with pytest.raises(ConfigError, match="rope"):
        network("encoder", pe_mode="rope")
    with pytest.raises(ConfigError, match="shift_order"):
        network("encoder", attn_mode="shift_order")
    with pytest.raises(ConfigError, match="no entry 'voxel_size'"):
        network("gaussians", representation_config={key: SPLATS[key] for key in SPLATS if key != "voxel_size"})
    with pytest.raises(ConfigError, match="no dim"):
        network("radiance field", representation_config={"rank": 3})
    with pytest.raises(ConfigError, match="relu"):
        network("gaussians", representation_config={**SPLATS, "scaling_activation": "relu"})
