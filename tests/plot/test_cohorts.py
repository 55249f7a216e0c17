"""Figures of cohorts show the numbers that they are given."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from tvb_jaxfit import plot

ROWS = [
    {"participant_id": "sub-1", "session_id": "a", "r": 0.7, "structure": 0.3, "group": 0.8},
    {"participant_id": "sub-2", "session_id": None, "r": 0.5, "structure": 0.4, "group": None},
    {"participant_id": "sub-3", "r": None},
    {"participant_id": "sub-4", "r": float("nan"), "structure": 0.9},
]


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def test_scores_are_in_order_with_their_baselines():
    ax = plot.cohort_scores(ROWS)
    assert [label.get_text() for label in ax.get_xticklabels()] == ["sub-2", "sub-1 ses-a"]
    points = {each.get_label(): each.get_offsets() for each in ax.collections}
    np.testing.assert_array_equal(points["fit, fresh noise"][:, 1], [0.5, 0.7])
    np.testing.assert_array_equal(points["structural weights"][:, 1], [0.4, 0.3])
    assert np.ma.filled(points["mean FC of the others"][:, 1], np.nan)[1] == 0.8
    assert "recording that was fitted" not in points


def test_many_fits_have_no_names_at_the_axis():
    ax = plot.cohort_scores([{"participant_id": f"sub-{i}", "r": i / 100} for i in range(50)])
    assert ax.get_xlabel() == "50 fits, the worst first"


def test_without_scores_there_is_nothing_to_draw():
    with pytest.raises(ValueError, match="no fit has a score"):
        plot.cohort_scores(ROWS[2:])


def test_values_by_region_are_in_the_order_of_their_means():
    values = np.array([[0.3, 0.1, 0.2], [0.5, 0.1, 0.4]])
    ax = plot.cohort_values(values, "model.w", ["a", "b", "c"])
    assert [label.get_text() for label in ax.get_xticklabels()] == ["b", "c", "a"]
    drawn = ax.containers[0][0].get_ydata()
    np.testing.assert_allclose(drawn, [0.1, 0.3, 0.4])


def test_regions_that_fc_determines_in_few_fits_are_faint():
    values = np.array([[0.3, 0.1, 0.2], [0.5, 0.1, 0.4]])
    clear, faint = plot.cohort_values(values, determined=[0.9, 0.5, 0.4]).containers
    np.testing.assert_allclose(clear[0].get_ydata(), [0.1, 0.4])
    np.testing.assert_allclose(faint[0].get_ydata(), [0.3])
    assert faint[0].get_xdata() == [1] and faint[0].get_alpha() < clear[0].get_alpha()


def test_shares_of_determined_values_are_in_order():
    ax = plot.cohort_determined([0.2, 1.0, 0.5], "model.w", ["a", "b", "c"])
    assert [label.get_text() for label in ax.get_xticklabels()] == ["b", "c", "a"]
    assert [bar.get_height() for bar in ax.patches] == [1.0, 0.5, 0.2]
    assert ax.get_title().startswith("2 of 3 determined") and ax.get_ylim() == (0.0, 1.0)
    assert plot.cohort_determined(np.linspace(0.0, 1.0, 40)).get_xlabel() == "region, in the order of the share"
    with pytest.raises(ValueError, match="cohort_determined: shape"):
        plot.cohort_determined([0.2, 1.0], "model.w", ["a"])


def test_one_value_is_a_histogram():
    ax = plot.cohort_values([0.1, 0.2, 0.2], "coupling.a")
    assert sum(patch.get_height() for patch in ax.patches) == 3
    assert ax.get_xlabel() == "coupling.a"


@pytest.mark.parametrize("arguments", [(np.ones((2, 2, 2)),), (np.ones((2, 3)), "w", ["a"])])
def test_other_shapes_are_refused(arguments):
    with pytest.raises(ValueError, match="give \\(n_fit, n_node\\)"):
        plot.cohort_values(*arguments)
