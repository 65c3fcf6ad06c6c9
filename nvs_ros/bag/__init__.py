"""Bags: replay one into the ROS graph, or process one without a graph."""
