"""ICC(2,1) equals published values and the variance components that data are made of."""

import numpy as np
import pytest

from tvb_jaxfit.cohort.reliability import intraclass_correlation

# Shrout and Fleiss (1979), Table 2; ICC(2,1) = 0.29 in Table 4.
RATINGS = np.array([[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]])


def test_published_example():
    # Mean squares of the published table of variance: 11.24, 32.49, 1.02.
    exact = (11.2416667 - 1.0194444) / (11.2416667 + 3 * 1.0194444 + 4 * (32.4861111 - 1.0194444) / 6)
    assert intraclass_correlation(RATINGS) == pytest.approx(exact, abs=1e-8)
    assert round(float(intraclass_correlation(RATINGS)), 2) == 0.29


def test_an_offset_of_all_values_changes_nothing():
    assert intraclass_correlation(RATINGS + 1e6) == pytest.approx(intraclass_correlation(RATINGS), abs=1e-9)


def test_each_value_has_its_own():
    values = np.stack([RATINGS, RATINGS[::-1] ** 2], axis=2)
    expected = [intraclass_correlation(values[..., i]) for i in range(2)]
    np.testing.assert_allclose(intraclass_correlation(values), expected, rtol=1e-13)


def test_variance_components():
    random = np.random.default_rng(0)
    subjects, sessions = random.normal(scale=2.0, size=(20000, 1)), np.array([[0.0, 1.0]])
    values = subjects + sessions + random.normal(size=(20000, 2))
    # Two sessions at 0 and 1 have the variance 1/2.
    assert intraclass_correlation(values) == pytest.approx(4.0 / (4.0 + 0.5 + 1.0), abs=0.01)


def test_measurements_that_agree_have_one_and_noise_has_none():
    random = np.random.default_rng(1)
    same = np.repeat(random.normal(size=(10, 1)), 3, axis=1)
    assert intraclass_correlation(same) == pytest.approx(1.0, abs=1e-12)
    assert abs(intraclass_correlation(random.normal(size=(5000, 3)))) < 0.03


@pytest.mark.parametrize(
    "values", [np.ones((1, 3)), np.ones((3, 1)), np.ones((4, 3)), [[1.0, np.nan], [2.0, 3.0]]], ids=str
)
def test_undefined_without_differences_or_repetitions(values):
    assert np.isnan(intraclass_correlation(values))
