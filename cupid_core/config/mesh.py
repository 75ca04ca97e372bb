"""Settings of finished meshes: cleaning, decimation, texture, convex parts."""

from __future__ import annotations

from cupid_core.config.base import Settings, setting


class MeshConfig(Settings):
    """From a decoded mesh to one that a robot can use (`mesh.finish`, `mesh.texture`, `mesh.convex`)."""

    triangle_budget: int = setting(
        20_000, "count", "Most triangles a finished mesh may have; 0 keeps them all.", ge=0, le=10_000_000
    )
    smallest_component: float = setting(
        0.02, "1", "Separate pieces with less area than this share of the largest are dropped.", ge=0.0, le=1.0
    )
    largest_hole: float = setting(
        0.3, "1", "Holes are closed up to this perimeter, as a share of the mesh's diagonal.", ge=0.0, le=10.0
    )
    smoothing_rounds: int = setting(0, "count", "Rounds of Taubin smoothing; 0 smooths nothing.", ge=0, le=100)
    decimation_aggressiveness: float = setting(
        5.0, "1", "How fast the error allowed to decimation grows; lower is finer and slower.", ge=0.0, le=10.0
    )
    texture_size_px: int = setting(1024, "px", "Edge of a baked base-color texture.", ge=64, le=8192)
    convex_threshold: float = setting(
        0.05, "1", "Concavity up to which a part counts as convex; lower makes more parts.", ge=0.01, le=1.0
    )
    convex_faces: int = setting(
        2000, "count", "Triangles to which a mesh is decimated before the search for convex parts.", ge=100
    )
    convex_limit_s: float = setting(120.0, "s", "Longest time the search for convex parts may take.", gt=0.0)
    convex_parts: int = setting(16, "count", "Most convex parts of one object.", ge=1, le=1000)
    density_kg_m3: float = setting(
        400.0,
        "kg/m^3",
        "Density of an object whose mass is not given; the default is a filled household package.",
        gt=0.0,
        le=25_000,
    )
