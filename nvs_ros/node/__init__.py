"""The ROS side: lifecycle node, message conversion and validation, frame synchronizer, health."""
