"""Options of `fit` by name alone."""

import dataclasses

from tvb_jaxfit.fitting.options import GROUPS

_GROUP_OF = {each.name: group for group, kind in GROUPS.items() for each in dataclasses.fields(kind)}


def grouped(**options):
    """Keyword arguments of `fit`, with the options that belong to a group put into it."""
    arguments, groups = {}, {}
    for name, value in options.items():
        if name in _GROUP_OF:
            groups.setdefault(_GROUP_OF[name], {})[name] = value
        else:
            arguments[name] = value
    return arguments | {group: GROUPS[group](**values) for group, values in groups.items()}
