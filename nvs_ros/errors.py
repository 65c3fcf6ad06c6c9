"""The one exception that the command line turns into a single clear line."""


class UserError(ValueError):
    """Something the user gave cannot be used; the message says what was expected and what came."""


WITHOUT_ROS = 'needs ROS 2: source its setup.bash, or use the environment that `make build` makes'
