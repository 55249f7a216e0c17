"""Simulation-based calibration: over recordings at values from the prior, the ranks of these values are uniform.

A rank is the share of the posterior's draws that are smaller than the true value.

References
----------
Talts, S. et al. (2018). arXiv:1804.06788.
"""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binom, kstest

from tvb_jaxfit.dependents import free_parameters_of
from tvb_jaxfit.posterior.density import PosteriorDensity
from tvb_jaxfit.posterior.importance import corrected_draws
from tvb_jaxfit.posterior.laplace import Point, laplace
from tvb_jaxfit.posterior.observed_fc import ObservedFC
from tvb_jaxfit.posterior.priors import JointPrior, NormalPrior
from tvb_jaxfit.posterior.recordings import ObservedRecordings, Recordings
from tvb_jaxfit.uncertainty.expected_response import ExpectedResponse
from tvb_jaxfit.uncertainty.free_values import FreeValues

N_RECORDINGS, N_SAMPLES, N_DRAWS = 100, 600, 400
PRIORS = {
    "coupling.a": (np.array(0.25), np.array(0.03)),
    "model.I_o": (np.array(0.305), np.array(0.002)),
}

pytestmark = pytest.mark.slow


def of_fc(ten, signals, factor=1):
    return ObservedFC(ten.fc_of(signals), 0, factor * N_SAMPLES, ten.pairs, False)


def of_signals(ten, signals):
    # Several gains would be further unknowns, whose truth is no draw of their prior.
    recordings = Recordings(signals, ten.period, band=(0.05, 1.5), gain="known", noise=False)
    return ObservedRecordings(recordings, 0)


def ranks(ten, data_of, n_recordings, n_passes):
    """Ranks of the true values, (n_recordings, 2).

    Each pass but the first has the covariance of the sampling errors at the maximum of the pass before.
    """
    state = ten.state()
    free = FreeValues(free_parameters_of(state), ten.labels)
    expected = ExpectedResponse(ten.linear, state, free)
    # Uniform priors would bend the trade-off of the two values far from a normal distribution.
    prior = JointPrior({path: (NormalPrior(*PRIORS[path]), 1) for path in free.slices})
    first = data_of(ten, ten.signals(0, N_SAMPLES)).at(expected.response)
    shared = PosteriorDensity(expected, first, prior)
    random, found, n_corrected, start = np.random.default_rng(0), [], 0, shared.start
    for number in range(n_recordings):
        truth = random.standard_normal(2)
        response = shared.response(truth, start)
        signals = ten.signals(number, N_SAMPLES, response)
        density = replace(shared, data=data_of(ten, signals).at(expected.response))
        u = prior.variables(free.vector)
        for _ in range(n_passes):
            potential, _, x = density.evaluate(u, start)
            approximation = laplace(density.evaluate, Point(u, x, potential))
            u = approximation.maximum.u
            last, density = density, replace(density, data=density.data.at(density.response(u, x)))
        branch = last.branch(approximation.maximum)

        def potential_at(u, last=last, branch=branch):
            return last.potential(u, branch.start(u))

        draws = corrected_draws(potential_at, approximation, N_DRAWS, number)
        n_corrected += draws.is_corrected
        if number % 10 == 9:
            print(number, n_corrected, coverage(np.array(found or [[0, 0]]), 0.9), flush=True)
        found.append((draws.u < truth).mean(axis=0))
    # Draws of a normal distribution stand in for a posterior that is too far from it.
    assert n_corrected >= 0.95 * n_recordings
    return np.array(found)


def coverage(ranks, probability):
    """Share of the recordings, for each value, whose central interval of this probability contains the truth."""
    return np.mean(np.abs(ranks - 0.5) < 0.5 * probability, axis=0)


@pytest.mark.parametrize("data_of,n_passes", [(of_fc, 2), (of_signals, 1)], ids=["FC", "recordings"])
def test_ranks_are_uniform_and_intervals_cover_what_they_say(ten, data_of, n_passes):
    found = ranks(ten, data_of, N_RECORDINGS, n_passes)
    p_values = [kstest(of_value, "uniform").pvalue for of_value in found.T]
    for probability in (0.5, 0.9):
        share = coverage(found, probability)
        low, high = binom.interval(0.99, N_RECORDINGS, probability)
        assert np.all((share * N_RECORDINGS >= low) & (share * N_RECORDINGS <= high)), f"{probability}: {share}"
    assert np.min(p_values) > 0.01, p_values


def test_recordings_that_are_said_to_be_a_hundred_times_as_long_are_not_calibrated(ten):
    """Negative control: intervals are up to ten times too narrow."""
    n = 40
    found = ranks(ten, lambda *given: of_fc(*given, factor=100), n, 1)
    assert np.all(coverage(found, 0.9) * n < binom.interval(0.99, n, 0.9)[0]), coverage(found, 0.9)
