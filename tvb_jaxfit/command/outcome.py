"""Outcome of a command: its exit code, and refusals."""

import dis
import traceback
from enum import IntEnum

from ..errors import UnsupportedComponent

# Name of a user's script as a module while it runs.
SCRIPT = "__tvb_jaxfit__"


class ExitCode(IntEnum):
    """Exit codes of a command.

    Members
    -------
    DONE
    FAILED
        The command was carried out, and its result is negative: a fit that diverged, a certificate that did not pass.
    REFUSED
        The command could not be carried out, for reasons that the user can change.
    ERROR
        An unexpected error.
    INTERRUPTED
        Interrupted by Ctrl-C.
    """

    DONE = 0
    FAILED = 1
    REFUSED = 2
    ERROR = 3
    INTERRUPTED = 130


class Refused(Exception):
    """A command that cannot be carried out, for reasons that the user can change.

    Parameters
    ----------
    *reasons : str
    """

    def __init__(self, *reasons):
        self.reasons = reasons
        super().__init__("\n".join(f"  - {reason}" for reason in reasons) if len(reasons) > 1 else reasons[0])

    def __reduce__(self):
        return type(self), self.reasons, vars(self)


def is_refusal(error: Exception) -> bool:
    """True for an error whose message is enough for the user; any other error needs its traceback.

    Parameters
    ----------
    error : Exception

    Returns
    -------
    bool
        True for errors of the operating system and of imports, unless the user's own script raised them; and for errors
        that this package raises by a ``raise`` of its own, unlike those that Python or a library raises within it.
    """
    if isinstance(error, (Refused, UnsupportedComponent)):
        return True
    frames = list(traceback.walk_tb(error.__traceback__))
    if isinstance(error, (OSError, ImportError)):
        return not any(frame.f_globals.get("__name__") == SCRIPT for frame, _ in frames)
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    if last is None or not isinstance(error, (ValueError, TypeError)):
        return False
    is_ours = str(last.tb_frame.f_globals.get("__name__")).startswith(f"{__package__.partition('.')[0]}.")
    return is_ours and last.tb_frame.f_code.co_code[last.tb_lasti] == dis.opmap["RAISE_VARARGS"]
