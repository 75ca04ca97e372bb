"""Published class names and the networks that implement them."""

from __future__ import annotations

from torch import nn

from cupid_core.errors import CheckpointError
from cupid_core.models.appearance_flow import SLatFlowModel
from cupid_core.models.appearance_vae import PrincipalEncoder, SLatEncoder
from cupid_core.models.appearance_variants import (
    LatentConditioningSLatFlowModel,
    PositionalEmbeddingConditioningSLatFlowModel,
    SpatialConditioningSLatFlowModel,
    VisualLatentConditioningSLatFlowModel,
)
from cupid_core.models.conv_image_encoder import ConvImageTransformer
from cupid_core.models.conv_image_pyramid import ConvImagePyramid
from cupid_core.models.decode_gaussians import SLatGaussianDecoder
from cupid_core.models.decode_mesh import SLatMeshDecoder
from cupid_core.models.decode_radiance_field import SLatRadianceFieldDecoder
from cupid_core.models.image_encoder import DinoVisionTransformer
from cupid_core.models.shape_completion import ShapeCompletion
from cupid_core.models.structure_flow import SparseStructureFlowModel
from cupid_core.models.structure_vae import SparseStructureDecoder, SparseStructureEncoder
from cupid_core.models.surface_head import SurfaceHead

# A memory-saving training variant of the same network carries this prefix in published files.
_TRAINING_PREFIX = "Elastic"

NETWORKS: dict[str, type[nn.Module]] = {
    kind.__name__: kind
    for kind in (
        DinoVisionTransformer,
        ConvImageTransformer,
        ConvImagePyramid,
        SparseStructureFlowModel,
        SparseStructureEncoder,
        SparseStructureDecoder,
        SLatFlowModel,
        LatentConditioningSLatFlowModel,
        VisualLatentConditioningSLatFlowModel,
        PositionalEmbeddingConditioningSLatFlowModel,
        SpatialConditioningSLatFlowModel,
        SLatEncoder,
        PrincipalEncoder,
        SLatMeshDecoder,
        SLatGaussianDecoder,
        SLatRadianceFieldDecoder,
        SurfaceHead,
        ShapeCompletion,
    )
}


def network_class(name: str, *, origin: str) -> type[nn.Module]:
    """The network class of a published class name.

    Args:
        name: class name of a published json, e.g. "ElasticSLatEncoder".
        origin: file that names the class, for the error message.

    Raises:
        CheckpointError: no such network.
    """
    kind = NETWORKS.get(name.removeprefix(_TRAINING_PREFIX))
    if kind is None:
        raise CheckpointError(
            f"'{origin}' names the class '{name}'.", hint=f"Known: {', '.join(sorted(NETWORKS))}."
        )
    return kind
