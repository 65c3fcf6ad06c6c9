"""Frames from photographs on disk, without ROS."""
