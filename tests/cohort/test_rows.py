"""Shares of the fits in which FC determines a value."""

import numpy as np

from tvb_jaxfit.cohort.rows import share_determined


def test_shares_are_of_the_fits_of_which_it_is_known():
    determined = np.array([[1.0, 0.0, np.nan], [1.0, 1.0, np.nan], [np.nan, 1.0, np.nan]])
    np.testing.assert_allclose(share_determined(determined), [1.0, 2.0 / 3.0, np.nan])
