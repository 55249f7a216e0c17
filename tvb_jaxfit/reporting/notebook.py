"""HTML of a fit for a notebook."""

from ..evaluation.scores import mean_and_sd
from ..markup import notebook_html, table
from ..parameters import parameters_of
from .parameter_table import format_constraint, format_values


def fit_html(result):
    """Scores, fitted values and why the fit ended, as HTML.

    Parameters
    ----------
    result : FitResult

    Returns
    -------
    str
    """
    history, best, began = result.history, result.history.best_step, parameters_of(result.initial)
    scores = []
    if history.loss.size:
        scores.append(("loss", history.loss[0], history.loss[best]))
        if result.r.size:
            scores.append(("r, training", result.r[0], result.r[best]))
    if result.evaluation is not None:
        scores.append(("r, fresh noise", "", mean_and_sd(result.evaluation.r)))
    values = [
        (path, format_values(began[path]), format_values(parameter), format_constraint(parameter))
        for path, parameter in parameters_of(result.best).items()
    ]
    return notebook_html(
        f"FitResult: {result.simulate.description}",
        *([table(["", "initial", "best"], scores)] if scores else []),
        table(["parameter", "initial", "best", "kept"], values),
        f"{max(0, history.loss.size - 1)} steps, best at {best}, {history.wall_time:.1f} s; {history.stop_reason}",
    )
