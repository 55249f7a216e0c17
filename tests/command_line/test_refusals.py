"""Problems of a command line are reported before any work, all at once."""

import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat
from tvb.simulator import models

import tvb_jaxfit
from tvb_jaxfit.command import options, simulator
from tvb_jaxfit.command.main import main
from tvb_jaxfit.command.matrices import LabelledMatrix, load_array, load_fc
from tvb_jaxfit.command.options import EXAMPLES, option_problems, parser
from tvb_jaxfit.command.outcome import Refused
from tvb_jaxfit.command.path_options import FreeOption, parse_free, parse_settings

ROOT = Path(tvb_jaxfit.__file__).parents[1]


def _parsed(*arguments):
    return parser().parse_args(list(arguments))


@pytest.mark.parametrize("command", EXAMPLES)
def test_the_example_of_each_help_is_a_valid_command_line(command, capsys):
    assert main([command, "--help"]) == 0
    told = capsys.readouterr().out
    assert f"example:\n  {EXAMPLES[command]}" in told
    # The user guide shows the same.
    guide = (ROOT / "docs" / "guide" / "command_line.md").read_text()
    assert all(line.strip() in guide for line in EXAMPLES[command].splitlines())
    program, *arguments = shlex.split(EXAMPLES[command].replace("\\\n", " "))
    parsed = _parsed(*arguments)
    assert program == "tvb-jaxfit" and parsed.command == command
    if command != "report":
        assert option_problems(parsed) == []
    # The connectivity of a cohort stands in its table.
    if command not in ("report", "cohort"):
        assert simulator.make_simulator(parsed).connectivity.weights.shape[0] in (76, 84)


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["fit", "--help"], ["fit", "--free", "a"]])
def test_help_version_and_usage_errors_need_neither_jax_nor_tvb(arguments):
    probe = (
        "import sys; from tvb_jaxfit.command.main import main; code = main(sys.argv[1:]); "
        "print(code, {'jax', 'tvb', 'numpy'} & set(sys.modules))"
    )
    command = [sys.executable, "-c", probe, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines()[-1] == f"{2 if '--free' in arguments else 0} set()"


def test_the_version_is_that_of_the_package(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"tvb-jaxfit {tvb_jaxfit.__version__}\n"
    configuration = (ROOT / "setup.cfg").read_text()
    assert f"version = {tvb_jaxfit.__version__}" in configuration
    assert "tvb-jaxfit = tvb_jaxfit.command.main:main" in configuration


def test_a_command_is_needed(capsys):
    assert main([]) == 2 and "required" in capsys.readouterr().err


def test_all_problems_of_options_come_at_once_before_any_work(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("tvb_jaxfit.command.main._set_precision", lambda _: pytest.fail("refused before any work"))
    wrong = {
        "--free 'model.w:wide'": ["--free", "model.w:wide"],
        "--free 'model.a:1:0'": ["--free", "model.a:1:0"],
        "--free 'model.b:1'": ["--free", "model.b:1"],
        "--free 'coupling.a': coupling.a is there twice": ["--free", "coupling.a", "--free", "coupling.a"],
        "--set 'model.w'": ["--set", "model.w"],
        "--set 'model.d=x'": ["--set", "model.d=x"],
        "--dt -1": ["--dt", "-1"],
        "--steps -1": ["--steps", "-1"],
        "--learning-rate 0": ["--learning-rate", "0"],
        "--tvb": ["--tvb"],
        "--group: its FC is a baseline": ["--group", "a.npy", "b.npy"],
        "--standard-errors -5: give a positive number": ["--standard-errors", "-5"],
        "--certify compares to rounding": ["--certify", "--float32"],
        "--connectivity: none": [],
        "--resume continues from": ["--resume", "--force"],
    }
    arguments = [argument for given in wrong.values() for argument in given]
    assert main(["fit", "--fc", "fc.npy", "--out", str(tmp_path / "out"), *arguments]) == 2
    told = capsys.readouterr().err
    for each in wrong:
        assert f"  - {each}" in told
    assert told.count("\n  - ") == len(wrong) and not (tmp_path / "out").exists()


def test_a_script_has_a_simulator_of_its_own(capsys):
    problems = option_problems(_parsed("certify", "--simulator", "x.py", "--model", "Linear", "--set", "model.w=1"))
    assert problems == ["--simulator has a simulator of its own: leave --model, --set, and say it in the script"]


def test_free_and_set_are_parsed():
    assert parse_free(["a", "b:regional", "c:-1:2.5", "d:regional::3", "e:0:"])[0] == {
        "a": FreeOption(False, -np.inf, np.inf),
        "b": FreeOption(True, -np.inf, np.inf),
        "c": FreeOption(False, -1.0, 2.5),
        "d": FreeOption(True, -np.inf, 3.0),
        "e": FreeOption(False, 0.0, np.inf),
    }
    assert parse_settings(["a=1e-3", "b=1,2", "c=@x=y.npy"])[0] == {"a": [1e-3], "b": [1.0, 2.0], "c": "@x=y.npy"}


def test_unknown_names_are_refused_with_the_known_ones():
    made = _parsed("certify", "--connectivity", "none.zip", "--model", "Wong", "--coupling", "Liner", "--dt", "1")
    with pytest.raises(Refused) as caught:
        simulator.make_simulator(made)
    connectivity, model, coupling, integrator = caught.value.reasons
    assert connectivity.startswith("--connectivity none.zip: no such file, and there is no data set")
    assert model.startswith("--model Wong: TVB has none; there is: ") and "ReducedWongWang," in model
    assert coupling.startswith("--coupling Liner: TVB has none") and "SigmoidalJansenRit" in coupling
    assert integrator.startswith("--nsig: there is no usual noise for Wong")


def test_a_model_of_several_variables_needs_the_option_variable():
    jansen = ["certify", "--connectivity", "76", "--model", "JansenRit", "--nsig", "1e-4"]
    with pytest.raises(Refused, match="--variable: JansenRit shows y0, y1, y2, y3; name the one"):
        simulator.make_simulator(_parsed(*jansen))
    sim = simulator.make_simulator(_parsed(*jansen, "--variable", "y1"))
    assert list(sim.model.variables_of_interest) == ["y1"]
    with pytest.raises(Refused, match="--model JansenRit"):
        simulator.make_simulator(_parsed(*jansen, "--variable", "z"))


def test_noise_of_a_deterministic_integrator_is_refused():
    made = ["certify", "--connectivity", "76", "--integrator", "HeunDeterministic"]
    assert not hasattr(simulator.make_simulator(_parsed(*made)).integrator, "noise")
    with pytest.raises(Refused, match="--nsig: HeunDeterministic is deterministic; leave it, or choose"):
        simulator.make_simulator(_parsed(*made, "--nsig", "1e-4"))


def test_values_are_set_by_number_by_region_and_from_a_file(files, tmp_path):
    np.save(tmp_path / "w.npy", np.linspace(0.1, 0.5, 5))
    np.savez(tmp_path / "values.npz", **{"model.J_N": np.full(5, 0.27), "other": np.zeros(2)})
    given = {
        "model.w": f"@{tmp_path / 'w.npy'}",
        "model.J_N": f"@{tmp_path / 'values.npz'}",
        "coupling.a": "0.1,0.2,0.3,0.4,0.5",
        "monitors[0].hrf_kernel.tau_s": "0.7",
    }
    arguments = [argument for path, value in given.items() for argument in ("--set", f"{path}={value}")]
    sim = simulator.make_simulator(_parsed("certify", "--connectivity", files.connectome, *arguments))
    np.testing.assert_array_equal(sim.model.w, np.linspace(0.1, 0.5, 5))
    np.testing.assert_array_equal(sim.model.J_N, np.full(5, 0.27))
    np.testing.assert_array_equal(np.ravel(sim.coupling.a), [0.1, 0.2, 0.3, 0.4, 0.5])
    assert sim.monitors[0].hrf_kernel.parameters["tau_s"] == 0.7
    # TVB shares one hemodynamic response among all monitors; it is unchanged.
    other = simulator.make_simulator(_parsed("certify", "--connectivity", files.connectome))
    assert (
        other.monitors[0].hrf_kernel.parameters["tau_s"] == type(sim.monitors[0]).hrf_kernel.default.parameters["tau_s"]
    )
    assert other.monitors[0].hrf_kernel.parameters["tau_s"] != 0.7


def test_all_values_that_cannot_be_set_are_reported(files, tmp_path):
    given = ["model.W=1", "model.w=1,2", "model.a=@nowhere.npy", "model.b=nan"]
    arguments = [argument for each in given for argument in ("--set", each)]
    with pytest.raises(Refused) as caught:
        simulator.make_simulator(_parsed("certify", "--connectivity", files.connectome, *arguments))
    no_such, two, nowhere, nan = caught.value.reasons
    assert "no such parameter (there is: model.a" in no_such and "give one, or one for each of 5 regions" in two
    assert "No such file" in nowhere and "not finite" in nan


@pytest.mark.parametrize(
    "script,told",
    [
        ("x = 1", "there is no 'sim'; simulators are: none"),
        ("from tvb.simulator.lab import *\nother = simulator.Simulator()", "simulators are: other. Name it"),
        ("sim = 3", "sim is a int; give a tvb.simulator.simulator.Simulator"),
        ("x = 1\n1 / 0", "ZeroDivisionError: division by zero (line 2)"),
        ("import sys\nsys.exit('no')", "SystemExit: no (line 2)"),
        ("sim = (", "SyntaxError: '(' was never closed"),
    ],
)
def test_scripts_without_a_simulator_are_refused_with_the_line(tmp_path, capsys, script, told):
    path = tmp_path / "script.py"
    path.write_text(script)
    before = sys.argv, sys.path[:]
    assert main(["certify", "--simulator", str(path)]) == 2
    error = capsys.readouterr().err
    assert told in error and "Traceback" not in error
    assert (sys.argv, sys.path) == before


OWN_MODEL = """
import numpy as np
from tvb.simulator.lab import connectivity, coupling, integrators, models, monitors, noise, simulator

SLOPE = 0.5


class Mine(models.Linear):
    def dfun(self, state, coupling, local_coupling=0.0):
        return self.gamma * np.tanh(state * SLOPE) + coupling


white_matter = connectivity.Connectivity.from_file({connectome!r})
sim = simulator.Simulator(
    connectivity=white_matter,
    model=Mine(),
    coupling=coupling.Linear(a=np.array([0.001])),
    integrator=integrators.HeunStochastic(dt=1.0, noise=noise.Additive(nsig=np.array([1e-4]))),
    monitors=[monitors.TemporalAverage(period=10.0)],
    simulation_length=500.0,
)
"""


def test_a_script_can_have_a_model_of_its_own(files, tmp_path, capsys):
    path = tmp_path / "own.py"
    path.write_text(OWN_MODEL.format(connectome=files.connectome))
    assert main(["certify", "--simulator", str(path)]) == 0
    assert "Certificate: PASSED   Mine, 5 regions" in capsys.readouterr().out
    assert [each.name for each in tmp_path.iterdir()] == ["own.py"]


def test_a_module_can_hold_the_simulator(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "of_mine.py").write_text("from tvb.simulator.lab import simulator\nthat = simulator.Simulator()")
    sim = simulator.make_simulator(_parsed("certify", "--simulator", "of_mine:that", "--simulation-length", "7"))
    assert type(sim).__name__ == "Simulator" and sim.simulation_length == 7.0


def test_a_simulator_that_is_not_translated_is_refused_without_a_traceback(files, tmp_path, capsys):
    made = ["--connectivity", files.connectome, "--integrator", "VODEStochastic", "--simulation-length", "3000"]
    fit = ["fit", *made, "--fc", files.fc, "--free", "coupling.a", "--out", str(tmp_path / "out")]
    assert main(["certify", *made]) == main(fit) == 2
    told = capsys.readouterr().err
    assert told.count("not translated, for 1 reason") == 2 and "VODEStochastic" in told and "Traceback" not in told
    assert not (tmp_path / "out").exists()


def test_an_fc_of_other_regions_and_unknown_parameters_are_refused(files, tmp_path, capsys):
    np.save(tmp_path / "fc.npy", np.eye(4))
    fit = ["fit", *files.simulator(), "--out", str(tmp_path / "out"), "--fc"]
    assert main([*fit, str(tmp_path / "fc.npy"), "--free", "coupling.a"]) == 2
    assert "target: shape (4, 4) for 5 regions" in capsys.readouterr().err
    assert main([*fit, files.fc, "--free", "model.q", "--free", "model.I_o:0.5:1"]) == 2
    told = capsys.readouterr().err
    assert "'model.q': no such parameter" in told and "outside [0.5, 1]" in told and not (tmp_path / "out").exists()


def test_certify_returns_the_result_as_exit_code(files, capsys, monkeypatch):
    from dataclasses import replace

    import tvb_jaxfit.certificate.certify as certificate

    arguments = ["certify", *files.simulator(), "--simulation-length", "2000"]
    assert main(arguments) == 0
    assert "Certificate: PASSED" in capsys.readouterr().out
    real = certificate.certify
    monkeypatch.setattr(certificate, "certify", lambda sim: replace(real(sim), tolerance=0.0))
    assert main(arguments) == 1
    assert "Certificate: FAILED" in capsys.readouterr().out


MATRIX = np.array([[0.0, 0.25, 0.5], [0.25, 0.0, -0.125], [0.5, -0.125, 0.0]])
ROWS = [" ".join(map(str, row)) for row in MATRIX.tolist()]
NAMED = "\n".join(f"{name} {row}" for name, row in zip("abc", ROWS, strict=True))
NUMBERED = "\n".join(f"{number} {row}" for number, row in enumerate(ROWS))


@pytest.mark.parametrize(
    "name,text,labels",
    [
        ("spaces.txt", "\n".join(ROWS), None),
        ("commas.csv", "# of mine\n" + "\n".join(ROWS).replace(" ", ", ") + "\n\n", None),
        ("tabs.tsv", "\n".join(ROWS).replace(" ", "\t"), None),
        ("semicolons.csv", "\n".join(ROWS).replace(" ", ";"), None),
        (
            "both.csv",
            "\ufeff,a,b,c\n" + NAMED.replace(" ", ","),
            list("abc"),
        ),
        ("head.csv", "a,b,c\n" + "\n".join(ROWS).replace(" ", ","), list("abc")),
        ("rows.txt", NAMED, list("abc")),
        ("quoted.csv", '"x, y",b,c\n' + "\n".join(ROWS).replace(" ", ","), ["x, y", "b", "c"]),
        ("pandas.csv", ",0,1,2\n" + NUMBERED.replace(" ", ","), None),
    ],
)
def test_text_is_read_with_its_labels(tmp_path, name, text, labels):
    (tmp_path / name).write_text(text, encoding="utf-8")
    found = load_fc(str(tmp_path / name))
    np.testing.assert_array_equal(np.asarray(found), MATRIX)
    assert isinstance(found, LabelledMatrix) == (labels is not None)
    if labels:
        assert found.index == found.columns == labels


def test_arrays_are_read_by_their_names(tmp_path):
    np.save(tmp_path / "a.npy", MATRIX)
    np.savez(tmp_path / "one.npz", any=MATRIX)
    np.savez(tmp_path / "two.npz", fc=MATRIX, other=np.zeros(2))
    savemat(tmp_path / "m.mat", {"x": np.zeros(2), "y": MATRIX})
    for name in ("a.npy", "one.npz", "two.npz", "two.npz:fc", "m.mat:y"):
        np.testing.assert_array_equal(load_fc(str(tmp_path / name)), MATRIX)
    assert load_fc("dk_average").shape == (84, 84)


def test_files_that_hold_no_matrix_are_refused(tmp_path):
    np.savez(tmp_path / "two.npz", a=MATRIX, b=MATRIX)
    np.save(tmp_path / "objects.npy", np.array([None]), allow_pickle=True)
    np.save(tmp_path / "words.npy", np.array(["a"]))
    (tmp_path / "ragged.csv").write_text("1,2\n3\n")
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "fc.doc").write_text("1")
    for name, told in {
        "two.npz": "no array 'fc'; there is: a, b. Name it: FILE:KEY",
        "objects.npy": "allow_pickle=False",
        "words.npy": "give one of real numbers",
        "ragged.csv": "lines of 1, 2 numbers; give as many in each",
        "empty.csv": "the file is empty",
        "fc.doc": "files are read that end in .npy",
        "nowhere.csv": "No such file",
    }.items():
        with pytest.raises(Refused, match=told):
            load_array(str(tmp_path / name), "fc")
    with pytest.raises(Refused, match="--fc dk_mean: no such file, and there is no data set 'dk_mean'"):
        load_fc("dk_mean")


def test_the_help_names_the_defaults_that_are_used(capsys):
    main(["certify", "--help"])
    told = " ".join(capsys.readouterr().out.split())
    for name, said in {"speed": "inf", "dt": "1", "seed": "42", "bold_period": "1000", "nsig": "4e-6"}.items():
        assert f"(default {said}" in told and options.DEFAULTS[name] == float(said)
    for name in ("model", "coupling", "integrator"):
        assert f"(default {options.DEFAULTS[name]})" in told


def test_only_the_requested_class_is_imported():
    """TVB imports a model when it is first used, and numba compiles it then, which takes a second."""

    class Module:
        wanted = models.Linear

        @property
        def other(self):
            raise AssertionError("imported for nothing")

    assert simulator._class_of(Module(), "wanted", models.Model, "--model") is models.Linear
    with pytest.raises(AssertionError, match="for nothing"):
        simulator._class_of(Module(), "missing", models.Model, "--model")
