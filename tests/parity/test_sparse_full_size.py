"""The sparse networks at published size: every key, shape, dtype and count, without memory for a single weight."""

import pytest
import torch

from cupid_core.models.appearance_flow import SLatFlowModel
from cupid_core.models.appearance_vae import SLatEncoder
from cupid_core.models.appearance_variants import VisualLatentConditioningSLatFlowModel
from cupid_core.models.decode_gaussians import SLatGaussianDecoder
from cupid_core.models.decode_mesh import SLatMeshDecoder
from cupid_core.models.decode_radiance_field import SLatRadianceFieldDecoder

CLASSES = {
    "slat_flow_model": VisualLatentConditioningSLatFlowModel,
    "trellis_slat_flow_model": SLatFlowModel,
    "slat_encoder": SLatEncoder,
    "slat_decoder_gs": SLatGaussianDecoder,
    "slat_decoder_mesh": SLatMeshDecoder,
    "slat_decoder_rf": SLatRadianceFieldDecoder,
}
DTYPES = {torch.float32: "F32", torch.float16: "F16"}


@pytest.mark.parametrize("name", CLASSES)
def test_full_size_network_has_the_published_keys_shapes_and_dtypes(fixtures, name):
    listing = fixtures("state_dict_shapes")[1][name]
    kind = CLASSES[name]
    assert f"Elastic{kind.__name__}" == listing["class"]
    with torch.device("meta"):
        network = kind(**listing["args"])
    made = {
        key: {"shape": list(value.shape), "dtype": DTYPES[value.dtype]}
        for key, value in network.state_dict().items()
    }
    assert made == listing["state_dict"]
    assert sum(value.numel() for value in network.parameters()) == listing["num_params"]
    assert sum(value.numel() for value in network.buffers()) == listing["num_buffer_elems"]


@pytest.mark.parametrize("name", CLASSES)
def test_torso_precision_can_be_chosen_after_loading(fixtures, name):
    listing = fixtures("state_dict_shapes")[1][name]
    with torch.device("meta"):
        network = CLASSES[name](**listing["args"])
    network.to_precision(torch.float32)
    assert {value.dtype for value in network.state_dict().values()} == {torch.float32}
    network.to_precision(torch.bfloat16)
    changed = {key for key, value in network.state_dict().items() if value.dtype == torch.bfloat16}
    assert changed == {key for key, value in listing["state_dict"].items() if value["dtype"] == "F16"}
