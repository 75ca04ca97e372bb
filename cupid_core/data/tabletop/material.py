"""The material of a surface as numbers: colors, solid pattern, gloss, and the placement of the label sheet."""

from __future__ import annotations

from dataclasses import dataclass

Color = tuple[float, float, float]

PATTERNS = ("plain", "gradient", "stripes", "checker", "mottle", "wood", "speckle", "rings")
MAPPINGS = ("none", "faces", "wrap", "front", "top")

# Columns of the row that `Material.row` makes; `textures` and `lighting` read them by these names.
COLOR_A, COLOR_B, KIND, FREQUENCY, AMOUNT, PHASE = slice(0, 3), slice(3, 6), 6, 7, 8, 9
DIRECTION, GRAIN, REFLECTANCE, ROUGHNESS, METALLIC = slice(10, 13), 13, 14, 15, 16
MAPPING, MAP_CENTER, MAP_HALF = 17, slice(18, 21), slice(21, 24)
COLUMNS = 24


@dataclass(frozen=True)
class Material:
    """One material of an object.

    Attributes:
        color: main albedo, sRGB in [0, 1].
        second: the pattern's other albedo, sRGB.
        pattern: one of `PATTERNS`.
        frequency: periods of the pattern over the object's longest side.
        amount: share or strength of the second color, 0..1.
        phase: shift of the pattern, periods.
        direction: axis of gradients, stripes and grain, in the object frame.
        grain: strength of fine unevenness, 0..0.3.
        reflectance: specular reflectance at normal incidence (dielectrics about 0.04).
        roughness: GGX roughness, 0.05 (mirror) .. 1 (chalk).
        metallic: 0 or 1.
        mapping: how the label sheet lies on it, one of `MAPPINGS`: "faces" of a box, "wrap" around z, "front"
            and back projected along x, "top" and bottom along z.
        map_center: center of the labelled box, metres, object frame.
        map_half: half edges of the labelled box, metres.
    """

    color: Color
    second: Color = (0.0, 0.0, 0.0)
    pattern: str = "plain"
    frequency: float = 4.0
    amount: float = 0.0
    phase: float = 0.0
    direction: tuple[float, float, float] = (0.0, 0.0, 1.0)
    grain: float = 0.0
    reflectance: float = 0.04
    roughness: float = 0.5
    metallic: float = 0.0
    mapping: str = "none"
    map_center: tuple[float, float, float] = (0.0, 0.0, 0.0)
    map_half: tuple[float, float, float] = (1.0, 1.0, 1.0)

    def row(self) -> tuple[float, ...]:
        """All values as `COLUMNS` numbers."""
        return (
            *self.color,
            *self.second,
            float(PATTERNS.index(self.pattern)),
            self.frequency,
            self.amount,
            self.phase,
            *self.direction,
            self.grain,
            self.reflectance,
            self.roughness,
            self.metallic,
            float(MAPPINGS.index(self.mapping)),
            *self.map_center,
            *self.map_half,
        )
