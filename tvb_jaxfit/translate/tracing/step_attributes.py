"""Attributes that a model's own code sets on the model during a step."""

import numpy as np

from .mutable_array import has_jax_array
from .untranslatable import Untranslatable


class StepAttributes:
    """Attributes that a model's own code has set on the model in the current step, for later calls of the same step.

    Attributes
    ----------
    values : dict
        Attributes set so far.
    """

    def __init__(self):
        self.values, self._read = {}, {}

    def record(self, read, written):
        """Add the attributes that one call has set, and note those that it read before any call had set them."""
        for name, value in read.items():
            if name not in self.values:
                self._read.setdefault(name, value)
        self.values |= written

    def refuse_carried_over(self, original):
        """Refuse, at the end of a step, attributes that the next step would read.

        Raises
        ------
        Untranslatable
            If the model holds a state outside of its state variables.
        """
        for name in sorted(set(self._read) & set(self.values)):
            now, before = self.values[name], self._read[name]
            if now is not before and (has_jax_array((now, before)) or not np.array_equal(now, before)):
                raise Untranslatable(
                    f"{type(original).__name__}.{name} is set in one step and read in the next, so that it is a state "
                    "outside of the state variables; make it one of them"
                )
