"""The node, configured and activated; with rviz:=true also RViz.

ros2 launch cupid_ros recon.launch.py image:=/camera/color/image_raw camera_info:=/camera/color/camera_info
"""

import os
from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    OpaqueFunction,
    RegisterEventHandler,
    SetEnvironmentVariable,
)
from launch.conditions import IfCondition
from launch.events import matches_action
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode, Node
from launch_ros.event_handlers import OnStateTransition
from launch_ros.events.lifecycle import ChangeState
from launch_ros.parameter_descriptions import ParameterValue
from lifecycle_msgs.msg import Transition

CONFIG = Path(get_package_share_directory("cupid_ros")) / "config"
# Argument -> parameter; an empty argument leaves to the file what it says.
PARAMETERS = {
    "image": "ros.topics.image",
    "camera_info": "ros.topics.camera_info",
    "depth": "ros.topics.depth",
    "detections": "ros.topics.detections",
    "mode": "ros.mode",
}
# Room for raw images in the default middleware; the camera needs it too. A profile of the user is left alone.
DDS_PROFILES = "FASTRTPS_DEFAULT_PROFILES_FILE"
ARGUMENTS = {
    "config": (str(CONFIG / "recon.yaml"), "Parameter file."),
    "namespace": ("", "Namespace of the node and of its relative topics."),
    "image": ("", "Topic of the color image; empty takes the file's, as below."),
    "camera_info": ("", "Topic of its CameraInfo; none for none."),
    "depth": ("", "Topic of the aligned depth image; none for none."),
    "detections": ("", "Topic of the detections; none for none."),
    "mode": ("", "continuous or on_request."),
    "rviz": ("false", "Start RViz too."),
}


def generate_launch_description() -> LaunchDescription:
    """What `ros2 launch` runs."""
    declared = [
        DeclareLaunchArgument(name, default_value=default, description=description)
        for name, (default, description) in ARGUMENTS.items()
    ]
    rviz = Node(
        package="rviz2",
        executable="rviz2",
        arguments=["-d", str(CONFIG / "recon.rviz")],
        condition=IfCondition(LaunchConfiguration("rviz")),
    )
    profiles = os.environ.get(DDS_PROFILES, str(CONFIG / "fastdds.xml"))
    environment = SetEnvironmentVariable(DDS_PROFILES, profiles)
    return LaunchDescription([*declared, environment, OpaqueFunction(function=recon_node), rviz])


def recon_node(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """The node with the parameters that were given, and what configures and activates it once."""
    given = {name: LaunchConfiguration(name).perform(context) for name in ARGUMENTS}
    # As text: launch would read a bare - as a YAML list.
    overrides = {
        parameter: ParameterValue(given[name], value_type=str)
        for name, parameter in PARAMETERS.items()
        if given[name]
    }
    node = LifecycleNode(
        package="cupid_ros",
        executable="recon_node",
        name="recon_node",
        namespace=given["namespace"],
        parameters=[given["config"], overrides],
        output="screen",
    )
    # Once: somebody who configures it again later activates it when he wants to.
    activate = RegisterEventHandler(
        OnStateTransition(
            target_lifecycle_node=node,
            start_state="configuring",
            goal_state="inactive",
            entities=[_change(node, Transition.TRANSITION_ACTIVATE)],
            handle_once=True,
        )
    )
    return [activate, node, _change(node, Transition.TRANSITION_CONFIGURE)]


def _change(node: LifecycleNode, transition: int) -> EmitEvent:
    return EmitEvent(event=ChangeState(lifecycle_node_matcher=matches_action(node), transition_id=transition))
