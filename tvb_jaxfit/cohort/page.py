"""Page on a cohort: scores of all fits, the worst first, fitted values by region, failures."""

import numpy as np

from .. import plot
from ..markup import table, tag
from ..reporting.html import collapsible, page, panels_html
from .rows import share_determined

# Columns of the table of scores, with their headings.
_COLUMNS = {"r": "r", "r_training": "r in training", "structure": "structure", "group": "group"}
_COLUMNS |= {"reliability": "reliability", "seconds": "seconds"}
_MEANINGS = {
    "r": "fitted simulator on noise that the fit never saw, against recordings that it did not use where there are any",
    "r in training": "at the best step of the fit",
    "structure": "structural weights, without any model",
    "group": "mean FC of the other subjects, without any model",
    "reliability": "recording that was fitted, against those that were not",
}
# Largest number of rows that are not folded.
_MAX_OPEN = 40


def page_html(cohort) -> str:
    """HTML page on a cohort.

    Parameters
    ----------
    cohort : Cohort

    Returns
    -------
    str
    """
    names = [name for name, _ in cohort.entries]
    done = {name: row for name, row in zip(names, cohort.score_rows, strict=True) if row["status"] == "done"}
    content = [*_headline(cohort, done.values())]
    if done:
        content += [tag("h2", "Scores"), *_scores(done), tag("h2", "Fitted values"), *_values(cohort)]
    if cohort.has_standard_errors:
        content += [tag("h2", "Determined by FC"), *_determined(cohort, done.values())]
    repeated = _reliability(cohort)
    if repeated:
        content += [tag("h2", "Reliability of the fitted values"), *repeated]
    if cohort.failures or cohort.lost:
        content += [tag("h2", "Fits without a result"), *_failures(cohort)]
    return page(f"Cohort of {len({row['participant_id'] for row in cohort.score_rows})} subjects", *content)


def _headline(cohort, rows):
    n, n_failed, n_lost = len(cohort.entries), len(cohort.failures), len(cohort.lost)
    values = _column(rows, "r")
    if values.size:
        text = f"r {np.median(values):.3f}"
        meaning = f"median over {values.size} fits, on fresh noise ({values.min():.3f} to {values.max():.3f})"
        others = [
            f"{name} {np.median(found):.3f}"
            for name in ("structure", "group", "reliability")
            if (found := _column(rows, name)).size
        ]
        meaning += f"; without a model: {', '.join(others)}" if others else ""
        yield tag("div", tag("strong", text), tag("p", meaning), class_="headline")
    missing = n - cohort.n_done - n_failed - n_lost
    parts = [f"{cohort.n_done} of {n} fits done", f"{n_failed} failed", f"{n_lost} not completed", f"{missing} missing"]
    yield tag("p", ", ".join(part for part in parts if not part.startswith("0 ")) + ".")


def _scores(done):
    """Figure and table of the scores of the fits that are done, by the names of their folders."""
    caption = "r of each fit with the empirical FC, the worst first, beside what needs no model."
    yield panels_html(1, (8.6, 3.8), lambda axes: plot.cohort_scores(list(done.values()), ax=axes[0]), caption)
    yield table(["column", "r of"], _MEANINGS.items())
    worst = sorted(done.items(), key=lambda item: np.inf if item[1].get("r") is None else item[1]["r"])
    columns = [name for name in _COLUMNS if any(row.get(name) is not None for row in done.values())]
    heads = ["fit", *(_COLUMNS[name] for name in columns)]
    lines = [[fit, *(_cell(row.get(name)) for name in columns)] for fit, row in worst]
    yield tag("p", "The worst first. Each fit has a folder of this name.")
    yield table(heads, lines[:_MAX_OPEN])
    if lines[_MAX_OPEN:]:
        yield collapsible(f"{len(lines) - _MAX_OPEN} others", table(heads, lines[_MAX_OPEN:]))


def _drawable(cohort):
    """Values of the parameters that can be drawn, of shape (n_fit, n), by path; and the reasons why others cannot."""
    found, problems = {}, []
    for path in dict.fromkeys(row["path"] for row in cohort.parameter_rows()):
        try:
            values = cohort.values(path)
        except (KeyError, ValueError) as error:
            problems.append(str(error))
            continue
        if values[0].size == 1 or values.ndim == 2:
            found[path] = values.reshape(len(values), -1)
    return found, problems


