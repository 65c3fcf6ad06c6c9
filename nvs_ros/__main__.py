"""``python -m nvs_ros <command>``."""

import sys

from nvs_ros.cli import main

sys.exit(main())
