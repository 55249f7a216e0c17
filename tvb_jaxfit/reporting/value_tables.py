"""Tables of fitted values: their ranges, coefficients of maps, values by region, and entries of matrices."""

import numpy as np

from ..markup import Html, table, tag
from .parameter_table import format_range
from .summary import FitSummary, FittedParameter

# Largest number of entries of a matrix that are listed one by one.
_MAX_LISTED = 10_000


def range_table(parameters: list[FittedParameter]) -> Html:
    """Table of the parameters with the range of their initial and fitted values, and of their standard errors."""
    has_errors = any(parameter.standard_error is not None for parameter in parameters)
    n_head = "values, determined" if has_errors else "values"
    heads = ["parameter", "unit", "", "minimum", "median", "maximum", n_head, "kept", "TVB's domain"]
    rows = []
    for parameter in parameters:
        initial, fitted = parameter.free_values()
        n = str(initial.size)
        first_cells, last_cells = [parameter.path, parameter.unit], [parameter.constraint, parameter.domain]
        rows.append([*first_cells, "initial", *format_range(initial), n, *last_cells])
        rows.append(["", "", "fitted", *format_range(fitted), n, "", ""])
        if parameter.standard_error is not None:
            errors = parameter.standard_error[np.isfinite(parameter.standard_error)]
            cells = [f"{float(cell):.2g}" if cell else "" for cell in format_range(errors)]
            determined = f"{parameter.is_determined.sum()} of {n}"
            rows.append(["", "", "standard error", *cells, determined, "", ""])
    return table(heads, rows, keys=3)


def coefficient_table(summary: FitSummary) -> Html:
    """Table of the coefficients of maps, with their standard errors if they are known."""
    errors = summary.standard_errors
    heads, rows = ["parameter", "coefficient", "initial", "fitted"], []
    for parameter in (each for each in summary.parameters if each.coefficients):
        path, coefficients = parameter.path, parameter.coefficients
        texts = [""] * len(coefficients)
        if errors is not None and path in errors.names:
            texts = _error_texts(errors.standard_error[path], errors.is_determined[path])
        rows += [[path, name, *pair, text] for (name, pair), text in zip(coefficients.items(), texts, strict=True)]
    if errors is None:
        return table(heads, [row[:-1] for row in rows], keys=2)
    return table([*heads, "standard error"], rows, keys=2)


def region_table(regional: list[FittedParameter], summary: FitSummary) -> Html:
    """Table of the values of regional parameters, by region; standard errors in parentheses if not determined."""
    keys = {"region": summary.labels}
    if summary.hemispheres is not None:
        keys["side"] = np.where(summary.hemispheres, "right", "left")
    heads, columns = [*keys], []
    for parameter in regional:
        names, values = ["initial", "fitted"], [parameter.initial, parameter.fitted]
        if parameter.standard_error is not None:
            names.append("standard error")
            values.append(_error_texts(parameter.standard_error, parameter.is_determined))
        heads += [f"{parameter.path} {name}" for name in names]
        columns += values
    return table(heads, zip(*keys.values(), *columns, strict=True), keys=len(keys))


def entry_table(parameter: FittedParameter, labels: list[str]) -> list[Html]:
    """Table of the entries of a parameter: by pair of regions if it has one for each, else by index."""
    free = np.ones(parameter.fitted.shape, bool) if parameter.mask is None else parameter.mask
    if free.sum() > _MAX_LISTED:
        return [tag("p", f"{free.sum()} values are too many to be listed; they are in the result.")]
    is_of_pairs = parameter.fitted.shape == (len(labels),) * 2
    rows = []
    for index in np.argwhere(free):
        place = [labels[i] for i in index] if is_of_pairs else [", ".join(str(i) for i in index)]
        rows.append([*place, parameter.initial[tuple(index)], parameter.fitted[tuple(index)]])
    keys = ["target", "source"] if is_of_pairs else ["index"]
    heads = [*keys, "initial", "fitted"]
    if parameter.standard_error is not None:
        heads.append("standard error")
        texts = _error_texts(parameter.standard_error[free], parameter.is_determined[free])
        rows = [[*row, text] for row, text in zip(rows, texts, strict=True)]
    return [table(heads, rows, keys=len(keys))]


def _error_texts(errors: np.ndarray, determined: np.ndarray) -> list[str]:
    """Standard errors as text, in parentheses where the value is not determined; empty for NaN."""
    pairs = zip(errors, determined, strict=True)
    texts = [f"{error:.2g}" if is_determined else f"({error:.2g})" for error, is_determined in pairs]
    return [text if np.isfinite(error) else "" for text, error in zip(texts, errors, strict=True)]
