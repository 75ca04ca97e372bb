"""Every setting of the package, declared once: type, default, bounds, unit and a sentence.

The command line, the YAML files in `config/` and the ROS parameters all come from these models, under the same
dotted names (`pose.robust_scale_px`). This module knows values, not what is done with them.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from cupid_core.errors import ConfigError

SettingsT = TypeVar("SettingsT", bound="Settings")


def setting(default: Any, unit: str, description: str, **bounds: Any) -> Any:
    """Declare one setting.

    Args:
        default: the only place where the default stands.
        unit: physical unit, or "1" for a pure number, "count", "switch", "choice", "name".
        description: one sentence for people.
        bounds: `ge`, `gt`, `le`, `lt` for numbers, as pydantic names them.
    """
    return Field(default, description=description, json_schema_extra={"unit": unit}, **bounds)


class Settings(BaseModel):
    """Base of all settings: frozen, and closed to unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


class SamplerConfig(Settings):
    """One sampling run of a flow network."""

    steps: int = setting(25, "count", "Number of solver steps from noise to data.", ge=1, le=1000)
    solver: Literal["euler", "heun"] = setting(
        "euler", "choice", "Solver; heun is of second order and calls the network twice per step."
    )
    guidance_strength: float = setting(
        3.0, "1", "Guidance s in (1 + s) conditional - s unconditional; 0 switches it off.", ge=0.0, le=100.0
    )
    guidance_from_t: float = setting(
        0.5, "1", "Lowest flow time with guidance; 0 is data, 1 is noise.", ge=0.0, le=1.0
    )
    guidance_to_t: float = setting(1.0, "1", "Highest flow time with guidance.", ge=0.0, le=1.0)
    rescale_t: float = setting(
        3.0, "1", "Shift of the schedule towards noise; 1 is uniform in time.", gt=0.0, le=100.0
    )

    @model_validator(mode="after")
    def _interval_has_an_inside(self) -> SamplerConfig:
        if self.guidance_from_t > self.guidance_to_t:
            raise ValueError(f"guidance_from_t {self.guidance_from_t} is above guidance_to_t {self.guidance_to_t}")
        return self


class StructureSamplerConfig(SamplerConfig):
    """The sampling run of stage 1 (CUPID's evaluation settings)."""

    guidance_strength: float = setting(
        7.5, "1", "Guidance s in (1 + s) conditional - s unconditional; 0 switches it off.", ge=0.0, le=100.0
    )


class SimilarityConfig(Settings):
    """Robust alignment of two point sets (`geometry.similarity.align_robust`)."""

    hypotheses: int = setting(
        512, "count", "Minimal three-point alignments drawn to find a start.", ge=1, le=100_000
    )
    finest_noise: float = setting(
        0.005,
        "1",
        "Finest noise tried for the start, as a fraction of the size of the target points; doublings follow.",
        gt=0.0,
        le=1.0,
    )
    max_iterations: int = setting(30, "count", "Reweighting rounds after the start.", ge=1, le=1000)
    min_inlier_ratio: float = setting(
        0.1, "1", "Alignments supported by a smaller fraction of the points are refused.", ge=0.0, le=1.0
    )
    seed: int = setting(0, "count", "Seed of the draws, where the caller brings no generator.", ge=0)


class CropConfig(Settings):
    """The square cut around an object before the networks see it (`image.crop`)."""

    margin: float = setting(
        1.2, "1", "Side of the square, as a multiple of the longer side of the mask's box.", ge=1.0, le=4.0
    )
    alpha_threshold: float = setting(
        0.8, "1", "Pixels with more opacity than this belong to the object.", ge=0.0, lt=1.0
    )


class PoseConfig(Settings):
    """Object pose from 3D-2D pairs (`pose.solve_pose`). Image fractions are of the longer image side."""

    intrinsics: Literal["fixed", "focal", "prior"] = setting(
        "fixed",
        "choice",
        "What to refine of a given camera: nothing, one focal length, or fx, fy, cx, cy around their values.",
    )
    focal_std: float = setting(
        0.1, "1", "Standard deviation of a given focal length that is refined, relative.", gt=0.0, le=2.0
    )
    principal_point_std: float = setting(
        0.005,
        "image fraction",
        "Standard deviation of a refined principal point; around the image centre when no camera is given.",
        gt=0.0,
        le=1.0,
    )
    unknown_focal: float = setting(
        1.6, "image fraction", "Most likely focal length when no camera is given.", gt=0.05, le=50.0
    )
    unknown_focal_std_log: float = setting(
        1.0, "1", "Standard deviation of the logarithm of that focal length.", gt=0.0, le=5.0
    )
    image_width_px: int = setting(
        518, "px", "Width of the image that uv refer to when no camera is given.", ge=1, le=100_000
    )
    image_height_px: int = setting(
        518, "px", "Height of the image that uv refer to when no camera is given.", ge=1, le=100_000
    )
    border_margin: float = setting(
        0.5 / 64,
        "1",
        "Pairs with u or v this close to 0 or 1 may be clamped and wait until the pose shows they are inside.",
        ge=0.0,
        lt=0.5,
    )
    tukey_cutoff: float = setting(
        6.0, "sigma", "Residual from which a pair counts as an outlier, in robust deviations.", ge=3.0, le=20.0
    )
    sample_points: int = setting(
        1024, "count", "Pairs that starts, curvature and noise are taken from; all refine.", ge=64, le=100_000
    )
    hypotheses: int = setting(
        64, "count", "Four-point poses drawn when outliers spoil the ordinary start.", ge=8, le=10_000
    )
    trusted_noise: float = setting(
        0.02, "image fraction", "Robust residual up to which an ordinary start is believed.", gt=0.0, le=0.5
    )
    max_noise: float = setting(
        0.05, "image fraction", "Robust residual from which no pose is given.", gt=0.0, le=0.5
    )


