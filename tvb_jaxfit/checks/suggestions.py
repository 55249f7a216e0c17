"""Names that were probably meant by those that there are not."""

import difflib


def nearest(name, names, match_last_part=False):
    """Name that was probably meant by one that there is not; None where none is near.

    Parameters
    ----------
    name : str
    names : iterable of str
        Names that there are.
    match_last_part : bool, optional
        Whether names are paths, such as "model.w", which the last part alone may stand for.

    Returns
    -------
    str or None

    Examples
    --------
    >>> from tvb_jaxfit.checks.suggestions import nearest
    >>> paths = ["model.w", "model.I_o", "coupling.a"]
    >>> nearest("model.W", paths), nearest("a", paths, match_last_part=True), nearest("speed", paths)
    ('model.w', 'coupling.a', None)
    """
    folded = {}
    for each in names:
        folded.setdefault(each.casefold(), each)
    asked = name.casefold()
    same_end = [each for each in folded if match_last_part and each.rpartition(".")[2] == asked.rpartition(".")[2]]
    similar = difflib.get_close_matches(asked, folded, 1)
    found = [asked] if asked in folded else same_end or similar
    return folded[found[0]] if found else None


def did_you_mean(name, names, match_last_part=False):
    """End of a message that names the `nearest` name; empty where none is near."""
    near = nearest(name, names, match_last_part)
    return "" if near is None else f" Did you mean {near!r}?"
