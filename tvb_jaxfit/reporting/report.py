"""Report of a fit as one page: figures, tables and text, for a screen and for paper."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from .. import plot
from ..loss import fc_corr, rmse
from ..markup import key_value_table, table, tag
from ..persistence.atomic import atomic_write
from ..plot.fits import terms_of
from .headline import headline
from .html import collapsible, page, panels_html
from .identifiability_section import identifiability_section
from .summary import COMMAND, VALUES, FitSummary
from .value_tables import coefficient_table, entry_table, range_table, region_table

_SUFFIXES = (".html", ".htm")


def refuse_unusable_path(path):
    """Raise ValueError if an HTML page cannot be written to a path.

    Parameters
    ----------
    path : path-like
    """
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"report: {path} is a folder. Name a file in it: {path / 'report.html'}.")
    if path.suffix.lower() not in _SUFFIXES:
        other = path.with_suffix(".html") if path.name else "report.html"
        how = " and print from a browser (Ctrl+P, Save as PDF): it is laid out for A4 paper"
        how = how if path.suffix.lower() in (".pdf", ".ps") else ""
        raise ValueError(
            f"report: {path} ends in {path.suffix or 'nothing'}; a report is an HTML page. Give {other}{how}."
        )
    parent = next(folder for folder in path.absolute().parents if folder.exists())
    if not parent.is_dir():
        raise ValueError(f"report: {parent} is a file, and no folder for {path}. Name another place.")


def refuse_existing(what, path, force):
    """Raise FileExistsError if a file exists at a path and may not be replaced.

    Parameters
    ----------
    what : str
        Name of the operation, for the message.
    path : path-like
    force : bool
        Whether the file may be replaced.
    """
    if not force and Path(path).exists():
        raise FileExistsError(f"{what}: {path} is there already. Name another file, or give force=True to replace it.")


def write_report(path, summary: FitSummary, force: bool = False) -> Path:
    """Write the report of a fit into a file, completely or not at all.

    Parameters
    ----------
    path : path-like
    summary : FitSummary
    force : bool, optional
        Replace an existing file.

    Returns
    -------
    Path

    Raises
    ------
    FileExistsError
        If the file exists and ``force`` is not set.
    ValueError
        If the name is a folder's, or does not end in ``.html``.
    OSError
        If the file cannot be written.
    """
    return write_page(path, lambda: report_html(summary), force)


def write_page(path, make_page: Callable[[], str], force: bool = False) -> Path:
    """Write an HTML page into a file, completely or not at all.

    Parameters
    ----------
    path, force
        As of `write_report`.
    make_page : callable
        Makes the text of the page, once the path is known to be usable.

    Returns
    -------
    Path

    Raises
    ------
    FileExistsError, ValueError, OSError
        As of `write_report`.
    """
    refuse_unusable_path(path)
    refuse_existing("report", path, force)
    text = make_page()
    # The file may have appeared in the meantime.
    refuse_existing("report", path, force)
    with atomic_write(path) as file:
        file.write(text.encode())
    return Path(path)


def report_html(summary: FitSummary) -> str:
    """HTML page on a fit.

    Parameters
    ----------
    summary : FitSummary

    Returns
    -------
    str
    """
    content = [tag("p", f"Fit to functional connectivity (FC), {summary.created}", class_="quiet")]
    for stage, history in summary.stages.items():
        if history.diverged:
            content.append(tag("p", tag("strong", f"{stage}: the fit diverged. "), history.diverged))
    content += _headline(summary)
    for title, section in _SECTIONS.items():
        parts = list(section(summary))
        content += [tag("h2", title), *parts] if parts else []
    return page(f"Fit of {summary.description}", *content)


def _headline(summary):
    first = headline(summary)
    yield tag("div", tag("strong", first.value), tag("p", first.meaning), class_="headline")
    if first.others:
        yield tag("p", "All correlations r of this fit with the empirical FC (off-diagonal), and their meaning:")
        yield table(["r of", "r", "meaning"], first.others)


def _connectivity_section(summary):
    matrices, target = summary.matrices, summary.matrices["Empirical"]
    others = {title: matrix for title, matrix in matrices.items() if title != "Empirical"}
    rows = [(title, *_r_and_rmse(fc, target)) for title, fc in others.items()]
    yield table(["FC", "r (off-diagonal)", "RMSE"], rows)
    for title, reason in summary.missing.items():
        yield tag("p", f"{title}: no FC. {reason}")
    noise = "On the noise of the simulator's own random stream."
    noise += " These are the r of the figures, not that on fresh noise."
    yield tag("p", noise if summary.is_noisy else "The simulator has no noise.", class_="quiet")
    n_missing = int(np.isnan(target).sum()) // 2
    if n_missing:
        n_pair = len(target) * (len(target) - 1) // 2
        yield tag(
            "p",
            f"{n_missing} of {n_pair} pairs of regions have no empirical FC; they are left out of loss, r and RMSE.",
        )
    caption = f"FC of {len(summary.labels)} regions, the diagonal left out; r is the correlation with the empirical FC."
    caption += " Pairs without data are blank." if n_missing else ""
    caption += _hemisphere_caption(summary)

    def draw(axes):
        return plot.functional_connectivity(matrices, axes=axes, hemispheres=summary.hemispheres)

    yield panels_html(len(matrices), (3.0, 3.3), draw, caption)
    if "Fitted" in matrices:
        caption = "Fitted against empirical FC, one point per pair of regions; dashed: the identity line."
        yield panels_html(1, (4.6, 4.6), lambda axes: plot.fc_scatter(matrices["Fitted"], target, ax=axes[0]), caption)


def _hemisphere_caption(summary):
    """Sentence of a caption on the lines between hemispheres; empty if there are none."""
    right = summary.hemispheres
    if right is None or np.all(right == right[0]):
        return ""
    is_ordered = np.sum(np.diff(right.astype(int)) != 0) == 1
    return f" Lines separate the hemispheres{'' if is_ordered else ', by which the regions are ordered'}."


def _r_and_rmse(fc, target):
    return float(fc_corr(fc, target, missing="ignore")), float(rmse(fc, target, missing="ignore"))


def _history_section(summary):
    if summary.terms:
        yield tag("p", "Terms of the loss: distances from the data, without their weights.")
        heads = ["term", "target", "weight", "start", "best step", "fresh noise"]
        yield table(heads, summary.terms, keys=2)
    for stage, history in summary.stages.items():
        steps = f"{stage}: {max(0, history.loss.size - 1)} steps, the best of them {history.best_step}, in "
        yield tag("p", f"{steps}{history.wall_time:.1f} s; {history.stop_reason}.")
        if not history.loss.size:
            yield tag("p", "There is nothing to draw: the first evaluation was not finite, or there was none.")
            continue
        validation = ", and on noise that no step has seen (validation)" if history.validation.steps.size else ""
        caption = (
            f"{stage}: loss and correlation with the empirical FC over the steps{validation}; dotted: the best step."
            f"{' Terms of the loss are drawn without their weights.' if terms_of(history) else ''}"
        )
        n = 1 + ("r" in history.aux) + bool(terms_of(history))
        yield panels_html(n, (4.6, 3.2), lambda axes, history=history: plot.history(history, axes=axes), caption)


def _parameter_section(summary):
    yield range_table(summary.parameters)
    if any(parameter.coefficients for parameter in summary.parameters):
        yield tag("p", "Fitted coefficients of the maps, per standard deviation of each:")
        yield coefficient_table(summary)
    for rates in summary.mean_rates:
        yield tag("p", f"Under noise, {rates}.")
    n_node, has_errors = len(summary.labels), summary.standard_errors is not None
    note = "; standard errors in parentheses: FC does not determine the value" if has_errors else ""
    regional = [parameter for parameter in summary.parameters if parameter.fitted.shape == (n_node,)]
    if regional:
        caption = "Fitted values of the regions against the strength of their incoming connections"
        caption += "; dashed: the common initial value." if any(map(_has_one_start, regional)) else "."
        caption += " Values that FC does not determine are faint." if has_errors else ""

        def draw(axes):
            for parameter, ax in zip(regional, axes, strict=True):
                _draw_regional(parameter, summary, ax)

        yield panels_html(len(regional), (4.6, 3.6), draw, caption)
        yield collapsible(f"All fitted values, by region{note}", region_table(regional, summary))
    for parameter in summary.parameters:
        if parameter not in regional and parameter.fitted.size > 1:
            values = entry_table(parameter, summary.labels)
            yield collapsible(f"All fitted values of {parameter.path}{note}", *values)


def _has_one_start(parameter):
    return np.ptp(parameter.initial) == 0.0


def _draw_regional(parameter, summary, ax):
    reference = float(parameter.initial[0]) if _has_one_start(parameter) else None
    name = f"{parameter.path} {parameter.unit}".strip()
    uncertain = {"errors": parameter.standard_error, "determined": parameter.is_determined}
    return plot.regional(parameter.fitted, summary.weights, reference, name, ax, summary.hemispheres, **uncertain)


def _evaluation_section(summary):
    evaluation = summary.evaluation
    if evaluation is None:
        if not summary.is_noisy:
            yield tag("p", "The simulator is deterministic: there is no fresh noise to evaluate the fit on.")
            return
        how = tag("code", "--evaluate 8 --tvb" if COMMAND in summary.code else "result.evaluate(n_seeds=8, n_tvb=1)")
        if summary.fresh is not None:
            yield tag("p", f"Simulations of the best state at the end of the fit: {summary.fresh}.")
        yield tag("p", "An evaluation has more runs, and TVB's own: ", how, " does that, and a later report shows it.")
        return
    caption = f"Runs of {evaluation.length / 1000.0:g} s from the best state, on noise that the fit never saw: "
    yield tag(
        "p", f"{caption}{evaluation.n_samples} samples, after {evaluation.skip_t} left out. Mean ± sd over noise."
    )
    yield table(["", "r (off-diagonal)", "RMSE"], evaluation.table())
    for remark in evaluation.remarks():
        yield tag("p", remark)
    if evaluation.rows:
        rows = [row.values() for row in evaluation.rows]
        yield collapsible("Every run", table(list(evaluation.rows[0]), rows, keys=3))


def _connectome_section(summary):
    matrices = (summary.weights, summary.lengths)
    caption = "Connectome: weights[target, source] over three decades (if none is negative), and tract lengths."
    caption += _hemisphere_caption(summary)
    if not np.any(summary.weights):
        yield tag("p", "There are no connections.")
        return

    def draw(axes):
        return plot.structural_connectivity(*matrices, axes=axes, hemispheres=summary.hemispheres)

    yield panels_html(2, (4.2, 3.6), draw, caption)


def _certificate_section(summary):
    certificate = summary.certificate
    if certificate is None:
        how = "--certify" if COMMAND in summary.code else 'result.report("report.html", certificate=True)'
        yield tag(
            "p",
            "Not made: ",
            tag("code", how),
            " runs TVB and its translation on the same draws, and shows the differences.",
        )
        return
    if certificate.diverged:
        yield tag("p", tag("strong", "TVB's own run does not stay finite: "), f"{'; '.join(certificate.diverged)}.")
    n_controls = sum(not isinstance(control, str) for control in certificate.negative_controls.values())
    n = len(certificate.float64_history) + len(certificate.float32_history) + n_controls
    caption = (
        f"TVB against its translation, {certificate.n_steps} steps on the same draws. Differences must be left of the "
        "dashed lines, and those of deliberately wrong translations (negative controls) right of them."
    )
    yield panels_html(1, (7.2, 1.2 + 0.45 * n), lambda axes: plot.certificate(certificate, axes[0]), caption)
    yield collapsible("In numbers", tag("pre", certificate, class_="columns"))


def _provenance_section(summary):
    for subject, details in summary.details.items():
        yield tag("h3", subject)
        yield key_value_table(details)
    for title, code in summary.code.items():
        digits = " (all digits; tables have 6)" if title == VALUES else ""
        yield collapsible(f"{title}, as code{digits}", tag("pre", code))


_SECTIONS = {
    "Functional connectivity": _connectivity_section,
    "Parameters": _parameter_section,
    "Determined by FC": lambda summary: identifiability_section(summary.standard_errors),
    "On fresh noise": _evaluation_section,
    "Course of the fit": _history_section,
    "Connectome": _connectome_section,
    "Certificate": _certificate_section,
    "How it was made": _provenance_section,
}
