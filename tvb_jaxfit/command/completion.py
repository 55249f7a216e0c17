"""Completion of the command line in a shell, by argcomplete, if that is installed."""

import argparse
import os

# Set by the shell when it asks for completions.
_REQUEST = "_ARGCOMPLETE"


def with_completion(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Answer a shell that asks for completions, and exit; otherwise return the parser without loading anything.

    Parameters
    ----------
    parser : argparse.ArgumentParser

    Returns
    -------
    argparse.ArgumentParser

    Notes
    -----
    In bash and zsh: ``eval "$(register-python-argcomplete tvb-jaxfit)"``. Commands, options and choices are completed,
    and files for options that take a file.
    """
    if _REQUEST in os.environ:
        try:
            import argcomplete
        except ImportError:
            return parser
        argcomplete.autocomplete(parser)
    return parser
