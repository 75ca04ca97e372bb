"""Typed errors of the ROS layer, with the stable codes that diagnostics and results carry."""

from __future__ import annotations

from cupid_core.errors import CupidError, InputError


class InvalidMessageError(InputError):
    """A message cannot be decoded, or a field of it has an impossible value."""

    code = "invalid_message"


class UnknownMessageError(CupidError):
    """The package of a message type is not installed."""

    code = "unknown_message"


class UnsupportedEncodingError(InputError):
    """An image has an encoding that its input does not accept."""

    code = "unsupported_encoding"


class StampMismatchError(InputError):
    """Messages that should belong together have different stamps."""

    code = "stamp_mismatch"


class MissingTransformError(InputError):
    """TF does not know where the camera was in the fixed frame when the image was taken."""

    code = "missing_transform"


class NotActiveError(CupidError):
    """The node is asked for something that only an active node does."""

    code = "not_active"


class NodeFailedError(CupidError):
    """A callback of the node raised an exception that is not a `CupidError`."""

    code = "node_failed"


class BagError(InputError):
    """A bag cannot be read or written."""

    code = "bag_failed"


class MissingTopicError(BagError):
    """A bag has no topic of the needed kind, or several."""

    code = "missing_topic"


class RosBuildError(CupidError):
    """The interfaces cannot be built beside the ROS wheels."""

    code = "ros_build"


class RosSetupError(CupidError):
    """There is no ROS that `cupid ros run` can use, or another one is in its way."""

    code = "ros_setup"