class FlowTrainingConfig(Settings):
    """What a training step of a flow network draws (`training.flow`)."""

    time_mean: float = setting(1.0, "1", "Mean of the logit of the flow time; larger is noisier.", ge=-5.0, le=5.0)
    time_std: float = setting(1.0, "1", "Standard deviation of the logit of the flow time.", gt=0.0, le=5.0)
    condition_dropout: float = setting(
        0.1, "1", "Share of the samples that are trained without their condition.", ge=0.0, lt=1.0
    )


class LearningRateConfig(Settings):
    """Learning rate over the steps: linear warm-up, then half a cosine down (`training.schedule`)."""

    base: float = setting(1e-4, "1", "Learning rate at the end of the warm-up.", gt=0.0, le=1.0)
    warmup_steps: int = setting(1000, "count", "Steps of the warm-up.", ge=0)
    max_steps: int = setting(1_000_000, "count", "Step at which the final rate is reached and kept.", ge=1)
    initial: float = setting(1e-10, "1", "Learning rate the warm-up starts from.", ge=0.0, le=1.0)
    final: float = setting(1e-6, "1", "Learning rate at and after the last step.", ge=0.0, le=1.0)

    @model_validator(mode="after")
    def _decay_has_steps(self) -> LearningRateConfig:
        if self.warmup_steps >= self.max_steps:
            raise ValueError(f"warmup_steps {self.warmup_steps} leaves no step before max_steps {self.max_steps}")
        return self


class StructureVaeLossConfig(Settings):
    """Losses of the structure autoencoders, occupancy and UV (`training.losses`)."""

    classification: Literal["dice", "bce", "l1"] = setting(
        "dice", "choice", "Loss of occupancy or of the UV flag, on the sigmoid (bce: on the logits)."
    )
    regression: Literal["l1", "mse", "huber"] = setting("l1", "choice", "Loss of u and v.")
    region: Literal["flag", "occupied", "all"] = setting("flag", "choice", "Voxels whose u and v count.")
    uv_weight: float = setting(1.0, "1", "Weight of the regression.", ge=0.0, le=1e6)
    kl_weight: float = setting(1e-3, "1", "Weight of the KL divergence of the posterior.", ge=0.0, le=1e6)


class ViewCropConfig(Settings):
    """The square cut around the object of a training view (`data.assets.view_crop`)."""

    min_ratio: float = setting(1.0, "1", "Smallest side, as a multiple of the longer side of the object.", gt=0.0)
    max_ratio: float = setting(1.4, "1", "Largest side, as a multiple of the longer side of the object.", gt=0.0)
    concentration: float = setting(
        1.5, "1", "Both shapes of the beta distribution between them; 1 is uniform.", gt=0.0, le=1e3
    )
    buckets: int = setting(
        0, "count", "Ratios are moved to the middle of this many steps; 0 leaves them as drawn.", ge=0, le=1000
    )
    beyond_border: bool = setting(
        False, "switch", "Let the square reach beyond the image instead of shrinking it to fit."
    )

    @model_validator(mode="after")
    def _ratios_in_order(self) -> ViewCropConfig:
        if self.min_ratio > self.max_ratio:
            raise ValueError(f"min_ratio {self.min_ratio} is above max_ratio {self.max_ratio}")
        return self


class AssetSampleConfig(Settings):
    """How a training sample is made of an asset and one of its views (`data.assets.samples`)."""

    resolution: int = setting(64, "count", "Voxels per axis.", ge=1, le=1024)
    image_size: int = setting(518, "pixel", "Width and height of the image the networks see.", ge=1, le=8192)
    flag: Literal["image", "crop", "occupied"] = setting(
        "image",
        "choice",
        "Voxels whose UV counts: all that project into the image, into the crop, or the occupied in the image.",
    )
    border: float = setting(
        0.01, "image fraction", "A voxel closer to the border than this is not in the image.", ge=0.0, lt=0.5
    )
    crop: ViewCropConfig | None = setting(None, "section", "Crop of the view; none keeps the whole image.")


