"""A checkpoint in the published layout with tiny random networks, for everything that needs a whole one."""

from tiny_networks import completing_checkpoint, sparse_checkpoint, tiny_checkpoint

__all__ = ["completing_checkpoint", "sparse_checkpoint", "tiny_checkpoint"]
