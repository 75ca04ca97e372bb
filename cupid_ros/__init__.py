"""The ROS 2 layer: our modules, and the classes that rosidl generates beside them, are one package."""

__path__ = __import__("pkgutil").extend_path(__path__, __name__)
