"""Section of a report on the information about the fitted values: what FC determines, and what it does not."""

from collections.abc import Iterator

from .. import plot
from ..markup import Html, tag
from ..uncertainty.standard_errors import StandardErrors
from .html import panels_html


def identifiability_section(errors: StandardErrors | None) -> Iterator[Html]:
    """Parts of the section; none without standard errors.

    Parameters
    ----------
    errors : StandardErrors or None

    Yields
    ------
    Html
    """
    if errors is None:
        return
    more = "FC says more about them than a uniform prior between the bounds"
    yield tag("p", f"{errors.summary()} ({errors.n_samples} samples): {more}.")
    yield errors.table()
    yield _list(errors.trade_offs)
    several = [path for path, values in errors.values.items() if values.size > 1]
    n = 1 + len(several) + (len(several) < len(errors.values))
    caption = (
        "Information of FC about the directions of the fitted values, relative to the prior's, and the values with "
        "their standard errors. Those about which FC says less than the prior are drawn faint."
    )
    yield panels_html(n, (4.6, 3.4), lambda axes: plot.identifiability(errors, axes=axes), caption, n_columns=2)
    if errors.correlation is not None and errors.eigenvalues.size > 1:
        caption = "Correlation between the fitted values: FC hardly tells values with a strong one apart."
        yield panels_html(1, (5.4, 4.6), lambda axes: plot.value_correlation(errors, ax=axes[0]), caption)
    yield _list(errors.remarks)


def _list(sentences):
    return tag("ul", *(tag("li", sentence) for sentence in sentences)) if sentences else Html()
