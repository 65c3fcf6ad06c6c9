"""Conversion between ROS messages and frames, views and shapes; needs no running ROS graph."""
