"""The dense networks at published size: every key, shape, dtype and count, without memory for a single weight."""

import pytest
import torch

from cupid_core.models.image_encoder import DinoVisionTransformer, image_encoder_args
from cupid_core.models.structure_flow import SparseStructureFlowModel
from cupid_core.models.structure_vae import SparseStructureDecoder, SparseStructureEncoder

CLASSES = {
    "sparse_structure_flow_model": SparseStructureFlowModel,
    "trellis_sparse_structure_flow_model": SparseStructureFlowModel,
    "sparse_structure_uv_encoder": SparseStructureEncoder,
    "sparse_structure_encoder": SparseStructureEncoder,
    "sparse_structure_uv_decoder": SparseStructureDecoder,
    "sparse_structure_decoder": SparseStructureDecoder,
    "image_cond_model": DinoVisionTransformer,
}
DTYPES = {torch.float32: "F32", torch.float16: "F16"}


@pytest.mark.parametrize("name", CLASSES)
def test_full_size_network_has_the_published_keys_shapes_and_dtypes(fixtures, name):
    listing = fixtures("state_dict_shapes")[1][name]
    kind = CLASSES[name]
    assert kind.__name__ == listing["class"]
    args = image_encoder_args("dinov2_vitl14_reg") if name == "image_cond_model" else listing["args"]
    with torch.device("meta"):
        network = kind(**args)
    made = {
        key: {"shape": list(value.shape), "dtype": DTYPES[value.dtype]}
        for key, value in network.state_dict().items()
    }
    assert made == listing["state_dict"]
    assert sum(value.numel() for value in network.parameters()) == listing["num_params"]
    assert sum(value.numel() for value in network.buffers()) == listing["num_buffer_elems"]


def test_torso_precision_can_be_chosen_after_loading(fixtures):
    listing = fixtures("state_dict_shapes")[1]["sparse_structure_flow_model"]
    with torch.device("meta"):
        network = SparseStructureFlowModel(**listing["args"])
    network.to_precision(torch.float32)
    assert {value.dtype for value in network.state_dict().values()} == {torch.float32}
    network.to_precision(torch.bfloat16)
    changed = {key for key, value in network.state_dict().items() if value.dtype == torch.bfloat16}
    assert changed == {key for key, value in listing["state_dict"].items() if value["dtype"] == "F16"}
