"""The environment of every test; it has to stand before rclpy and the messages are imported."""

import os

# Message fields reject values of a wrong type, which is off unless asked for.
os.environ['ROS_PYTHON_CHECK_FIELDS'] = '1'
# No other process hears a test's nodes. One that starts processes sets LOCALHOST for them.
os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'OFF'
