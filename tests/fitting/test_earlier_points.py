"""Where simulations confirm no end of a linear fit, the result is the last point on its way that they confirm."""

from types import SimpleNamespace

import numpy as np
import pytest

from tvb_jaxfit.fitting.linear.fit import _Search

N_NODE = 6
RANDOM = np.random.default_rng(0)


def symmetric(scale=1.0):
    a = scale * RANDOM.normal(size=(N_NODE, N_NODE))
    return np.tanh(a + a.T) * ~np.eye(N_NODE, dtype=bool)


TARGET, OTHER = symmetric(), symmetric()


class Simulations:
    """Simulations that stay at the fixed point up to a place of the trace, and leave it after that.

    On other noise than the first, they leave it earlier.
    """

    def __init__(self, last_valid, last_on_other_noise=None):
        self.last_valid, self.places = last_valid, []
        self.last_on_other_noise = last_valid if last_on_other_noise is None else last_on_other_noise

    def __call__(self, place, key=None):
        self.places.append(place)
        fc = TARGET if place <= (self.last_valid if key is None else self.last_on_other_noise) else OTHER
        draws = [fc + symmetric(1e-3) for _ in range(2)]
        loss = 1.0 - place / 100 if place <= self.last_valid else 5.0
        return SimpleNamespace(means={"r": 0.5}, values=[loss, loss], fc=np.stack(draws))


def search(last_valid, n, last_on_other_noise=None):
    simulations = Simulations(last_valid, last_on_other_noise)
    objective = SimpleNamespace(state_of=lambda value: value.place, penalty=lambda state: 0.0)
    running = _Search(objective, TARGET, simulations, None, 0)
    trace = [
        SimpleNamespace(place=place, value=-place, loss=1.0 - place / 100, r=0.9, nonlinearity=0.0, terms=[], fc=TARGET)
        for place in range(n)
    ]
    running.candidates = [None]
    running._simulate([trace])
    return running.candidates, simulations


@pytest.mark.parametrize(("last_valid", "n"), [(1, 40), (17, 40), (38, 40), (500, 600)])
def test_the_last_confirmed_point_is_found(last_valid, n):
    candidates, simulations = search(last_valid, n)
    end, earlier = candidates
    assert not end.is_confirmed
    assert earlier.is_confirmed
    # Six bisections.
    assert last_valid - n // 64 <= earlier.fitted <= last_valid
    assert len(earlier.trace) == earlier.fitted + 1
    assert earlier.loss < end.loss
    assert len(simulations.places) <= 1 + 6 + 3


def test_a_point_that_was_confirmed_by_luck_is_not_taken():
    candidates, simulations = search(38, 40, last_on_other_noise=20)
    assert candidates[1].is_confirmed
    assert candidates[1].fitted == 20
    assert len(simulations.places) <= 1 + 6 + 3 + 6 * 4


def test_a_confirmed_end_is_simulated_alone():
    candidates, simulations = search(39, 40)
    assert [each.is_confirmed for each in candidates] == [True]
    assert simulations.places == [39]


def test_without_any_confirmed_point_the_end_stays():
    candidates, _ = search(-1, 40)
    assert [each.is_confirmed for each in candidates] == [False]
