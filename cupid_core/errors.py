"""Typed errors with stable codes; knows no other module of the package.

Every error a caller can provoke is a `CupidError`. Its `code` is stable (ROS diagnostics, exit codes and
`objects.json` carry it); its text says what was wrong, with the expected and the actual value, and what to do.
"""

from __future__ import annotations

from typing import ClassVar


class CupidError(Exception):
    """Base of every error of this package.

    Args:
        problem: what was wrong, one sentence, with expected and actual value.
        hint: what the caller can do about it, one sentence.
    """

    code: ClassVar[str] = "cupid_error"

    def __init__(self, problem: str, *, hint: str) -> None:
        super().__init__(f"{problem} {hint}")
        self.problem = problem
        self.hint = hint

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle support: errors cross the border of the worker process."""
        return _rebuild, (type(self), self.problem, self.hint)


def _rebuild(kind: type[CupidError], problem: str, hint: str) -> CupidError:
    return kind(problem, hint=hint)


class ConfigError(CupidError):
    """A setting is unknown, out of bounds or not readable."""

    code = "invalid_config"


class MissingPackageError(CupidError):
    """An optional package is needed and not installed."""

    code = "missing_package"


class InputError(CupidError):
    """What the caller handed in cannot be used."""

    code = "invalid_input"


class InvalidImageError(InputError):
    """The image has no pixels, a wrong number of channels or a type that holds no image."""

    code = "invalid_image"


class EmptyMaskError(InputError):
    """The mask selects no pixel."""

    code = "empty_mask"


class InvalidCameraError(InputError):
    """Intrinsics, size or distortion do not describe a camera."""

    code = "invalid_camera"


class InvalidDepthError(InputError):
    """The depth image has a wrong type, shape, or not one valid pixel."""

    code = "invalid_depth"


class UnreadableFileError(InputError):
    """A file that was handed in is missing, damaged, or holds something else."""

    code = "unreadable_file"


class InvalidPromptError(InputError):
    """A prompt for segmentation is empty, outside the image, or of a kind the segmenter cannot use."""

    code = "invalid_prompt"


class InvalidTensorError(InputError):
    """A tensor has a wrong shape, type or value (NaN, infinity)."""

    code = "invalid_tensor"


class PoseError(CupidError):
    """No camera pose can be given."""

    code = "pose_failed"


class TooFewCorrespondencesError(PoseError):
    """Fewer usable 3D-2D pairs than the problem has unknowns."""

    code = "too_few_correspondences"


class PoseDegenerateError(PoseError):
    """The pairs do not determine a pose (all on one line, all at one place)."""

    code = "pose_degenerate"


class BehindCameraError(PoseError):
    """The best pose puts the object behind the camera."""

    code = "behind_camera"


class AlignmentError(CupidError):
    """Two point sets do not determine a similarity."""

    code = "alignment_degenerate"


class PlacementError(CupidError):
    """An object cannot be given a place in metres."""

    code = "placement_failed"


class TooFewDepthPairsError(PlacementError):
    """Too few pixels show both the object and a measured depth."""

    code = "too_few_depth_pairs"


class CheckpointError(CupidError):
    """A checkpoint is missing, damaged, or does not fit the network it names."""

    code = "checkpoint_invalid"


class EmptyMeshError(CupidError):
    """The field has no surface, so there is no mesh."""

    code = "empty_mesh"


class OpenMeshError(CupidError):
    """The mesh is not watertight, so it has no volume and no mass."""

    code = "open_mesh"


class ConvexPartsError(CupidError):
    """No convex parts were found, or not within the time."""

    code = "convex_parts_failed"


class StructureEmptyError(CupidError):
    """The structure stage found no occupied voxel."""

    code = "structure_empty"


class DatasetError(CupidError):
    """A file of a data set is missing, damaged, or says something impossible."""

    code = "dataset_invalid"


class TrainingError(CupidError):
    """A training run cannot start, continue, or save."""

    code = "training_failed"


class CancelledError(CupidError):
    """The caller asked to stop."""

    code = "cancelled"


class OutputError(CupidError):
    """A file or folder cannot be written."""

    code = "output_failed"
