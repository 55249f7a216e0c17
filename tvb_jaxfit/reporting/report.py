"""A fit as one page: figures, tables and text, for a screen and for paper."""

from pathlib import Path

import numpy as np

from ..loss import fc_corr, rmse
from ..persistence.atomic import atomic_write
from ..plot import figures as plot
from .headline import headline
from .html import figure, folded, key_value_table, page, table, tag
from .summary import COMMAND, VALUES

# Entries of a matrix that are listed one by one.
_LISTED = 10_000
# Panels of regional values side by side.
_COLUMNS = 3
# Ends of a page's name, by which a browser knows it.
_ENDS = (".html", ".htm")


def refuse_unusable_path(path):
    """Raise ValueError where a path is not one that a page can have.

    Parameters
    ----------
    path : path-like
    """
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"report: {path} is a folder. Name a file in it: {path / 'report.html'}.")
    if path.suffix.lower() not in _ENDS:
        other = path.with_suffix(".html") if path.name else "report.html"
        how = " and print from a browser (Ctrl+P, Save as PDF): it is laid out for A4 paper"
        how = how if path.suffix.lower() in (".pdf", ".ps") else ""
        raise ValueError(
            f"report: {path} ends in {path.suffix or 'nothing'}; a report is an HTML page. Give {other}{how}."
        )
    above = next(folder for folder in path.absolute().parents if folder.exists())
    if not above.is_dir():
        raise ValueError(f"report: {above} is a file, and no folder for {path}. Name another place.")


def refuse_existing(path, force):
    """Raise FileExistsError where a file would be overwritten that may not be.

    Parameters
    ----------
    path : path-like
    force : bool
    """
    if not force and Path(path).exists():
        raise FileExistsError(f"report: {path} is there already. Name another file, or give force=True to replace it.")


def write_report(path, account, force=False):
    """Put the report of a fit into a file, which is there whole or not at all.

    Parameters
    ----------
    path : path-like
    account : FitSummary
    force : bool, optional
        Whether a file of that name is replaced.

    Returns
    -------
    Path

    Raises
    ------
    FileExistsError
        Where there is a file of that name, without ``force``.
    ValueError
        Where the name does not end as a page's, or is a folder's.
    OSError
        As of any writing.
    """
    refuse_unusable_path(path)
    refuse_existing(path, force)
    text = report(account)
    refuse_existing(path, force)
    with atomic_write(path) as file:
        file.write(text.encode())
    return Path(path)


def report(account):
    """The page of a fit, as HTML.

    Parameters
    ----------
    account : FitSummary

    Returns
    -------
    str
    """
    content = [tag("p", f"Fit to functional connectivity (FC), {account.created}", class_="quiet")]
    for stage, history in account.stages.items():
        if history.diverged:
            content.append(tag("p", tag("strong", f"{stage}: the fit diverged. "), history.diverged))
    content += _headline(account)
    for title, section in _SECTIONS.items():
        content += [tag("h2", title), *section(account)]
    return page(f"Fit of {account.description}", *content)


