"""--free names the kind of a parameter; combinations that are impossible are refused before anything runs."""

import numpy as np
import pytest

from tvb_jaxfit import BoundedParameter, MaskedParameter, Parameter, PositiveParameter, ScaledParameter
from tvb_jaxfit.command.fit import make_parameter
from tvb_jaxfit.command.path_options import parse_free

MEANT = {
    "coupling.a": Parameter(),
    "coupling.a:regional": Parameter(regional=True),
    "coupling.a:0:1": BoundedParameter(lower_bound=0.0, upper_bound=1.0),
    "coupling.a:regional:0:": BoundedParameter(lower_bound=0.0, regional=True),
    "integrator.noise.nsig:positive": PositiveParameter(),
    "integrator.noise.nsig:regional:positive": PositiveParameter(regional=True),
    "integrator.noise.nsig:positive:regional": PositiveParameter(regional=True),
    "model.tau_s:scaled": ScaledParameter(),
    "connectivity.weights:masked": MaskedParameter(),
    "connectivity.weights:masked:0:": MaskedParameter(lower_bound=0.0),
}
WRONG = {
    "a:positive:0:1": "'0:1' after 'positive', which has no bounds",
    "b:scaled:0:": "'0:' after 'scaled', which has no bounds",
    "c:positive:masked": "'positive:masked' names more than one kind",
    "d:regional:masked": "leave 'regional'",
    "e:regional:regional": "one word twice",
    "f:bounded": "'bounded' is neither 'regional', nor a kind ('positive', 'scaled', 'masked'), nor two bounds",
}


@pytest.mark.parametrize("text", MEANT)
def test_each_kind_is_the_parameter_of_that_name(text):
    free, problems = parse_free([text])
    ((path, option),) = free.items()
    made = make_parameter(option)
    assert problems == [] and path == text.split(":")[0]
    assert type(made) is type(MEANT[text]) and made.value is None
    assert vars(made) == vars(MEANT[text])


def test_impossible_kinds_are_refused_with_all_reasons_at_once():
    free, problems = parse_free(list(WRONG))
    assert free == {} and len(problems) == len(WRONG)
    for text, why in WRONG.items():
        assert any(problem.startswith(f"--free {text!r}: ") and why in problem for problem in problems)


def test_a_positive_parameter_of_the_command_line_moves_by_factors():
    (option,) = parse_free(["integrator.noise.nsig:positive"])[0].values()
    made = make_parameter(option).with_value(np.array([4e-6]))
    np.testing.assert_allclose(
        made.from_unconstrained(made.to_unconstrained() - 0.01), 4e-6 * np.exp(-0.01), rtol=1e-14
    )
