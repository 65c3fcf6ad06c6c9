"""What ROS messages mean, without a graph: frames from them, views and shapes as messages."""
