"""The exception that the command line prints as a single line."""


class UserError(ValueError):
    """An input of the user cannot be used; the message says what was expected and what came."""
