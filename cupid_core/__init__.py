"""CUPID for robots: objects from one image, with their poses. Public names only."""

from cupid_core.errors import CupidError

__all__ = ["CupidError"]
