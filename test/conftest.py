"""The environment of every test; it has to stand before rclpy and the messages are imported."""

import os

# Message fields reject values of a wrong type, which is off unless asked for.
os.environ['ROS_PYTHON_CHECK_FIELDS'] = '1'
# No other process hears a test's nodes. One that starts processes sets LOCALHOST for them.
os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'OFF'
# Threads of OpenMP that wait soon sleep: a machine that runs tests is busy, and they would take the
# processor from whatever else is tested on it. Read when torch is loaded, here and in subprocesses.
if not any(name in os.environ for name in ('GOMP_SPINCOUNT', 'OMP_WAIT_POLICY')):
    os.environ['GOMP_SPINCOUNT'] = '1000'