def _values(cohort):
    drawable, problems = _drawable(cohort)
    shares = _shares(cohort, drawable)
    yield from (tag("p", problem) for problem in problems)
    if drawable:

        def draw(axes):
            for ax, (path, values) in zip(axes, drawable.items(), strict=True):
                labels = cohort.places(cohort.done[0], path)
                plot.cohort_values(values, path, labels, ax=ax, determined=shares.get(path))

        caption = "Fitted values over all fits: by region, mean and standard deviation; of one value, its distribution."
        caption += " Regions that FC determines in less than half of the fits are faint." if shares else ""
        yield panels_html(len(drawable), (4.4, 3.2), draw, caption)
    rows = [(path, *_summary(cohort.values(path))) for path in drawable]
    yield table(["parameter", "mean", "sd over fits", "smallest", "largest"], rows)


def _shares(cohort, paths):
    """Share of the fits in which FC determines each value of a parameter, by path, as far as it is known."""
    shares = {path: share_determined(cohort.determined(path)).ravel() for path in paths}
    return {path: each for path, each in shares.items() if np.isfinite(each).any()}


def _determined(cohort, rows):
    """Number of directions that FC determines, and the values that it determines, by region."""
    counts = np.array([row["n_determined"] for row in rows if row.get("n_determined") is not None])
    if counts.size:
        found = f"{np.median(counts):g} (median over {counts.size} fits, {counts.min()} to {counts.max()})"
        more = "It says more about them than a uniform prior between the bounds"
        yield tag("p", f"Directions of the fitted values that FC determines: {found}. {more}.")
    if counts.size < len(rows):
        yield tag("p", f"Fits without standard errors, for reasons in their logs: {len(rows) - counts.size}.")
    shares = _shares(cohort, _drawable(cohort)[0])
    regional = {path: each for path, each in shares.items() if each.size > 1}
    if regional:

        def draw(axes):
            for ax, (path, each) in zip(axes, regional.items(), strict=True):
                plot.cohort_determined(each, path, cohort.places(cohort.done[0], path), ax=ax)

        caption = "Share of the fits in which FC determines the value of each region."
        yield panels_html(len(regional), (4.4, 3.2), draw, caption)
    rows = []
    for path, each in shares.items():
        errors = cohort.standard_errors(path)
        rows.append((path, float(np.nanmedian(errors)), float(np.nanmean(each)), each.size))
    yield table(["parameter", "median standard error", "share determined", "values"], rows)


def _summary(values):
    spread = np.mean(np.std(values, axis=0, ddof=1)) if len(values) > 1 else np.nan
    return float(values.mean()), float(spread), float(values.min()), float(values.max())


def _reliability(cohort):
    found = []
    for over, what in (("session_id", "recordings"), ("seed", "seeds")):
        try:
            frame = cohort.reliability(over)
        except ValueError:
            continue
        rows = []
        for path, group in frame.groupby("path", sort=False):
            icc = group["icc"].to_numpy()
            finite = icc[np.isfinite(icc)]
            if finite.size:
                rows.append((path, float(np.median(finite)), float(finite.min()), float(finite.max()), finite.size))
        n_subjects, n = int(frame["n_subjects"].iloc[0]), int(frame["n_repetitions"].iloc[0])
        found.append(tag("p", f"Intraclass correlation ICC(2,1) of {n_subjects} subjects over {n} {what}:"))
        found.append(table(["parameter", "median", "smallest", "largest", "values"], rows))
    return found


def _failures(cohort):
    if cohort.lost:
        yield table(["fit", "reason"], cohort.lost.items())
    for name, error in cohort.failures.items():
        yield collapsible(f"{name}: {error.strip().splitlines()[-1]}", tag("pre", error))


def _column(rows, name):
    values = [row.get(name) for row in rows]
    return np.array([each for each in values if isinstance(each, float) and np.isfinite(each)])


def _cell(value):
    return "" if value is None else f"{value:.3f}" if isinstance(value, float) else value
