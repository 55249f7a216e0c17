"""--map and --balance make the parameters of the same names in Python, or are refused before any work."""

import json

import numpy as np
import pytest

from tests.command_line.conftest import FIT, LABELS, N_NODE
from tvb_jaxfit import Balanced, MapParameter
from tvb_jaxfit.command import fit as command
from tvb_jaxfit.command.dependent_options import parse_balances, parse_maps
from tvb_jaxfit.command.fit import make_parameters
from tvb_jaxfit.command.main import main
from tvb_jaxfit.command.options import option_problems, parser
from tvb_jaxfit.parameters import parameters_of

MYELIN, GRADIENT = np.array([1.3, 1.2, 0.9, 1.4, 0.7]), np.array([-4.0, 0.5, 2.5, -1.0, 3.0])


@pytest.fixture
def maps(tmp_path):
    """File of two maps, its regions in another order."""
    rows = [f"{LABELS[i]},{MYELIN[i]},{GRADIENT[i]}" for i in (3, 1, 4, 0, 2)]
    path = tmp_path / "maps.csv"
    path.write_text("\n".join(["region,myelin,gradient", *rows]))
    return str(path)


def _given(*arguments):
    return parser().parse_args(["fit", "--fc", "fc.csv", "--out", "out", "--connectivity", "76", *arguments])


@pytest.mark.filterwarnings("ignore:.*standardised")
@pytest.mark.parametrize(
    ("rest", "names", "options"),
    [
        ("", ("myelin", "gradient"), {}),
        (":gradient", ("gradient",), {}),
        (":linear", ("myelin", "gradient"), {"transform": "linear"}),
        (
            ":gradient,myelin:sigmoid:0:2",
            ("gradient", "myelin"),
            {"transform": "sigmoid", "lower_bound": 0.0, "upper_bound": 2.0},
        ),
    ],
)
def test_a_map_is_the_parameter_of_the_same_maps(maps, rest, names, options):
    (made,) = make_parameters(_given("--map", f"model.w={maps}{rest}")).values()
    columns = {"myelin": MYELIN, "gradient": GRADIENT}
    meant = MapParameter({name: columns[name] for name in names}, **options)
    assert made.names == meant.names and made.transform == meant.transform
    np.testing.assert_allclose(made.match(LABELS).maps, meant.maps, rtol=1e-12)


@pytest.mark.filterwarnings("ignore:.*standardised")
def test_files_without_names_or_labels_are_in_the_order_of_the_regions(tmp_path):
    both = np.stack([MYELIN, GRADIENT], axis=1)
    np.save(tmp_path / "maps.npy", both)
    (tmp_path / "names.csv").write_text("\n".join(["m,g", *(f"{m},{g}" for m, g in both)]))
    (tmp_path / "labels.csv").write_text(
        "\n".join(f"{label},{m},{g}" for label, (m, g) in zip(LABELS, both, strict=True))
    )
    for file, names in (
        ("maps.npy", ("map_1", "map_2")),
        ("names.csv", ("m", "g")),
        ("labels.csv", ("map_1", "map_2")),
    ):
        (made,) = make_parameters(_given("--map", f"model.w={tmp_path / file}")).values()
        assert made.names == ("intercept", *names)
        np.testing.assert_allclose(made.match(LABELS).maps, MapParameter(both).maps, rtol=1e-12)


def test_a_balance_is_the_parameter_of_the_same_target_and_rate():
    made = make_parameters(_given("--free", "model.G", "--balance", "model.J_i", "--balance", "model.P=0.15:E"))
    meant = {"model.J_i": Balanced(), "model.P": Balanced(0.15, "E")}
    assert list(made) == ["model.G", *meant]
    for path, parameter in meant.items():
        assert (made[path].target, made[path].rate) == (parameter.target, parameter.rate)


def test_impossible_values_are_refused_with_all_reasons_at_once():
    wrong = {
        "a": "there is no file",
        "b=": "there is no file",
        "c=m.csv:x,": "a name of a map is empty",
        "d=m.csv:x:cubic": "transform 'cubic' is none of exp, linear, sigmoid",
        "e=m.csv:sigmoid": "sigmoid has two",
        "f=m.csv:exp:0:1": "the others have none",
        "g=m.csv:sigmoid:1:0": "bounds 1 and 0 are not in order",
        "h=m.csv:sigmoid:0:x": "could not convert",
    }
    found, problems = parse_maps([*wrong, "ok=m.csv", "ok=n.csv"])
    assert list(found) == ["ok"] and "ok is there twice" in problems[-1] and len(problems) == len(wrong) + 1
    for (text, why), problem in zip(wrong.items(), problems, strict=False):
        assert problem.startswith(f"--map {text!r}: ") and why in problem
    found, problems = parse_balances(["a=0", "b=nan", "c=3:", "d=x", "e", "e=4"])
    assert list(found) == ["e"] and len(problems) == 5
    problems = option_problems(_given("--free", "model.w", "--map", "model.w=m.csv"))
    assert problems == ["model.w: in more than one of --free, --map and --balance"]
    assert option_problems(_given("--balance", "model.J_i")) == ["nothing is free: give --free or --map"]


def test_files_that_are_missing_or_lack_a_map_are_refused_before_any_work(maps, files, tmp_path, capsys):
    for value, message in ((f"{maps}:myelim", "no map myelim; there is: myelin, gradient"), ("m.csv", "No such file")):
        arguments = [
            "fit",
            *files.simulator(),
            "--fc",
            files.fc,
            "--map",
            f"model.w={value}",
            "--out",
            str(tmp_path / "o"),
        ]
        assert main(arguments) == 2
        told = capsys.readouterr().err
        assert "--map model.w: " in told and message in told


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*standardised")
def test_a_fit_of_a_map_is_written_with_its_coefficients(maps, files, tmp_path, monkeypatch):
    results, real = [], command.fit
    monkeypatch.setattr(command, "fit", lambda *a, **options: results.append(real(*a, **options)) or results[-1])
    out = tmp_path / "out"
    of_map = ["--map", f"model.w={maps}:myelin"]
    arguments = ["fit", *files.simulator(), "--fc", files.fc, *of_map, *FIT, "--out", str(out)]
    assert main(arguments) == 0
    fitted = parameters_of(results[0].best)["model.w"]
    written = json.loads((out / "values.json").read_text())["parameters"]["model.w"]
    np.testing.assert_array_equal(written["fitted"], fitted.value)
    assert [each["fitted"] for each in written["coefficients"].values()] == fitted.coefficients.tolist()
    assert written["coefficients"]["myelin"]["initial"] == 0.0
    assert fitted.names == ("intercept", "myelin") and fitted.value.shape == (N_NODE,)
    assert "Fitted coefficients of the maps" in (out / "report.html").read_text()
    assert main([*arguments, "--resume", "--steps", "4"]) == 0
    # Another map is another fit.
    assert main([*(text.replace(":myelin", ":gradient") for text in arguments), "--resume"]) == 2
