"""First values of the parameters of flow networks, before any training.

As in DiT and TRELLIS: Xavier-uniform linears with zero bias, time embedding N(0, 0.02), and zero modulations and
output layer, so that a fresh network is the identity in its blocks and gives velocity 0.
"""

from __future__ import annotations

from torch import nn

from cupid_core.models.layers.embeddings import TimestepEmbedder


def initialize_flow(network: nn.Module) -> None:
    """Set the parameters of a flow network, in place.

    Args:
        network: a network whose last layer is `out_layer` and whose modulations are named `adaLN_modulation`.
    """
    for module in network.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)
    for name, module in network.named_modules():
        if isinstance(module, TimestepEmbedder):
            for layer in module.mlp:
                if isinstance(layer, nn.Linear):
                    nn.init.normal_(layer.weight, std=0.02)
        elif isinstance(module, nn.Linear) and ("adaLN_modulation" in name or name == "out_layer"):
            nn.init.zeros_(module.weight)
