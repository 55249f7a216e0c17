"""Completion of the command line in a shell, by argcomplete, where that is installed."""

import os

# The shell sets it where it asks for completions.
_ASKED = "_ARGCOMPLETE"


def completed(parser):
    """Answer a shell that asks for completions, and end; give back the parser otherwise, without loading anything.

    Parameters
    ----------
    parser : argparse.ArgumentParser

    Returns
    -------
    argparse.ArgumentParser

    Notes
    -----
    In bash and zsh: ``eval "$(register-python-argcomplete tvb-jaxfit)"``. Commands, options and choices are completed,
    and files where files are meant.
    """
    if _ASKED in os.environ:
        try:
            import argcomplete
        except ImportError:
            return parser
        argcomplete.autocomplete(parser)
    return parser
