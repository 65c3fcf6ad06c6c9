"""Rough weather: frames of a robot's camera disturbed in known measure, and what becomes of views,
shapes and the confidence."""
