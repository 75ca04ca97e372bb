"""Settings of the ROS layer: worker process, inputs, what is published."""

from __future__ import annotations

from typing import Literal

from cupid_core.config.base import Settings, setting
from cupid_core.config.presets import PresetName


class RosWorkerConfig(Settings):
    """The process that owns the networks (`cupid_core.serving.worker`)."""

    deadline_s: float = setting(
        60.0, "s", "A request that takes longer from acceptance fails with deadline_exceeded.", gt=0.0, le=86_400.0
    )
    grace_s: float = setting(
        2.0,
        "s",
        "Time to stop after a cancel or a deadline; then the process is killed.",
        ge=0.0,
        le=600.0,
    )
    startup_s: float = setting(
        180.0,
        "s",
        "Time for loading the networks; then the process is killed and started again.",
        gt=0.0,
        le=3600.0,
    )
    restart_pause_s: float = setting(
        1.0, "s", "Pause between two starts of a process that fails to start.", ge=0.0, le=600.0
    )
    max_request_mb: int = setting(
        256, "MB", "Images of one request together; larger ones are refused.", ge=1, le=65_536
    )


class RosTopicsConfig(Settings):
    """Names of what the node subscribes to; relative ones follow its namespace, and all can be remapped.

    The node waits for every input that is named, so that no object loses its scale because depth came late.
    """

    image: str = setting("image", "name", "Color image; names that end in /compressed carry CompressedImage.")
    camera_info: str = setting("camera_info", "name", "CameraInfo of the image; - or none for none.")
    depth: str = setting("-", "name", "Depth aligned to the image, raw or /compressedDepth; - or none for none.")
    labels: str = setting("-", "name", "Label image; - or none for none.")
    detections: str = setting(
        "detections", "name", "Detection2DArray; - or none for none, then labels must be there."
    )


class RosInputConfig(Settings):
    """Inputs and their synchronization (`cupid_ros.inputs`, `cupid_ros.frame_messages`)."""

    sync_queue: int = setting(
        20, "count", "Messages of each topic that are kept until those of the other topics arrive.", ge=1, le=1000
    )
    sync_slop_s: float = setting(
        0.02, "s", "Stamps of image, depth, labels and detections may differ by this.", ge=0.0, le=10.0
    )
    rectified: bool = setting(
        False, "switch", "The image is a rectified one: the camera is P of CameraInfo, without distortion."
    )
    depth_scale_std: float = setting(
        0.01, "1", "Relative standard deviation of all depths of the sensor together.", ge=0.0, le=1.0
    )
    min_score: float = setting(0.0, "1", "Detections with a lower score are ignored.", ge=0.0, le=1.0)
    max_objects: int = setting(
        32, "count", "Most objects of one image; those with the best scores are taken.", ge=1, le=1000
    )


class RosTrackingConfig(Settings):
    """Ids for detections that have none (`cupid_core.serving.tracking`)."""

    min_iou: float = setting(
        0.3, "1", "Overlap of masks (intersection over union) from which it is the same object.", gt=0.0, le=1.0
    )
    max_shift: float = setting(
        0.5,
        "1",
        "With less overlap: largest shift of the center, as a share of the larger object's size.",
        ge=0.0,
        le=10.0,
    )
    forget_s: float = setting(
        5.0,
        "s",
        "An object without an id of its own that was not detected for this long is forgotten.",
        gt=0.0,
        le=86_400.0,
    )
    remember: int = setting(
        128, "count", "Objects whose newest reconstruction is kept; the oldest are dropped.", ge=1, le=100_000
    )


class RosOutputConfig(Settings):
    """What is published."""

    tf: bool = setting(True, "switch", "Send the transform camera frame -> cupid/<id>.")
    tf_static: bool = setting(False, "switch", "Send it on /tf_static instead.")
    tf_prefix: str = setting("cupid/", "name", "Prefix of the id in the name of the frame of an object.")
    fixed_frame: str = setting(
        "",
        "name",
        "Parent frame of the objects; empty takes the camera's. Its z is up, so a camera may hang upside down.",
    )
    empty: bool = setting(
        False, "switch", "Publish an empty ObjectArray for an image in which nothing was detected; else nothing."
    )
    meshes: bool = setting(True, "switch", "Put meshes and colors into /cupid/objects.")
    mesh_folder: str = setting(
        "", "name", "Folder for the newest mesh of each object as a file, named by mesh_uri; empty writes none."
    )
    mesh_format: Literal["obj", "ply", "stl", "glb"] = setting(
        "obj", "choice", "Format of these files; all but glb keep z up."
    )
    markers: bool = setting(True, "switch", "Publish triangle lists for RViz.")
    marker_lifetime_s: float = setting(
        0.0, "s", "How long RViz shows a marker; 0 keeps it until the next.", ge=0.0, le=86_400.0
    )
    detections: bool = setting(True, "switch", "Publish vision_msgs/Detection3DArray.")
    overlay: bool = setting(True, "switch", "Publish the image with outlines, axes and names.")
    points: bool = setting(False, "switch", "Publish points sampled on the meshes, in the frames of the objects.")
    clouds: bool = setting(
        False, "switch", "Publish the same points of all objects of an image as one message in the camera's frame."
    )
    point_count: int = setting(2048, "count", "Points of one object.", ge=1, le=1_000_000)
    collision_objects: bool = setting(False, "switch", "Send the meshes to MoveIt's planning scene.")


class RosConfig(Settings):
    """The lifecycle node and `cupid bag` (`cupid_ros`)."""

    mode: Literal["continuous", "on_request"] = setting(
        "continuous", "choice", "Reconstruct each new object once by itself, or only what the action asks for."
    )
    checkpoint: str = setting(
        "tabletop", "name", "Checkpoint: a name, a folder in the published layout, or a hub id."
    )
    device: str = setting(
        "auto", "name", "Where the networks run: cpu, cuda, cuda:1, ...; auto takes cuda if it is there."
    )
    preset: PresetName = setting(
        "normal", "choice", "fast: one hypothesis; normal: one, fitted to depth and mask; best: four, fitted."
    )
    seed: int = setting(0, "count", "The same image and seed give the same objects.", ge=0, le=2**31 - 1)
    update_poses: bool = setting(
        False, "switch", "Continuous: reconstruct known objects again when they are detected again."
    )
    topics: RosTopicsConfig = RosTopicsConfig()
    worker: RosWorkerConfig = RosWorkerConfig()
    input: RosInputConfig = RosInputConfig()
    tracking: RosTrackingConfig = RosTrackingConfig()
    output: RosOutputConfig = RosOutputConfig()
