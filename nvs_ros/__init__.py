"""Synthesise the sides of an object that the camera does not see."""

__version__ = '0.2.0'
