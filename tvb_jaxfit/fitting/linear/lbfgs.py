"""Downhill on an objective of the linear response, by L-BFGS."""

import numpy as np

# L-BFGS begins anew where its memory leads nowhere, and ends where this brings less than that.
_GAIN, _MEMORY = 1e-3, 30


def descend(objective, start, prior, n_evaluations, bar, record=None):
    """L-BFGS from a point, begun anew as long as that helps.

    Parameters
    ----------
    objective : Objective
    start : Seen
        With a stable fixed point.
    prior : float
        See `Objective`.
    n_evaluations : int
        At most so many.
    bar : tqdm
    record : callable, optional
        (Seen, gradients by path) of where it begins and of each improvement; True ends it.

    Returns
    -------
    Seen
        The best point.
    """
    from scipy.optimize import minimize

    best, used = None, 0

    def at(point):
        nonlocal best, used
        used += 1
        bar.update()
        seen, gradients, slope = objective(point, prior, start.x if best is None else best.x)
        ended = False
        if best is None or seen.value < best.value:
            best = seen
            ended = record is not None and record(seen, gradients) is True
        if ended or used >= n_evaluations:
            raise StopIteration
        if not seen.is_stable:
            # A slope back to what is known, so that a line search turns round.
            away = point - best.point
            distance = np.linalg.norm(away)
            return best.value + 1.0 + 10.0 * distance, 10.0 * away / max(distance, 1e-300)
        return seen.value, slope

    options = {"maxiter": n_evaluations, "maxfun": n_evaluations, "maxcor": _MEMORY, "ftol": 1e-10, "gtol": 1e-9}
    try:
        stalled = 0
        while stalled < 2:
            before = np.inf if best is None else best.value
            minimize(at, start.point if best is None else best.point, jac=True, method="L-BFGS-B", options=options)
            stalled = 0 if before - best.value > _GAIN else stalled + 1
    except StopIteration:
        pass
    return best
