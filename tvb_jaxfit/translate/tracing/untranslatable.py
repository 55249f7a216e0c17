"""The error of code that cannot be traced."""


class Untranslatable(Exception):
    """A method's code cannot be traced; the message names the line and the remedy."""
