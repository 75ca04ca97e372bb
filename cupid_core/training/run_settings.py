"""Settings that every training run has: length, optimizer, precision, logging."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from cupid_core.config import Settings, setting


class OptimizerSettings(Settings):
    """How weights follow gradients, and the learning rate the steps."""

    kind: Literal["adamw", "muon"] = setting(
        "adamw", "choice", "Rule of the matrices inside blocks; muon leaves all other parameters to adamw."
    )
    muon_convolutions: bool = setting(
        False, "switch", "Muon moves the kernels of convolutions inside a network as well."
    )
    learning_rate: float = setting(3e-4, "1", "Learning rate after the warm-up.", gt=0.0, le=1.0)
    muon_learning_rate: float = setting(
        0.001, "1", "The same for the matrices that muon moves: root mean square of its updates.", gt=0, le=1
    )
    final_share: float = setting(0.0, "1", "Learning rate at the end, as a share of the full one.", ge=0.0, le=1.0)
    warmup_steps: int = setting(500, "count", "Steps of linear warm-up.", ge=0)
    decay_share: float = setting(
        0.4, "1", "Share of all steps, the last ones, in which the rate falls; 0 keeps it.", ge=0.0, le=1.0
    )
    decay_shape: Literal["linear", "cosine"] = setting("linear", "choice", "How it falls.")
    beta1: float = setting(0.9, "1", "Memory of the mean gradient.", ge=0.0, lt=1.0)
    beta2: float = setting(0.98, "1", "Memory of the mean squared gradient.", ge=0.0, lt=1.0)
    weight_decay: float = setting(
        0.01, "1", "Decay of matrices and convolutions per unit of rate.", ge=0.0, le=10.0
    )
    max_grad_norm: float = setting(1.0, "1", "Gradients longer than this are shortened to it.", gt=0.0)
    clip_history: int = setting(
        1000, "count", "Gradient norms that are remembered; once so many are, the percentile applies.", ge=1
    )
    clip_percentile: float = setting(
        95.0, "percent", "Gradients are shortened to this percentile of the remembered norms.", gt=0.0, le=100.0
    )


class RunSettings(Settings):
    """One training run."""

    steps: int = setting(100_000, "count", "Optimizer steps of the whole run.", ge=1)
    batch_size: int = setting(32, "count", "Samples in a batch.", ge=1)
    accumulate: int = setting(1, "count", "Batches whose gradients are averaged in one step.", ge=1)
    precision: Literal["float32", "bfloat16", "float16"] = setting(
        "float32", "choice", "Precision of the blocks while they compute; weights are kept in float32."
    )
    compiled: bool = setting(
        False, "switch", "Compile the networks with torch.compile; takes a minute at the start of every run."
    )
    optimizer: OptimizerSettings = OptimizerSettings()
    ema_decay: float = setting(0.9995, "1", "Memory of the averaged weights per step.", ge=0.0, lt=1.0)
    log_every: int = setting(20, "count", "Steps between lines of the log.", ge=1)
    validate_every: int = setting(1000, "count", "Steps between validations; 0 never.", ge=0)
    sheet_every: int = setting(1000, "count", "Steps between picture sheets; 0 never.", ge=0)
    save_minutes: float = setting(10.0, "minute", "Time between checkpoints.", gt=0.0)
    spare_seconds: float = setting(
        2.0, "second", "Time before a time limit that is kept for saving and exporting.", ge=0.0, le=3600.0
    )
    prefetch: int = setting(0, "count", "Batches that a second thread makes ahead.", ge=0, le=64)
    start_from: str = setting("", "name", "Checkpoint to fine-tune from, a folder or 'tabletop'; empty: fresh.")
    mismatch: Literal["skip", "partial", "zeropad"] = setting(
        "skip", "choice", "What to do where the shapes of that checkpoint differ."
    )

    @model_validator(mode="after")
    def _warmup_fits(self) -> RunSettings:
        if self.optimizer.warmup_steps > self.steps:
            raise ValueError(f"warmup_steps {self.optimizer.warmup_steps} are more than steps {self.steps}")
        return self


class StageSettings(Settings):
    """Base of the settings of a stage."""

    run: RunSettings = RunSettings()
