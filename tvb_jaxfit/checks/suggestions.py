"""Suggestions for misspelt names."""

import difflib
from collections.abc import Iterable


def nearest(name: str, names: Iterable[str], match_last_part: bool = False) -> str | None:
    """Existing name that a misspelt one probably means.

    Parameters
    ----------
    name : str
        A name that does not exist.
    names : iterable of str
        Existing names.
    match_last_part : bool, optional
        The names are paths, such as "model.w", and the last part alone may stand for one.

    Returns
    -------
    str or None
        None if no name is similar.

    Examples
    --------
    >>> from tvb_jaxfit.checks.suggestions import nearest
    >>> paths = ["model.w", "model.I_o", "coupling.a"]
    >>> nearest("model.W", paths), nearest("a", paths, match_last_part=True), nearest("speed", paths)
    ('model.w', 'coupling.a', None)
    """
    by_folded_name = {}
    for existing in names:
        by_folded_name.setdefault(existing.casefold(), existing)
    folded = name.casefold()
    last = folded.rpartition(".")[2]
    same_last_part = [other for other in by_folded_name if match_last_part and other.rpartition(".")[2] == last]
    similar = difflib.get_close_matches(folded, by_folded_name, 1)
    found = [folded] if folded in by_folded_name else same_last_part or similar
    return by_folded_name[found[0]] if found else None


def did_you_mean(name: str, names: Iterable[str], match_last_part: bool = False) -> str:
    """End of a message that suggests the `nearest` name; empty if no name is similar."""
    near = nearest(name, names, match_last_part)
    return "" if near is None else f" Did you mean {near!r}?"
