"""Figures show the given data, as tested by the data in the Axes."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import matplotlib

matplotlib.use("Agg")
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
import pytest
from tvb.datatypes.connectivity import Connectivity

from tests.uncertainty.conftest import errors_of
from tvb_jaxfit import (
    Certificate,
    DataAxis,
    GridAxis,
    OptaxOptimizer,
    Parameter,
    SavingCallback,
    SequentialExecution,
    Space,
    State,
    fc_corr,
    plot,
    rmse,
)
from tvb_jaxfit.certificate.result import Comparison

WEIGHTS = np.array([[0.0, 1.0, 0.4], [0.5, 0.0, 0.0], [2.0, 0.3, 0.0]])
LENGTHS = np.full((3, 3), 30.0)


@pytest.fixture(autouse=True)
def closed():
    yield
    for number in plt.get_fignums():
        # Errors in drawing appear here.
        plt.figure(number).canvas.draw()
    plt.close("all")


def _fc(seed, n=5):
    fc = np.corrcoef(np.random.default_rng(seed).normal(size=(n, 9)))
    np.fill_diagonal(fc, 0.0)
    return fc


def _shown(ax):
    return np.ma.filled(ax.images[0].get_array(), np.nan)


def test_structural_matrices_show_existing_connections_only():
    connectivity = Connectivity(
        weights=WEIGHTS, tract_lengths=LENGTHS, centres=np.zeros((3, 3)), region_labels=np.array(list("abc"))
    )
    for axes in (plot.structural_connectivity(connectivity), plot.structural_connectivity(WEIGHTS, LENGTHS)):
        assert [ax.get_title() for ax in axes] == ["Weights", "Tract lengths"]
        np.testing.assert_array_equal(_shown(axes[0]), np.where(WEIGHTS > 0.0, WEIGHTS, np.nan))
        np.testing.assert_array_equal(_shown(axes[1]), np.where(WEIGHTS > 0.0, LENGTHS, np.nan))
    assert len(plot.structural_connectivity(WEIGHTS)) == 1
    (ax,) = plot.structural_connectivity(-WEIGHTS)
    assert ax.images[0].norm.vmin == -2.0


def test_weights_are_on_a_logarithmic_scale_of_three_decades():
    norm = plot.structural_connectivity(WEIGHTS)[0].images[0].norm
    assert (norm.vmin, norm.vmax) == (0.002, 2.0)
    np.testing.assert_allclose(norm([2.0, 0.2, 0.02, 1e-9]), [1.0, 2 / 3, 1 / 3, 0.0], atol=1e-12)


def test_colour_bars_are_labelled():
    drawn = {
        ("connection strength", "[mm]"): plot.structural_connectivity(WEIGHTS, LENGTHS)[0],
        ("mean of the region",): plot.time_series(np.arange(3.0), np.eye(3)),
        ("FC",): plot.functional_connectivity({"a": _fc(0), "b": _fc(1)})[0],
    }
    for labels, ax in drawn.items():
        assert {each.get_ylabel() for each in ax.figure.axes} >= set(labels)


@pytest.mark.parametrize("length,unit,factor", [(4000.0, "ms", 1.0), (40_000.0, "s", 1e-3)])
def test_time_series_are_lines_of_the_regions_coloured_by_their_means(length, unit, factor):
    time = np.linspace(0.0, length, 50)
    data = np.random.default_rng(0).normal(size=(50, 1, 4, 1))
    ax = plot.time_series(time, data, ylabel="S")
    (lines,) = ax.collections
    for node, segment in enumerate(lines.get_segments()):
        np.testing.assert_allclose(segment, np.column_stack([time * factor, data[:, 0, node, 0]]))
    np.testing.assert_allclose(lines.get_array(), data[:, 0, :, 0].mean(axis=0))
    assert ax.get_xlabel() == f"time [{unit}]" and ax.get_ylabel() == "S"
    np.testing.assert_allclose(ax.get_xlim(), [0.0, length * factor])


def test_a_window_of_a_time_series():
    time, data = np.arange(10.0), np.arange(20.0).reshape(10, 2)
    (lines,) = plot.time_series(time, data, window=(3.0, 5.0)).collections
    np.testing.assert_array_equal(lines.get_segments()[1], [[3.0, 7.0], [4.0, 9.0], [5.0, 11.0]])
    with pytest.raises(ValueError, match="no sample between 20 and 30 ms; times are 0 to 9"):
        plot.time_series(time, data, window=(20.0, 30.0))


def test_fc_matrices_share_a_scale_and_show_r():
    matrices = {"Empirical": _fc(0), "Global": jnp.asarray(_fc(1)), "Regional": 0.5 * _fc(0)}
    axes = plot.functional_connectivity(matrices)
    r = float(fc_corr(_fc(1), _fc(0)))
    assert [ax.get_title() for ax in axes] == ["Empirical", f"Global\nr = {r:.3f}", "Regional\nr = 1.000"]
    assert len({ax.images[0].get_clim() for ax in axes}) == 1
    off = ~np.eye(5, dtype=bool)
    for ax, matrix in zip(axes, matrices.values(), strict=True):
        np.testing.assert_array_equal(_shown(ax)[off], np.asarray(matrix)[off])
        assert np.isnan(_shown(ax)[~off]).all()
    assert plot.functional_connectivity(matrices, target="Regional")[0].get_title() == "Empirical\nr = 1.000"
    with pytest.raises(ValueError, match="no 'Empiric'; there is: Empirical, Global, Regional"):
        plot.functional_connectivity(matrices, target="Empiric")


def test_scatter_of_fitted_against_empirical_fc_has_a_point_a_pair_and_the_identity():
    fc, target = _fc(1), _fc(0)
    ax = plot.fc_scatter(fc, target, "Global")
    upper = np.triu_indices(5, 1)
    np.testing.assert_array_equal(ax.collections[0].get_offsets(), np.column_stack([target[upper], fc[upper]]))
    x, y = ax.lines[0].get_data()
    assert list(x) == list(y) == list(ax.get_xlim()) == list(ax.get_ylim())
    assert ax.get_title() == f"Global\nr = {float(fc_corr(fc, target)):.3f}, RMSE = {float(rmse(fc, target)):.3f}"


def _explored(w, a):
    state = State(model=State(w=w), coupling=State(a=a))

    def loss(state):
        value = float((state.model.w - 0.5) ** 2 + (state.coupling.a - 0.2) ** 2)
        return np.nan if state.coupling.a > 0.9 else value

    return SequentialExecution(loss, Space(state), progress=False).run()


def _line(ax, label):
    (line,) = [line for line in ax.lines if line.get_label() == label]
    return np.column_stack(line.get_data())


def test_an_exploration_is_a_map_with_its_minimum_and_the_path_of_a_fit():
    result = _explored(DataAxis([0.75, 0.25, 0.5]), GridAxis(0.0, 1.0, 6))
    route = [
        State(model=State(w=Parameter([w])), coupling=State(a=jnp.asarray(a)))
        for w, a in [(0.7, 0.8), (0.6, 0.4), (0.5, 0.3)]
    ]
    ax = plot.exploration(result, path=route)
    (mesh,) = ax.collections
    np.testing.assert_array_equal(mesh.get_array().reshape(3, 6), np.ma.masked_invalid(result.values.T[[1, 2, 0]]))
    corners = mesh.get_coordinates()
    np.testing.assert_allclose(corners[0, [0, -1], 0], [-0.1, 1.1])
    np.testing.assert_allclose(corners[:, 0, 1], [0.125, 0.375, 0.625, 0.875])
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("coupling.a", "model.w")
    np.testing.assert_allclose(_line(ax, "smallest"), [[0.2, 0.5]])
    np.testing.assert_allclose(_line(ax, "fit"), [[0.8, 0.7], [0.4, 0.6], [0.3, 0.5]])
    np.testing.assert_allclose(_line(ax, "initial"), [[0.8, 0.7]])
    np.testing.assert_allclose(_line(ax, "fitted"), [[0.3, 0.5]])
    assert "grey: failed" in ax.figure.axes[-1].get_ylabel()


def test_an_exploration_of_one_parameter_is_a_line():
    result = _explored(GridAxis(0.0, 1.0, 5), jnp.asarray(0.2))
    ax = plot.exploration(result, path=[State(model=State(w=jnp.asarray(0.9)))])
    np.testing.assert_allclose(ax.lines[0].get_data(), [np.linspace(0.0, 1.0, 5), result.values])
    np.testing.assert_allclose(_line(ax, "smallest"), [[0.5, 0.0]], atol=1e-12)
    assert ax.lines[2].get_xdata()[0] == 0.9


def test_one_parameter_is_drawn_in_order_with_both_ends_of_the_path():
    result = _explored(DataAxis([0.75, 0.25, 0.5]), jnp.asarray(0.2))
    ax = plot.exploration(result, path=[State(model=State(w=jnp.asarray(w))) for w in (0.9, 0.7, 0.6)])
    np.testing.assert_allclose(ax.lines[0].get_data(), [[0.25, 0.5, 0.75], result.values[[1, 2, 0]]])
    assert [line.get_xdata()[0] for line in ax.lines[2:]] == [0.9, 0.6]


def test_explorations_that_are_no_map_are_refused():
    three = Space(State(x=GridAxis(0.0, 1.0, 2), y=GridAxis(0.0, 1.0, 2), z=GridAxis(0.0, 1.0, 2)))
    with pytest.raises(ValueError, match=r"exploration: values of shape \(2, 2, 2\) over x, y, z.*to_pandas"):
        plot.exploration(SequentialExecution(lambda s: s.x, three, progress=False).run())
    pairs = Space(State(x=GridAxis(0.0, 1.0, 2), y=GridAxis(0.0, 1.0, 2)), mode="zip")
    with pytest.raises(ValueError, match="of mode 'product'"):
        plot.exploration(SequentialExecution(lambda s: s.x, pairs, progress=False).run())
    regional = Space(State(x=DataAxis(np.ones((2, 3)))))
    with pytest.raises(ValueError, match="regional values"):
        plot.exploration(SequentialExecution(lambda s: s.x[0], regional, progress=False).run())


def test_regional_values_are_drawn_over_the_strength_of_incoming_connections():
    values = Parameter([0.2, 0.5, 0.3])
    ax = plot.regional(values, WEIGHTS, reference=jnp.array([0.4]), name="w")
    np.testing.assert_allclose(ax.collections[0].get_offsets(), np.column_stack([[1.4, 0.5, 2.3], values]))
    np.testing.assert_allclose(ax.lines[0].get_ydata(), 0.4)
    assert ax.get_ylabel() == "w"
    assert ax.get_title().endswith(f"{np.corrcoef([1.4, 0.5, 2.3], values.value)[0, 1]:.2f}")
    connectivity = Connectivity(weights=WEIGHTS, tract_lengths=LENGTHS, centres=np.zeros((3, 3)))
    again = plot.regional(values, connectivity).collections[0]
    np.testing.assert_array_equal(again.get_offsets(), ax.collections[0].get_offsets())
    with pytest.raises(ValueError, match=r"values of shape \(2,\) for 3 regions"):
        plot.regional([0.1, 0.2], WEIGHTS)


def _fitted(**options):
    def loss(state):
        return state.x**2, {"r": 1.0 - state.x}

    optimizer = OptaxOptimizer(
        loss, optax.sgd(0.1), has_aux=True, progress=False, callback=SavingCallback("state"), **options
    )
    return optimizer.run(State(x=Parameter(1.0)), 12)[1]


def test_a_history_shows_loss_and_r_in_training_and_on_fresh_noise():
    history = _fitted(validate=lambda state: (state.x - 0.5) ** 2, validate_every=5)
    of_loss, of_r = plot.history(history, fresh_noise=([0, 12], [0.1, 0.4]))
    np.testing.assert_array_equal(_line(of_loss, "training"), np.column_stack([np.arange(13), history.loss]))
    np.testing.assert_array_equal(_line(of_loss, "validation"), np.column_stack(list(history.validation)))
    np.testing.assert_array_equal(_line(of_r, "training")[:, 1], history.aux["r"])
    np.testing.assert_array_equal(_line(of_r, "fresh noise"), [[0, 0.1], [12, 0.4]])
    assert of_loss.lines[-1].get_xdata()[0] == history.best_step != 12


def test_r_of_the_validation_is_drawn_beside_that_of_the_training():
    history = _fitted(validate=lambda state: (state.x**2, {"r": 0.9 - state.x}), validate_every=5)
    _, of_r = plot.history(history)
    np.testing.assert_array_equal(_line(of_r, "validation")[:, 0], [0, 5, 10, 12])
    np.testing.assert_allclose(_line(of_r, "validation")[:, 1], history.aux["r"][[0, 5, 10, 12]] - 0.1, rtol=1e-12)


def test_without_validation_and_r_there_is_the_loss_alone():
    history = _fitted()
    history.aux = {}
    (ax,) = plot.history(history)
    assert [line.get_label() for line in ax.lines] == ["training", "best (step 12)"]


def test_a_certificate_shows_each_difference_beside_its_tolerance():
    of = Certificate(
        simulator="a simulator",
        n_steps=100,
        float64_history=(Comparison("Raw", 100, True, 1e-15, 1e-14), Comparison("Bold", 10, True, 0.0, 0.0)),
        float32_history=(Comparison("Raw", 100, True, 1e-3, 1e-3), Comparison("Bold", 10, False, 1e-8, 1e-8)),
        negative_controls={"coupling removed": 0.5, "delays ignored": "there are none", "weights transposed": 1e-12},
        tolerance=1e-9,
        float32_tolerance=1e-6,
    )
    ax = plot.certificate(of)
    points = [line for line in ax.lines if line.get_marker() == "o"]
    np.testing.assert_allclose([line.get_xdata()[0] for line in points], [1e-14, 1e-17, 1e-3, 1e-8, 0.5, 1e-12])
    good = [line.get_color() == "tab:green" for line in points]
    assert good == [True, True, False, False, True, False]
    tolerances = [line.get_xdata()[0] for line in ax.lines if line.get_linestyle() == "--"]
    assert tolerances == [1e-9, 1e-6, 1e-9]
    labels = [label.get_text() for label in ax.get_yticklabels()]
    assert labels[-2:] == ["control: coupling removed", "control: weights transposed"] and len(labels) == 6
    assert ax.get_title() == "Certificate: FAILED, 100 steps"
    assert [text.get_text() for text in ax.texts][1:3] == ["0", "1e-03  !"]


def test_given_axes_are_drawn_into_and_returned():
    figure, axes = plt.subplots(1, 2)
    assert plot.fc_scatter(_fc(0), _fc(1), ax=axes[0]) is axes[0]
    assert list(plot.functional_connectivity({"a": _fc(0), "b": _fc(1)}, axes=axes)) == list(axes)
    assert plt.get_fignums() == [figure.number]
    with pytest.raises(ValueError, match="axes: 2, where 3 are needed"):
        plot.functional_connectivity({"a": _fc(0), "b": _fc(1), "c": _fc(2)}, axes=axes)


def test_importing_plot_does_not_import_matplotlib():
    script = "import sys, tvb_jaxfit; tvb_jaxfit.plot.history; assert 'matplotlib' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], cwd=Path(__file__).parents[2], check=True)


@pytest.mark.parametrize("matrices", [np.eye(3), {}, None, [np.eye(3)]])
def test_fc_matrices_without_titles_are_refused(matrices):
    with pytest.raises(ValueError, match="functional_connectivity: matrices = .*; give a dict of titles and matrices"):
        plot.functional_connectivity(matrices)


def _errors(**others):
    return errors_of(
        {"model.w": np.array([0.2, 0.4, 0.6]), "coupling.a": 0.1},
        {"model.w": np.array([0.05, 0.28, 0.1]), "coupling.a": 0.07},
        {"model.w": np.full(3, 0.29), "coupling.a": 0.14},
        eigenvalues=np.array([500.0, 20.0, 2.0, 0.0]),
        **others,
    )


def test_identifiability_shows_what_is_not_determined_faint():
    result = SimpleNamespace(record=_errors())
    spectrum, regional, single = plot.identifiability(result)
    determined, others = spectrum.lines[:2]
    assert determined.get_ydata().tolist() == [500.0, 20.0, 2.0] and others.get_xdata().tolist() == [4]
    assert spectrum.get_title() == "3 of 4 directions determined"
    clear, faint = regional.containers
    assert clear.lines[0].get_xdata().tolist() == [0, 2] and faint.lines[0].get_ydata().tolist() == [0.4]
    assert faint.lines[0].get_alpha() < clear.lines[0].get_alpha()
    assert single.patches[0].get_width() == pytest.approx(0.5)
    with pytest.raises(ValueError, match="axes: 1, where 3 are needed"):
        plot.identifiability(result.record, axes=[spectrum])


def test_correlations_of_values_are_named_and_separated_by_path():
    correlation = np.linspace(-1.0, 1.0, 16).reshape(4, 4).astype(np.float32)
    ax = plot.value_correlation(_errors(correlation=correlation))
    (image,), off = ax.images, ~np.eye(4, dtype=bool)
    np.testing.assert_array_equal(image.get_array()[off], correlation[off])
    assert np.ma.getmaskarray(image.get_array())[~off].all() and image.get_clim() == (-1, 1)
    assert [each.get_text() for each in ax.get_yticklabels()] == [
        "model.w[a]",
        "model.w[b]",
        "model.w[c]",
        "coupling.a",
    ]
    assert [line.get_ydata()[0] for line in ax.lines[::2]] == [2.5]
    with pytest.raises(ValueError, match="value_correlation: the correlations of 4 values were not kept"):
        plot.value_correlation(_errors(correlation=None))


def test_of_many_values_the_paths_are_named():
    values = {"model.w": np.linspace(0.1, 0.8, 8), "model.I_o": np.linspace(0.1, 0.8, 8)}
    ax = plot.value_correlation(errors_of(values, values, values, n_regions=8))
    assert [each.get_text() for each in ax.get_xticklabels()] == ["model.w", "model.I_o"]
    assert ax.get_xticks().tolist() == [3.5, 11.5]


def test_regional_values_have_their_standard_errors_and_are_faint_where_not_determined():
    values, strength = np.array([0.1, 0.2, 0.3]), np.array([1.0, 2.0, 3.0])
    determined, errors = np.array([True, False, True]), np.array([0.01, 0.2, np.nan])
    ax = plot.regional(values, strength, name="model.w", errors=errors, determined=determined)
    clear, bars, faint, faint_bars = ax.collections
    assert ax.get_ylabel() == "model.w"
    assert clear.get_offsets().tolist() == [[1.0, 0.1], [3.0, 0.3]] and faint.get_offsets().tolist() == [[2.0, 0.2]]
    assert faint.get_alpha() == faint_bars.get_alpha() < clear.get_alpha()
    np.testing.assert_allclose(faint_bars.get_segments()[0][:, 1], [0.0, 0.4], atol=1e-15)
    np.testing.assert_allclose(bars.get_segments()[0][:, 1], [0.09, 0.11])
    assert [each.get_text() for each in ax.get_legend().get_texts()] == ["regional"]
    with pytest.raises(ValueError, match=r"regional: determined of shape \(2,\) for 3 regions"):
        plot.regional(values, strength, determined=[True, False])
