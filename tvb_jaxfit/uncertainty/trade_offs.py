"""Trade-offs between fitted values, in words."""

from itertools import combinations

import numpy as np

# Correlation from which two values trade off, part of the prior's standard deviation up to which a combination is well
# determined, and smallest part of a value in a combination, relative to the largest, that is named.
_STRONG, _KNOWN, _NAMED = 0.5, 0.1, 0.1


def trade_offs(identifiability, n: int) -> list[str]:
    """Sentences on the least determined combination and the strongest correlations of an `Identifiability`.

    Parameters
    ----------
    identifiability : Identifiability
    n : int
        Maximum number of correlations between regions.

    Returns
    -------
    list of str
    """
    covariance, groups = identifiability.covariance, _groups(identifiability.free)
    averages = np.zeros((len(groups), len(covariance)))
    for row, (_, members) in zip(averages, groups, strict=True):
        row[members] = len(members) ** -0.5
    names = [name for name, _ in groups]
    of_groups = averages @ covariance @ averages.T
    sentences = _least_determined(identifiability.free, groups, of_groups)
    std = np.sqrt(np.diagonal(of_groups))
    for first, second in combinations(range(len(groups)), 2):
        r = of_groups[first, second] / (std[first] * std[second])
        if abs(r) > _STRONG and len(groups[first][1]) + len(groups[second][1]) > 2:
            sentences.append(f"{names[first]} and {names[second]}: correlation {r:+.2f}")
    return sentences + _strongest(identifiability, n)


def _groups(free):
    """(name, indices) of single values, of coefficients, and of the mean of several values."""
    groups = []
    for path, of_path in free.slices.items():
        members = np.arange(of_path.start, of_path.stop)
        if members.size == 1 or hasattr(free.parameters[path], "coefficients"):
            groups += [(free.name(index), [index]) for index in members]
        else:
            groups.append((f"mean of {path}", list(members)))
    return groups


def _least_determined(free, groups, covariance):
    """Combination of single values and means that is known least, as its change by one standard error."""
    variances, directions = np.linalg.eigh(covariance)
    known, direction = np.sqrt(variances[-1]), directions[:, -1]
    if len(groups) < 2 or known < _KNOWN:
        return []
    direction = direction * np.sign(direction[np.argmax(np.abs(direction))])
    order = np.argsort(-np.abs(direction))
    changes = []
    for place in order[np.abs(direction[order]) > _NAMED * np.abs(direction[order[0]])]:
        name, members = groups[place]
        change = direction[place] * known * np.mean(free.prior_std[members]) * len(members) ** -0.5
        changes.append(f"{name} {change:+.2g}")
    if len(changes) < 2:
        return [f"least determined: {groups[order[0]][0]}, to {100.0 * known:.0f} % of the prior's standard deviation"]
    return [
        f"least determined: {', '.join(changes)} at the same time (one standard error; {100.0 * known:.0f} % of the "
        "prior's)"
    ]


def _strongest(identifiability, n):
    """Strongest correlations between single values."""
    r = np.triu(identifiability.correlation, 1)
    strongest = np.argsort(-np.abs(r), axis=None)[:n]
    pairs = (np.unravel_index(place, r.shape) for place in strongest)
    name = identifiability.free.name
    return [f"{name(i)} and {name(j)}: correlation {r[i, j]:+.2f}" for i, j in pairs if abs(r[i, j]) > _STRONG]
