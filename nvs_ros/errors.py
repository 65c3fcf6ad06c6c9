"""The exception that the command line prints as a single line."""


class UserError(ValueError):
    """An input of the user cannot be used; the message says what was expected and what came."""


WITHOUT_ROS = 'needs ROS 2: source its setup.bash, or use the environment that `make build` makes'
