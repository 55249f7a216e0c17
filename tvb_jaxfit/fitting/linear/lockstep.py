"""Functions that run side by side, one evaluation of each at a time."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue

_DONE, _END = object(), object()


class Ended(Exception):
    """Raised to end functions that run in lockstep."""


def in_lockstep(functions: list[Callable], evaluate_all: Callable) -> None:
    """Run functions side by side. Each waits for an evaluation; then all that were asked for are made at once.

    Parameters
    ----------
    functions : list of callable
        Functions of ``evaluate``. Each runs in a thread of its own.
    evaluate_all : callable
        List of pairs (place of a function in ``functions``, argument of its ``evaluate``) to the list of results.
        Called in the present thread, so that the order of calls does not depend on the speed of a thread, and that
        JAX's settings are those of the caller. If it raises, all functions end by `Ended`, and so does this function,
        silently, if it raises `Ended`.

    Examples
    --------
    >>> from tvb_jaxfit.fitting.linear.lockstep import in_lockstep
    >>> found = []
    >>> def square_twice(start):
    ...     return lambda evaluate: found.append(evaluate(evaluate(start)))
    >>> in_lockstep([square_twice(2), square_twice(3)], lambda asked: [x**2 for _, x in asked])
    >>> sorted(found)
    [16, 81]
    """
    partners = [_Partner() for _ in functions]
    with ThreadPoolExecutor(max(len(functions), 1)) as pool:
        futures = [pool.submit(partner.run, each) for partner, each in zip(partners, functions, strict=True)]
        try:
            while asked := [(place, each.asked()) for place, each in enumerate(partners) if not each.is_done]:
                asked = [(place, argument) for place, argument in asked if argument is not _DONE]
                for (place, _), result in zip(asked, evaluate_all(asked) if asked else [], strict=True):
                    partners[place].answers.put(result)
        except Ended:
            pass
        finally:
            for partner in partners:
                partner.answers.put(_END)
    for future in futures:
        if not isinstance(future.exception(), Ended | None):
            raise future.exception()


class _Partner:
    """One function: its questions, and the answers."""

    def __init__(self):
        self.questions, self.answers, self.is_done = SimpleQueue(), SimpleQueue(), False

    def run(self, function):
        try:
            function(self._evaluate)
        finally:
            self.questions.put(_DONE)

    def _evaluate(self, argument):
        self.questions.put(argument)
        answer = self.answers.get()
        if answer is _END:
            raise Ended
        return answer

    def asked(self):
        """Next question, or _DONE."""
        argument = self.questions.get()
        self.is_done = argument is _DONE
        return argument
