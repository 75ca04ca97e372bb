"""Settings of training targets and of the data they are made from."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from cupid_core.config.base import Settings, setting


class FlowTrainingConfig(Settings):
    """What a training step of a flow network samples (`training.flow`)."""

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
    """The square crop around the object of a training view (`data.assets.view_crop`)."""

    min_ratio: float = setting(1.0, "1", "Smallest side, as a multiple of the longer side of the object.", gt=0.0)
    max_ratio: float = setting(1.4, "1", "Largest side, as a multiple of the longer side of the object.", gt=0.0)
    concentration: float = setting(
        1.5, "1", "Both shapes of the beta distribution between them; 1 is uniform.", gt=0.0, le=1e3
    )
    buckets: int = setting(
        0, "count", "Ratios are moved to the middle of this many steps; 0 leaves them as sampled.", ge=0, le=1000
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
    """How a training sample is made from an asset and one of its views (`data.assets.samples`)."""

    resolution: int = setting(64, "count", "Voxels per axis.", ge=1, le=1024)
    image_size: int = setting(518, "px", "Width and height of the input image of the networks.", ge=1, le=8192)
    flag: Literal["image", "crop", "occupied"] = setting(
        "image",
        "choice",
        "Voxels whose UV counts: all that project into the image, into the crop, or the occupied in the image.",
    )
    border: float = setting(
        0.01, "image fraction", "A voxel closer to the border than this is not in the image.", ge=0.0, lt=0.5
    )
    crop: ViewCropConfig | None = setting(None, "section", "Crop of the view; none keeps the whole image.")