class CupidConfig(Settings):
    """All settings of the package, one section per room."""

    similarity: SimilarityConfig = SimilarityConfig()
    structure_sampler: StructureSamplerConfig = StructureSamplerConfig()
    appearance_sampler: SamplerConfig = SamplerConfig()
    crop: CropConfig = CropConfig()
    pose: PoseConfig = PoseConfig()


def from_mapping(kind: type[SettingsT], values: dict[str, Any], origin: str = "the settings") -> SettingsT:
    """Validate a nested mapping.

    Args:
        kind: the settings model to build.
        values: nested plain values, as read from YAML; missing keys take their defaults.
        origin: what to call the source in an error message, e.g. the file name.

    Raises:
        ConfigError: unknown key (with the nearest known one), wrong type, or out of bounds.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        location = tuple(str(part) for part in first["loc"])
        name = ".".join(location) or kind.__name__
        if first["type"] == "extra_forbidden":
            raise ConfigError(f"{origin}: unknown setting '{name}'.", cure=_nearest(kind, location)) from error
        raise ConfigError(
            f"{origin}: setting '{name}' is {first['input']!r}: {first['msg']}.",
            cure=f"`cupid config describe` lists the bounds of every setting ({error.error_count()} wrong here).",
        ) from error


def load(kind: type[SettingsT], path: Path) -> SettingsT:
    """Read settings from a YAML file; keys that are not in the file keep their defaults.

    Raises:
        ConfigError: the file is missing, is not YAML, is not a mapping, or `from_mapping` refuses it.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}.", cure="Give the path of a readable YAML file.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not YAML: {error}.", cure="Correct the line it names.") from error
    if values is None:
        values = {}
    if not isinstance(values, dict):
        raise ConfigError(
            f"{path} holds a {type(values).__name__}, not a mapping of settings.",
            cure="Write 'section:' lines with indented 'name: value' lines below.",
        )
    return from_mapping(kind, values, origin=str(path))


def save(settings: Settings, path: Path) -> None:
    """Write `to_yaml` to a file.

    Raises:
        ConfigError: the file cannot be written.
    """
    try:
        path.write_text(to_yaml(settings), encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}.", cure="Give a path in a writable folder.") from error


def to_yaml(settings: Settings) -> str:
    """Write settings as YAML with a comment (meaning, unit, bounds) above every value; `load` reads it back."""
    return "\n".join(_yaml_lines(settings, indent="")) + "\n"


def describe(settings: Settings, prefix: str = "") -> Iterator[tuple[str, Any, str, str, str]]:
    """Walk all settings: (dotted name, value, unit, bounds as text, description)."""
    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        if isinstance(value, Settings):
            yield from describe(value, prefix=f"{prefix}{name}.")
        else:
            extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
            yield (
                f"{prefix}{name}",
                value,
                str(extra.get("unit", "")),
                _bounds(field),
                field.description or "",
            )


def _yaml_lines(settings: Settings, indent: str) -> Iterator[str]:
    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        if isinstance(value, Settings):
            yield f"{indent}{name}:"
            yield from _yaml_lines(value, indent + "  ")
            continue
        extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
        bounds = _bounds(field)
        yield f"{indent}# {field.description} [{extra.get('unit', '')}{'; ' + bounds if bounds else ''}]"
        yield f"{indent}{name}: {yaml.safe_dump(value, default_flow_style=True).splitlines()[0]}"


def _bounds(field: Any) -> str:
    signs = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}
    parts = [
        f"{sign} {getattr(item, key)}"
        for item in field.metadata
        for key, sign in signs.items()
        if getattr(item, key, None) is not None
    ]
    choices = getattr(field.annotation, "__args__", ()) if "Literal" in str(field.annotation) else ()
    return ", ".join(parts) or " | ".join(str(choice) for choice in choices)


def _nearest(kind: type[Settings], location: tuple[str, ...]) -> str:
    """Name the known setting that is spelled most like the unknown one, in its own section if there is one."""
    *section, leaf = location
    settings = [name.split(".") for name, *_ in describe(kind())]
    known = [name[:depth] for name in settings for depth in range(1, len(name) + 1)]
    for candidates in ([name for name in known if name[:-1] == section], known):
        by_leaf = {name[-1]: ".".join(name) for name in candidates}
        close = difflib.get_close_matches(leaf, by_leaf, n=1, cutoff=0.6)
        if close:
            return f"Did you mean '{by_leaf[close[0]]}'?"
    return "`cupid config describe` lists all settings."
