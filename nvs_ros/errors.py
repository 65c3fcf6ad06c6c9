"""The exceptions that are told apart from a plain ValueError."""


class UserError(ValueError):
    """An input of the user cannot be used; the message says what was expected and what came."""


class OverLimit(ValueError):
    """A message or request asks for more than a limit allows; the message names the parameter."""


WITHOUT_ROS = 'needs ROS 2: source its setup.bash, or use the environment that `make build` makes'
