"""Wire formats of message packages that are not part of a ROS base installation.

They are the same in Humble and Jazzy; messages of older distributions are refused where they are read.

Source: the interfaces of vision_msgs 4, moveit_msgs 2 and object_recognition_msgs 2.
"""

from __future__ import annotations

FOREIGN_DEFINITIONS: dict[str, str] = {
    "vision_msgs/msg/Point2D": """
        float64 x
        float64 y
    """,
    "vision_msgs/msg/Pose2D": """
        vision_msgs/Point2D position
        float64 theta
    """,
    "vision_msgs/msg/BoundingBox2D": """
        vision_msgs/Pose2D center
        float64 size_x
        float64 size_y
    """,
    "vision_msgs/msg/BoundingBox3D": """
        geometry_msgs/Pose center
        geometry_msgs/Vector3 size
    """,
    "vision_msgs/msg/ObjectHypothesis": """
        string class_id
        float64 score
    """,
    "vision_msgs/msg/ObjectHypothesisWithPose": """
        vision_msgs/ObjectHypothesis hypothesis
        geometry_msgs/PoseWithCovariance pose
    """,
    "vision_msgs/msg/Detection2D": """
        std_msgs/Header header
        vision_msgs/ObjectHypothesisWithPose[] results
        vision_msgs/BoundingBox2D bbox
        string id
    """,
    "vision_msgs/msg/Detection2DArray": """
        std_msgs/Header header
        vision_msgs/Detection2D[] detections
    """,
    "vision_msgs/msg/Detection3D": """
        std_msgs/Header header
        vision_msgs/ObjectHypothesisWithPose[] results
        vision_msgs/BoundingBox3D bbox
        string id
    """,
    "vision_msgs/msg/Detection3DArray": """
        std_msgs/Header header
        vision_msgs/Detection3D[] detections
    """,
    "object_recognition_msgs/msg/ObjectType": """
        string key
        string db
    """,
    "moveit_msgs/msg/CollisionObject": """
        std_msgs/Header header
        geometry_msgs/Pose pose
        string id
        object_recognition_msgs/ObjectType type
        shape_msgs/SolidPrimitive[] primitives
        geometry_msgs/Pose[] primitive_poses
        shape_msgs/Mesh[] meshes
        geometry_msgs/Pose[] mesh_poses
        shape_msgs/Plane[] planes
        geometry_msgs/Pose[] plane_poses
        string[] subframe_names
        geometry_msgs/Pose[] subframe_poses
        byte ADD=0
        byte REMOVE=1
        byte APPEND=2
        byte MOVE=3
        byte operation
    """,
}

# Of packages that every ROS installation has, and the wheels of PyPI have not; rosbags knows them.
BASE_DEFINITIONS: dict[str, str] = {
    "tf2_msgs/msg/TFMessage": """
        geometry_msgs/TransformStamped[] transforms
    """,
}
