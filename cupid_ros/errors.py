"""Typed errors of the ROS layer, with the stable codes that diagnostics and results carry; knows no message."""

from __future__ import annotations

from cupid_core.errors import CupidError, InputError


class InvalidMessageError(InputError):
    """A message cannot be decoded, or a field of it holds what no sender should send."""

    code = "invalid_message"


class UnknownMessageError(CupidError):
    """A message type is needed whose package is not there."""

    code = "unknown_message"


class UnsupportedEncodingError(InputError):
    """An image has an encoding that is not understood where it came in."""

    code = "unsupported_encoding"


class ImageSizeError(InputError):
    """Width, height, step and bytes of an image do not fit together, or two images have other sizes."""

    code = "image_size"


class InvalidDetectionError(InputError):
    """A detection has no usable box or id."""

    code = "invalid_detection"


class StampMismatchError(InputError):
    """Messages that should belong together carry other stamps."""

    code = "stamp_mismatch"


class NoObjectsError(InputError):
    """Neither detections nor a label image say where an object is."""

    code = "no_objects"


class WorkerError(CupidError):
    """A request could not be carried out by the worker."""

    code = "worker_failed"


class WorkerDiedError(WorkerError):
    """The worker process ended in the middle of a request."""

    code = "worker_died"


class WorkerClosedError(WorkerError):
    """The worker was shut down before the request was done."""

    code = "worker_closed"


class WorkerStartError(WorkerError):
    """The worker process could not be made ready."""

    code = "worker_start"


class DeadlineError(WorkerError):
    """A request was not done in time."""

    code = "deadline_exceeded"


class SupersededError(WorkerError):
    """A newer request took the place of one that had not begun."""

    code = "superseded"


class JobFailedError(WorkerError):
    """The job raised an error that is none of ours."""

    code = "job_failed"


class OutOfMemoryError(WorkerError):
    """The device has not enough memory for the request."""

    code = "out_of_memory"


class MissingTransformError(InputError):
    """TF does not say where the camera was in the fixed frame when the image was taken."""

    code = "missing_transform"


class NotActiveError(CupidError):
    """Something is asked of the node that only an active one does."""

    code = "not_active"


class NodeFailedError(CupidError):
    """A callback of the node raised an error that is none of ours."""

    code = "node_failed"


class BagError(InputError):
    """A bag cannot be read or written."""

    code = "bag_failed"


class MissingTopicError(BagError):
    """A bag holds no topic of the kind that is needed, or several."""

    code = "missing_topic"
