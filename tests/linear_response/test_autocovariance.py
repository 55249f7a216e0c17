"""Covariances at all lags at once, against those at one lag, through every kind of monitor."""

import numpy as np
import pytest
from tvb.simulator import monitors, noise

import tvb_jaxfit as tj

WATCHED = {
    "every step": (lambda ou: monitors.Raw(), 1e-8),
    "samples": (lambda ou: monitors.SubSample(period=8.0), 1e-8),
    "means": (lambda ou: monitors.TemporalAverage(period=10.0), 1e-5),
    "sensors with noise": (lambda ou: ou.eeg(obsnoise=noise.Additive(nsig=np.array([1.0]), noise_seed=1)), 1e-5),
    "BOLD": (lambda ou: monitors.Bold(period=200.0, hrf_length=2000.0), 1e-5),
    "Balloon BOLD": (lambda ou: tj.BalloonBold(period=500.0), 1e-4),
}


@pytest.mark.parametrize(
    ("names", "options"),
    [
        (["samples", "means"], {}),
        pytest.param(list(WATCHED), {}, marks=pytest.mark.slow),
        pytest.param(list(WATCHED), {"delayed": True, "ntau": 5.0}, marks=pytest.mark.slow),
    ],
)
def test_covariances_at_all_lags_are_those_at_each(ou, names, options):
    sim = ou.network(watched=[WATCHED[name][0](ou) for name in names], **options)
    response, linear, _ = ou.prepared(sim)
    for index, name in enumerate(names):
        found, tolerance = linear.autocovariance(response, index), WATCHED[name][1]
        size = np.max(np.abs(response.covariance(index)))
        assert ou.off_by(found(0), response.covariance(index)) < tolerance
        exact = np.asarray(response.lagged_covariance(2, index))
        assert np.max(np.abs(found(2) - exact)) < tolerance * size
        # Negative control: the other sign of the lag.
        assert np.max(np.abs(found(2).T - exact)) > 10.0 * tolerance * size


def test_lags_that_are_left_out_are_negligible(ou):
    response, linear, _ = ou.prepared(ou.network(watched=[monitors.TemporalAverage(period=10.0)]))
    found, size = linear.autocovariance(response, 0), np.max(np.abs(response.covariance()))
    n_lag = len(found.even)
    assert not np.any(found(n_lag))
    assert np.max(np.abs(response.lagged_covariance(n_lag))) < 2e-4 * size < np.max(np.abs(found(n_lag // 2)))
