"""Typed errors of the service, with the stable codes that diagnostics and results carry."""

from __future__ import annotations

from cupid_core.errors import CupidError, InputError


class ImageSizeError(InputError):
    """Sizes of an image contradict each other, two images have different sizes, or a request is too large."""

    code = "image_size"


class InvalidDetectionError(InputError):
    """A detection has no usable box or id."""

    code = "invalid_detection"


class InvalidRequestError(InputError):
    """A request names an unknown preset or an impossible deadline."""

    code = "invalid_request"


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
    """The worker process did not become ready."""

    code = "worker_start"


class DeadlineError(WorkerError):
    """A request was not done in time."""

    code = "deadline_exceeded"


class SupersededError(WorkerError):
    """A newer request replaced one that had not started."""

    code = "superseded"


class JobFailedError(WorkerError):
    """The job raised an exception that is not a `CupidError`."""

    code = "job_failed"


class OutOfMemoryError(WorkerError):
    """The device has not enough memory for the request."""

    code = "out_of_memory"
