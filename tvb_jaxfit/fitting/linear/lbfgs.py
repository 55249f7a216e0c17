"""Minimisation of the objective of a linear fit, by L-BFGS."""

import numpy as np

# L-BFGS is restarted where its curvature memory makes no progress; restarts that gain less than _GAIN end the fit.
_GAIN, _MEMORY = 1e-3, 30
# Consecutive restarts without a gain after which the fit ends.
_MAX_STALLED = 2


def descend(evaluate, start, n_evaluations):
    """Minimise an objective from a point, with restarts as long as they help.

    Parameters
    ----------
    evaluate : callable
        Point and start of the search for the fixed point, to (`ObjectiveValue`, slope).
    start : ObjectiveValue
        With a stable fixed point.
    n_evaluations : int
        Maximum number of evaluations.

    Returns
    -------
    ObjectiveValue
        Best point.
    """
    from scipy.optimize import minimize

    best, n_used = None, 0

    def value_and_slope(point):
        nonlocal best, n_used
        n_used += 1
        value, slope = evaluate(point, start.x if best is None else best.x)
        if best is None or value.value < best.value:
            best = value
        if n_used >= n_evaluations:
            raise StopIteration
        if not value.is_stable:
            # A slope back to the best point, so that a line search turns back.
            away = point - best.point
            distance = np.linalg.norm(away)
            return best.value + 1.0 + 10.0 * distance, 10.0 * away / max(distance, 1e-300)
        return value.value, slope

    options = {"maxiter": n_evaluations, "maxfun": n_evaluations, "maxcor": _MEMORY, "ftol": 1e-10, "gtol": 1e-9}
    try:
        n_stalled = 0
        while n_stalled < _MAX_STALLED:
            before, point = (np.inf, start.point) if best is None else (best.value, best.point)
            minimize(value_and_slope, point, jac=True, method="L-BFGS-B", options=options)
            n_stalled = 0 if before - best.value > _GAIN else n_stalled + 1
    except StopIteration:
        pass
    return best