def _drawn(n, size, draw, caption):
    """Figure of n panels side by side, each of a size [inch], drawn into their axes."""
    # No pyplot: it would keep the figure, and may want a screen.
    from matplotlib.figure import Figure

    n_row = -(-n // _COLUMNS) if n > _COLUMNS + 1 else 1
    n_column = _COLUMNS if n_row > 1 else n
    drawn = Figure(figsize=(n_column * size[0], n_row * size[1]), layout="constrained")
    axes = drawn.subplots(n_row, n_column, squeeze=False).ravel()
    for ax in axes[n:]:
        ax.remove()
    draw(axes[:n])
    return figure(drawn, caption)


def _headline(account):
    first = headline(account)
    yield tag("div", tag("strong", first.value), tag("p", first.meaning), class_="headline")
    if first.others:
        yield tag("p", "All correlations r of this fit with the empirical FC, off the diagonal, and what each is of:")
        yield table(["r of", "r", "what it is"], first.others)


def _connectivity(account):
    matrices, target = account.matrices, account.matrices["Empirical"]
    others = {title: matrix for title, matrix in matrices.items() if title != "Empirical"}
    rows = [(title, *_scores(fc, target)) for title, fc in others.items()]
    yield table(["FC", "r (off-diagonal)", "RMSE"], rows)
    for title, why in account.missing.items():
        yield tag("p", f"{title}: no FC. {why}")
    yield tag(
        "p",
        "On the noise of the simulator's own random stream. These are the r of the figures, not that on fresh noise."
        if account.is_noisy
        else "The simulator has no noise.",
        class_="quiet",
    )
    n_missing = int(np.isnan(target).sum()) // 2
    if n_missing:
        n_pair = len(target) * (len(target) - 1) // 2
        told = f"{n_missing} of {n_pair} pairs of regions have no empirical FC; they are left out of loss, r and RMSE."
        yield tag("p", told)
    size = (3.0, 3.3)
    caption = f"FC of {len(account.labels)} regions, the diagonal left out; r is the correlation with the empirical FC."
    caption += " Pairs without data are blank." if n_missing else ""
    caption += _by_hemisphere(account)

    def draw(axes):
        return plot.functional_connectivity(matrices, axes=axes, hemispheres=account.hemispheres)

    yield _drawn(len(matrices), size, draw, caption)
    if "Fitted" in matrices:
        caption = "Fitted against empirical FC, a point for each pair of regions; dashed, where both are equal."
        yield _drawn(1, (4.6, 4.6), lambda axes: plot.fc_scatter(matrices["Fitted"], target, ax=axes[0]), caption)


def _by_hemisphere(account):
    """What a caption says of hemispheres."""
    right = account.hemispheres
    if right is None or np.all(right == right[0]):
        return ""
    order = "" if np.sum(np.diff(right.astype(int)) != 0) == 1 else ", by which the regions are ordered"
    return f" Lines part the hemispheres{order}."


def _scores(fc, target):
    return float(fc_corr(fc, target, missing="ignore")), float(rmse(fc, target, missing="ignore"))


def _course(account):
    for stage, history in account.stages.items():
        ended = f"{stage}: {max(0, history.loss.size - 1)} steps, the best of them {history.best_step}, in "
        yield tag("p", f"{ended}{history.wall_time:.1f} s; {history.stop_reason}.")
        if not history.loss.size:
            yield tag("p", "There is nothing to draw: the first evaluation was not finite, or none was done.")
            continue
        held_out = ", and on noise that no step has seen (validation)" if history.validation.steps.size else ""
        caption = (
            f"{stage}: loss and correlation with the empirical FC over the steps{held_out}; dotted, the best step."
        )
        n = 1 + ("r" in history.aux)
        yield _drawn(n, (4.6, 3.2), lambda axes, history=history: plot.history(history, axes=axes), caption)


def _parameters(account):
    heads = ["parameter", "unit", "", "minimum", "median", "maximum", "values", "kept", "TVB's domain"]
    rows = []
    for each in account.parameters:
        for name, numbers in zip(("initial", "fitted"), each.numbers(), strict=True):
            spread = [f"{of(numbers):.6g}" for of in (np.min, np.median, np.max)]
            spread = spread if numbers.size > 1 else ["", spread[0], ""]
            first = name == "initial"
            told = [each.kind, each.domain] if first else ["", ""]
            rows.append([*([each.path, each.unit] if first else ["", ""]), name, *spread, str(numbers.size), *told])
    yield table(heads, rows, keys=3)
    n_node = len(account.labels)
    regional = [each for each in account.parameters if each.fitted.shape == (n_node,)]
    if regional:
        yield _drawn(
            len(regional),
            (4.6, 3.6),
            lambda axes: [_on_strength(each, account, ax) for each, ax in zip(regional, axes, strict=True)],
            "Fitted values of the regions against the strength of their incoming connections"
            + ("; dashed, the one value that all began with." if any(map(_began_alike, regional)) else "."),
        )
        yield folded("All fitted values, by region", _by_region(regional, account))
    for each in account.parameters:
        if each not in regional and each.fitted.size > 1:
            yield folded(f"All fitted values of {each.path}", *_listed(each, account.labels))


def _began_alike(each):
    return np.ptp(each.initial) == 0.0


def _on_strength(each, account, ax):
    reference = float(each.initial[0]) if _began_alike(each) else None
    name = f"{each.path} {each.unit}".strip()
    return plot.regional(each.fitted, account.weights, reference, name, ax, account.hemispheres)


def _by_region(regional, account):
    """Table of regional parameters."""
    keys = {"region": account.labels}
    if account.hemispheres is not None:
        keys["side"] = np.where(account.hemispheres, "right", "left")
    heads = [*keys, *(f"{each.path} {name}" for each in regional for name in ("initial", "fitted"))]
    columns = [values for each in regional for values in (each.initial, each.fitted)]
    return table(heads, zip(*keys.values(), *columns, strict=True), keys=len(keys))


def _listed(each, labels):
    """Table of a parameter's entries, by region where it has one for each pair of them."""
    free = np.ones(each.fitted.shape, bool) if each.mask is None else each.mask
    if free.sum() > _LISTED:
        return [tag("p", f"They are {free.sum()}, too many to be listed; they are in the result.")]
    of_pairs = each.fitted.shape == (len(labels),) * 2
    rows = []
    for index in np.argwhere(free):
        place = [labels[i] for i in index] if of_pairs else [", ".join(str(i) for i in index)]
        rows.append([*place, each.initial[tuple(index)], each.fitted[tuple(index)]])
    keys = ["target", "source"] if of_pairs else ["index"]
    return [table([*keys, "initial", "fitted"], rows, keys=len(keys))]


def _evaluation(account):
    found = account.evaluation
    if found is None:
        if not account.is_noisy:
            yield tag("p", "The simulator is deterministic: there is no fresh noise to evaluate the fit on.")
            return
        how = tag("code", "--evaluate 8 --tvb" if COMMAND in account.code else "result.evaluate(n_seeds=8, n_tvb=1)")
        told = "The fit has not been judged on noise that it never saw: "
        yield tag("p", told, how, " has that done, and a later report shows it.")
        return
    caption = f"Runs of {found.length / 1000.0:g} s from the best state, on noise that the fit never saw: "
    yield tag("p", f"{caption}{found.n_samples} samples, after {found.skip_t} left out. Mean ± sd over noise.")
    yield table(["", "r (off-diagonal)", "RMSE"], found.table())
    for remark in found.remarks():
        yield tag("p", remark)
    if found.rows:
        yield folded("Every run", table(list(found.rows[0]), [row.values() for row in found.rows], keys=3))


def _connectome(account):
    size, matrices = (4.2, 3.6), (account.weights, account.lengths)
    caption = "Connectome: weights[target, source], three decades of them where none is negative, and tract lengths."
    caption += _by_hemisphere(account)
    if not np.any(account.weights):
        yield tag("p", "There are no connections.")
        return

    def draw(axes):
        return plot.structural_connectivity(*matrices, axes=axes, hemispheres=account.hemispheres)

    yield _drawn(2, size, draw, caption)


def _certificate(account):
    of = account.certificate
    if of is None:
        how = "--certify" if COMMAND in account.code else 'result.report("report.html", certificate=True)'
        told = " runs TVB and its translation on the same draws, and shows how far they are apart."
        yield tag("p", "Not made: ", tag("code", how), told)
        return
    if of.diverged:
        yield tag("p", tag("strong", "TVB's own run does not stay finite: "), f"{'; '.join(of.diverged)}.")
    n = (
        len(of.float64_history)
        + len(of.float32_history)
        + sum(not isinstance(d, str) for d in of.negative_controls.values())
    )
    caption = (
        f"TVB against its translation, {of.n_steps} steps on the same draws: differences have to lie left of the "
        "dashed lines, those of translations that are wrong on purpose (controls) right of them."
    )
    yield _drawn(1, (7.2, 1.2 + 0.45 * n), lambda axes: plot.certificate(of, axes[0]), caption)
    yield folded("In numbers", tag("pre", of, class_="columns"))


def _made(account):
    for subject, told in account.details.items():
        yield tag("h3", subject)
        yield key_value_table(told)
    for title, code in account.code.items():
        digits = " (all digits; tables have 6)" if title == VALUES else ""
        yield folded(f"{title}, as code{digits}", tag("pre", code))


_SECTIONS = {
    "Functional connectivity": _connectivity,
    "Parameters": _parameters,
    "On fresh noise": _evaluation,
    "Course of the fit": _course,
    "Connectome": _connectome,
    "Certificate": _certificate,
    "How it was made": _made,
}
