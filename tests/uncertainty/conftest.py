"""A network of six regions with its free values, and recordings of it that use no code of the package's formulas."""

from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import chi2
from tvb.simulator import monitors

import tvb_jaxfit as tj
from tests.conftest import simulator
from tvb_jaxfit.linear_response.linearise import block_diagonal, step_matrix
from tvb_jaxfit.uncertainty.identifiability import identifiability

N_NODE, PERIOD, N_MEAN = 6, 200.0, 50
PAIRS = np.triu_indices(N_NODE, 1)
LABELS = [f"region {i}" for i in range(N_NODE)]
# Both parts of a cortex, of which the second is excited more.
GRADIENT = np.linspace(0.4, 0.6, N_NODE)


def weights():
    """Directed weights, some pairs unconnected."""
    values = np.random.RandomState(0).uniform(0.1, 1.0, (N_NODE, N_NODE))
    values[values < 0.3] = 0.0
    np.fill_diagonal(values, 0.0)
    return values


def network(monitor=None, **options):
    """Simulator whose regions are correlated by about 0.3."""
    values = {"w": GRADIENT, "I_o": np.array([0.32])}
    watched = [monitors.TemporalAverage(period=PERIOD)] if monitor is None else [monitor]
    sim = simulator(weights(), steps=2000, model=values, monitors=watched, **options)
    sim.coupling.a = np.array([0.2])
    return sim


def marked(state, **parameters):
    """State with free values: by default the strength of the coupling, the input, and one regional value."""
    free = parameters or {
        "coupling.a": tj.BoundedParameter(lower_bound=0.0, upper_bound=0.5),
        "model.I_o": tj.BoundedParameter(lower_bound=0.2, upper_bound=0.4),
    }
    for path, parameter in free.items():
        component, name = path.split(".")
        setattr(getattr(state, component), name, parameter)
    return state


def identify(linear, state, length=600.0 * PERIOD, target=None, **options):
    """Identifiability of the free values of a state."""
    target = np.zeros((N_NODE, N_NODE)) if target is None else target
    return identifiability(linear, state, target, 0, length, LABELS, **options)


def record(response, n_recordings, n_samples, seed=0):
    """Samples of the linear process, step by step: (n_recordings, n_samples, n_node)."""
    M = np.asarray(step_matrix(response.linearised)).T
    B = np.asarray(block_diagonal(response.linearised.B)).T
    random, n_transient = np.random.default_rng(seed), 20
    x, samples = np.zeros((n_recordings, N_NODE)), []
    for _ in range(n_transient + n_samples):
        total = np.zeros_like(x)
        for _ in range(N_MEAN):
            x = x @ M + random.standard_normal(x.shape) @ B
            total += x
        samples.append(total / N_MEAN)
    return np.stack(samples[n_transient:], axis=1)


def fisher_z(signals):
    """Fisher z of the FC of each recording, (n_recordings, n_pair)."""
    return np.arctanh([np.corrcoef(each.T)[PAIRS] for each in signals])


def p_value(values, covariance):
    """Probability of a scatter like that of the rows or less likely, if they have this covariance: likelihood ratio."""
    n, p = values.shape
    root = np.linalg.inv(np.linalg.cholesky(covariance))
    scatter = root @ np.cov(values.T) @ root.T
    statistic = (n - 1) * (np.trace(scatter) - np.linalg.slogdet(scatter)[1] - p)
    # Bartlett's correction of the likelihood ratio.
    statistic *= 1.0 - (2.0 * p + 1.0 - 2.0 / (p + 1.0)) / (6.0 * (n - 1))
    return chi2.sf(statistic, p * (p + 1) / 2)


def errors_of(values, errors, prior, n_regions=3, **others):
    """Standard errors by path, of the given numbers; the names of the values are letters."""
    values, errors, prior = ({path: np.atleast_1d(each) for path, each in of.items()} for of in (values, errors, prior))
    n_free = sum(each.size for each in values.values())
    given = {
        "eigenvalues": np.linspace(4.0, 0.0, n_free),
        "correlation": np.full((n_free, n_free), -0.5, np.float32),
        "trade_offs": ("first and second: correlation -0.50",),
        "remarks": ("length: that of the simulator",),
    } | others
    return tj.StandardErrors(
        length=600_000.0,
        n_samples=600,
        n_pairs=n_regions * (n_regions - 1) // 2,
        n_regions=n_regions,
        names={path: list("abcdefgh"[: each.size]) if each.size > 1 else [""] for path, each in values.items()},
        values=values,
        standard_error=errors,
        standard_error_without_prior={path: 2.0 * each for path, each in errors.items()},
        prior_std=prior,
        is_determined={path: errors[path] < prior[path] / np.sqrt(2.0) for path in values},
        **given,
    )


@pytest.fixture(scope="session")
def six():
    """Namespace: the network's simulator, its linear response, and the functions of this module."""
    sim = network()
    linear, state = tj.prepare_linear(sim)
    return SimpleNamespace(
        sim=sim,
        network=network,
        linear=linear,
        response=linear(state),
        state=lambda **parameters: marked(tj.prepare_linear(sim)[1], **parameters),
        marked=marked,
        identify=identify,
        record=record,
        fisher_z=fisher_z,
        p_value=p_value,
        pairs=PAIRS,
        labels=LABELS,
        n_node=N_NODE,
        period=PERIOD,
        array=jnp.asarray,
    )
