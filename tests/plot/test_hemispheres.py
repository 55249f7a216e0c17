"""Figures show known hemispheres: regions ordered by hemisphere, a separating line, and different markers."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from tvb.datatypes.connectivity import Connectivity

from tvb_jaxfit import plot

RIGHT = np.array([True, False, True, False, True])
FC = np.arange(25.0).reshape(5, 5) / 25.0
# The hemisphere of the first region first, each hemisphere in its own order.
ORDER = [0, 2, 4, 1, 3]


@pytest.fixture(autouse=True)
def closed():
    """Close all figures after each test."""
    yield
    plt.close("all")


def connectivity_of(hemispheres):
    """Connectivity of five regions."""
    return Connectivity(weights=FC + 0.1, tract_lengths=10.0 * FC, hemispheres=hemispheres)


def lines_of(ax):
    """Positions of vertical and horizontal lines, ({x}, {y})."""
    lines = [line.get_xydata() for line in ax.lines]
    return {x[0, 0] for x in lines if np.ptp(x[:, 0]) == 0.0}, {x[0, 1] for x in lines if np.ptp(x[:, 1]) == 0.0}


def labels_of(ax):
    """Tick labels of both axes, and their positions."""
    names = [[label.get_text() for label in axis.get_ticklabels()] for axis in (ax.xaxis, ax.yaxis)]
    return *names, ax.get_xticks().tolist(), ax.get_yticks().tolist()


def test_matrices_are_ordered_by_hemisphere_with_a_line_between():
    axes = plot.functional_connectivity({"Empirical": FC, "Fitted": FC.T}, hemispheres=RIGHT)
    for ax, matrix in zip(axes, (FC, FC.T), strict=True):
        shown = np.ma.filled(ax.images[0].get_array(), np.nan)
        expected = np.where(np.eye(5, dtype=bool), np.nan, matrix)[np.ix_(ORDER, ORDER)]
        np.testing.assert_array_equal(shown, expected)
        assert lines_of(ax) == ({2.5}, {2.5})
        assert labels_of(ax) == (["right", "left"], ["right", "left"], [1.0, 3.5], [1.0, 3.5])


def test_regions_that_are_in_order_stay_there():
    (ax,) = plot.functional_connectivity({"Empirical": FC}, hemispheres=[False, False, True, True, True])
    shown = np.ma.filled(ax.images[0].get_array(), np.nan)
    np.testing.assert_array_equal(shown, np.where(np.eye(5, dtype=bool), np.nan, FC))
    assert lines_of(ax) == ({1.5}, {1.5}) and labels_of(ax)[0] == ["left", "right"]


@pytest.mark.parametrize("unknown", [None, np.array([], bool), np.ones(5, bool)])
def test_without_two_hemispheres_there_is_no_line(unknown):
    (ax,) = plot.functional_connectivity({"Empirical": FC}, hemispheres=unknown)
    assert lines_of(ax) == (set(), set()) and labels_of(ax) == ([], [], [], [])
    ax = plot.regional(np.arange(5.0), FC, hemispheres=unknown)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["regional"]


def test_a_connectivity_has_its_own_hemispheres():
    axes = plot.structural_connectivity(connectivity_of(RIGHT))
    for ax, matrix in zip(axes, (FC + 0.1, 10.0 * FC), strict=True):
        np.testing.assert_array_equal(ax.images[0].get_array(), matrix[np.ix_(ORDER, ORDER)])
        assert lines_of(ax) == ({2.5}, {2.5})
    (ax, _) = plot.structural_connectivity(connectivity_of(None))
    assert lines_of(ax) == (set(), set())
    ax = plot.regional(np.arange(5.0), connectivity_of(RIGHT))
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["left", "right"]


def test_regional_values_have_a_marker_for_each_hemisphere():
    values = np.array([0.1, 0.2, 0.3, 0.4, 0.5])
    ax = plot.regional(values, FC, hemispheres=RIGHT)
    left, right = (cloud.get_offsets() for cloud in ax.collections)
    np.testing.assert_array_equal(left, np.column_stack([FC.sum(axis=1), values])[~RIGHT])
    np.testing.assert_array_equal(right, np.column_stack([FC.sum(axis=1), values])[RIGHT])
    assert ax.collections[0].get_paths()[0].vertices.shape != ax.collections[1].get_paths()[0].vertices.shape


def test_another_number_of_hemispheres_is_refused():
    with pytest.raises(ValueError, match=r"hemispheres: shape \(3,\) for 5 regions; give one for each, True for right"):
        plot.functional_connectivity({"Empirical": FC}, hemispheres=RIGHT[:3])
