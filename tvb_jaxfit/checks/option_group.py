"""Groups of options: frozen dataclasses that check their values and show what differs from the defaults."""

import dataclasses

from .options import check


class OptionGroup:
    """Base of a frozen dataclass of options; its repr shows the options that differ from their defaults."""

    def __repr__(self):
        changed = (f"{name}={value!r}" for name, value, is_default in self.entries() if not is_default)
        return f"{type(self).__name__}({', '.join(changed)})"

    def entries(self):
        """Name and value of each option, and whether the value is the default.

        Yields
        ------
        (str, object, bool)
        """
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            is_plain = value is None or isinstance(value, (bool, int, float, str))
            yield field.name, value, is_plain and value == field.default

    def _check(self, **rules):
        """Check all options together; numbers and truth values become Python's own."""
        check(type(self).__name__, **{name: (getattr(self, name), rule) for name, rule in rules.items()})
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(field.default, (bool, int)) and value is not None:
                object.__setattr__(self, field.name, type(field.default)(value))
