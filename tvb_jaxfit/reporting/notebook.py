"""HTML of a fit for a notebook."""

from ..evaluation.scores import format_mean_std
from ..markup import notebook_html, table
from ..parameters import parameters_of
from .parameter_table import error_cells, format_constraint, format_values


def fit_html(result) -> str:
    """Scores, fitted values and stop reason of a fit as HTML.

    Parameters
    ----------
    result : FitResult

    Returns
    -------
    str
    """
    history, best, initial = result.history, result.history.best_step, parameters_of(result.initial)
    scores = []
    if history.loss.size:
        scores.append(("loss", history.loss[0], history.loss[best]))
        if result.r.size:
            scores.append(("r, training", result.r[0], result.r[best]))
    if result.fresh is not None:
        scores.append(("r, noise that the fit never saw", "", format_mean_std(result.fresh.r)))
    if result.evaluation is not None:
        scores.append(("r, fresh noise", "", format_mean_std(result.evaluation.r)))
    heads, values = ["parameter", "initial", "best", "kept"], []
    errors = result.standard_errors
    for path, parameter in parameters_of(result.best).items():
        texts = [format_values(initial[path]), format_values(parameter), format_constraint(parameter)]
        values.append([path, *texts, *([] if errors is None else error_cells(errors, path, parameter))])
    heads += [] if errors is None else ["standard error", "determined"]
    return notebook_html(
        f"FitResult: {result.simulate.description}",
        *([table(["", "initial", "best"], scores)] if scores else []),
        table(heads, values),
        *([f"identifiability: {errors.summary()}"] if errors is not None else []),
        f"{max(0, history.loss.size - 1)} steps, best at {best}, {history.wall_time:.1f} s; {history.stop_reason}",
        *([f"way: {result.way}; {result.why}"] if result.way is not None else []),
    )
