"""Every network and step against numbers that live in this folder, where the reference's own are not at hand.

`make_golden.py` wrote them; it says when to run it again. The modules beside this file are found because pytest
puts its folder on the path.
"""

import re
from pathlib import Path

import pytest
import torch
from cases import CASES
from safetensors.torch import load_file
from seeded import Case, Outputs, Seeded
from torch import Tensor

from cupid_core.models.registry import NETWORKS

FILE = Path(__file__).with_name("golden.safetensors")
BY_NAME = {case.name: case for case in CASES}
# Of the size of an output (root mean square). Rounding everything anew moves the outputs by 0.01 to 0.15 of this.
TOLERANCE = 1e-4
INPUT_LAYERS = ("input_layer.weight", "patch_embed.proj.weight")
NO_INFLUENCE = {
    # of the official training only, or replaced by a norm without parameters
    "image_encoder": {"mask_token", "norm.weight", "norm.bias"},
    # met by a group norm with one channel per group, which undoes a constant or a factor of a channel
    "group_norm_encoder": {"middle_block.0.conv2.bias"},
    "group_norm_decoder": {"blocks.2.conv2.bias"},
    "mesh_decoder": {"upsample.1.out_layers.0.conv.weight", "upsample.1.out_layers.0.conv.bias"},
    # a surface is the zero set of its field
    "mesh_extraction": {"sdf"},
}
# The appearance flows differ around their blocks only; those are looked at in the published variant.
FLOW_WITH_BLOCKS = "appearance_flow_latent_visual"
SHARED_BLOCKS = re.compile(r"(^|\.)(input_|out_)?blocks\.")
# Have no published counterpart and change as long as they are trained; the last is held by laws alone.
WITHOUT_CASE = {"SurfaceHead", "ShapeCompletion", "ConvImageTransformer", "ConvImagePyramid", "PrincipalEncoder"}


@pytest.fixture(scope="module")
def golden() -> dict[str, Outputs]:
    """Stored outputs by case."""
    stored: dict[str, Outputs] = {}
    for key, values in load_file(FILE).items():
        case, name = key.split(".", 1)
        stored.setdefault(case, {})[name] = values
    return stored


def bound(expected: Tensor) -> float:
    """Largest difference allowed: none between indices."""
    return TOLERANCE * float(expected.square().mean().sqrt()) if expected.is_floating_point() else 0.0


def disagreement(outputs: Outputs, expected: Outputs) -> float:
    """Largest difference over what is allowed; 1 and less passes."""
    ratios = [0.0]
    for name, right in expected.items():
        left = outputs[name]
        if left.shape != right.shape or not right.is_floating_point():
            ratios.append(0.0 if torch.equal(left.int(), right.int()) else float("inf"))
        else:
            ratios.append(float((left - right).abs().max()) / bound(right))
    return max(ratios)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_outputs_are_the_golden_numbers(case: Case, golden, agree):
    outputs = case.outputs(case.network())
    assert outputs.keys() == golden[case.name].keys(), "run make_golden.py"
    for name, expected in golden[case.name].items():
        agree(name, outputs[name], expected, bound(expected))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_one_number_of_the_first_layer_changed_by_one_percent_is_noticed(case: Case, golden):
    network = case.network()
    names = [name for name, _ in network.named_parameters()]
    for name in [name for name in names if name.endswith(INPUT_LAYERS)] or names[-1:]:
        values = network.get_parameter(name).data.view(-1)
        place = values.abs().argmax()
        kept = values[place].clone()
        values[place] = 1.01 * kept
        assert disagreement(case.outputs(network), golden[case.name]) > 1, name
        values[place] = kept
    assert disagreement(case.outputs(network), golden[case.name]) <= 1


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_weight_takes_part(case: Case, golden):
    """Each tensor of parameters changed by one percent moves the outputs beyond the tolerance."""
    network = case.network()
    for name, parameter in network.named_parameters():
        if "appearance_flow" in case.name and case.name != FLOW_WITH_BLOCKS and SHARED_BLOCKS.search(name):
            continue
        kept = parameter.data.clone()
        parameter.data.mul_(1.01)
        noticed = disagreement(case.outputs(network), golden[case.name]) > 1
        parameter.data.copy_(kept)
        assert noticed != (name in NO_INFLUENCE.get(case.name, set())), name


@pytest.mark.parametrize(
    ("dtype", "loose"), [(torch.float16, 0.01), (torch.bfloat16, 0.08)], ids=["float16", "bfloat16"]
)
@pytest.mark.parametrize("name", ["structure_flow", FLOW_WITH_BLOCKS])
def test_half_precision_torso_stays_near_the_golden_numbers(name: str, dtype: torch.dtype, loose, golden, agree):
    case = BY_NAME[name]
    network = case.network()
    flow = network["flow"] if isinstance(network, torch.nn.ModuleDict) else network
    flow.to_precision(dtype)
    outputs = case.outputs(network)
    for output in ("velocity", "both_branches"):
        expected = golden[name][output]
        largest = agree(output, outputs[output], expected, loose * float(expected.std()))
        assert largest > bound(expected), "nothing was computed in half precision"


def test_the_file_is_small_and_holds_these_cases_only(golden):
    assert FILE.stat().st_size < 300_000
    assert golden.keys() == BY_NAME.keys()
    assert len(BY_NAME) == len(CASES)


def test_every_network_that_a_checkpoint_can_name_has_a_case():
    covered = {type(module).__name__ for case in CASES for module in case.make().modules()}
    assert NETWORKS.keys() - covered <= WITHOUT_CASE, "add a case and run make_golden.py"


def test_seeded_numbers_are_the_same_everywhere():
    """Fails where the numbers that fill the networks changed, so that no network is blamed for it."""
    numbers = Seeded("golden")
    assert (numbers.fractions(3) * 2**24).tolist() == [12165658, 2023577, 9654063]
    assert numbers.voxels(2, 2, 1).tolist() == [[0, 0, 1, 1], [0, 0, 0, 0], [1, 0, 1, 0]]
