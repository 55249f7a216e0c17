"""Options of a fit, in groups with their defaults; and the record of the options of a fit that was done."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from os import PathLike
from typing import TYPE_CHECKING

from ..checks import options as allowed
from ..checks.option_group import OptionGroup
from ..checks.options import short_repr
from ..checks.suggestions import did_you_mean
from ..evaluation.options import FCOptions
from ..persistence import serialisable
from ..reporting.reproduction import options_as_code
from .method import Method

if TYPE_CHECKING:
    import jax


@serialisable
@dataclass(frozen=True, repr=False)
class NoiseOptions(OptionGroup):
    """Noise of the simulations of a fit.

    Parameters
    ----------
    source : "tvb" or jax.Array, optional
        The draws of TVB's own random stream, or draws of a JAX key; see `prepare`.
    resample : bool, optional
        Each optimizer step uses new noise, and the best state is the one with the smallest loss on noise that no step
        has used. False: all steps use the draws of ``source``. Default: True if the simulator has noise.
    n_realisations : int, optional
        Number of noise realisations over which each gradient is averaged. More than 1 needs ``resample``.
    patience : int, optional
        Number of validations in a row, one every tenth step, without a better loss after which the fit ends. Needs
        ``resample``.

    Raises
    ------
    ValueError
        Invalid options, all in one message.

    Examples
    --------
    >>> from tvb_jaxfit import NoiseOptions
    >>> NoiseOptions(n_realisations=4, patience=3)
    NoiseOptions(n_realisations=4, patience=3)
    """

    source: "str | jax.Array" = "tvb"
    resample: bool | None = None
    n_realisations: int = 1
    patience: int | None = None

    def __post_init__(self):
        self._check(
            source=allowed.either(allowed.choice("tvb"), allowed.random_key),
            resample=allowed.optional(allowed.boolean),
            n_realisations=allowed.integer(1),
            patience=allowed.optional(allowed.integer(1)),
        )


@serialisable
@dataclass(frozen=True, repr=False)
class SearchOptions(OptionGroup):
    """Search of the best values: what is drawn, and how many starts are followed.

    Parameters
    ----------
    seed : int, optional
        Seed of all that a fit draws: the starts, and the noise of training, validation, confirmation and of the r that
        is reported. The same seed gives the same result, bit for bit on the same machine.
    n_starts : int, optional
        Number of starts that are followed. Default: 1 through the simulation, the values of the simulator or of the
        parameters; 2 by the linear response; 3 where ``method="auto"`` fits through the simulation (1 with a
        checkpoint). Further starts are the best of a Latin hypercube over the values that are equal in all regions.
    max_evaluations : int, optional
        Maximum number of evaluations of the linear response, from each start.

    Raises
    ------
    ValueError
        Invalid options, all in one message.

    Examples
    --------
    >>> from tvb_jaxfit import SearchOptions
    >>> SearchOptions(seed=3)
    SearchOptions(seed=3)
    """

    seed: int = 0
    n_starts: int | None = None
    max_evaluations: int = 600

    def __post_init__(self):
        self._check(
            seed=allowed.integer(0),
            n_starts=allowed.optional(allowed.integer(1)),
            max_evaluations=allowed.integer(1),
        )
        object.__setattr__(self, "n_starts", None if self.n_starts is None else int(self.n_starts))


@serialisable
@dataclass(frozen=True, repr=False)
class RunOptions(OptionGroup):
    """Options of the run of a fit: callback, progress, checkpoint. None of them changes its numbers.

    Parameters
    ----------
    callback : callable, optional
        (step, state, loss, gradients), called after each evaluation; True ends the fit. See `OptaxOptimizer`.
    progress : bool, optional
        Show a progress bar.
    checkpoint : path-like, optional
        File in which the fit through the simulation stores what it needs to be resumed.
    resume : bool, optional
        Continue from the checkpoint, if there is one; see `OptaxOptimizer.run`.

    Raises
    ------
    ValueError
        Invalid options, all in one message.

    Examples
    --------
    >>> from tvb_jaxfit import RunOptions
    >>> RunOptions(progress=False)
    RunOptions(progress=False)
    """

    callback: Callable | None = None
    progress: bool = True
    checkpoint: "str | PathLike | None" = None
    resume: bool = False

    def __post_init__(self):
        self._check(
            callback=allowed.optional(allowed.function),
            progress=allowed.boolean,
            checkpoint=allowed.optional(allowed.path),
            resume=allowed.boolean,
        )


# Groups by the argument of `fit` that they are given as.
GROUPS = {"fc": FCOptions, "noise": NoiseOptions, "search": SearchOptions, "run": RunOptions}
_ARGUMENTS = ("method", "loss", "penalty", "optimizer", "max_steps", *GROUPS)
# Other names that are understood in a message: those of options before they were grouped.
_SYNONYMS = {"fresh": "resample", "n_noise": "n_realisations"}


def with_single_options(groups: dict, keywords: dict) -> dict:
    """Groups of options, with single options replaced.

    Parameters
    ----------
    groups : dict of str to object
        Options objects, by the names of ``GROUPS``.
    keywords : dict of str to object
        Options of any group, by their own names.

    Returns
    -------
    dict of str to object

    Raises
    ------
    TypeError
        Names that no group has; the message has the name that is meant.
    ValueError
        Invalid values.

    Examples
    --------
    >>> from tvb_jaxfit.fitting.options import GROUPS, with_single_options
    >>> defaults = {name: kind() for name, kind in GROUPS.items()}
    >>> with_single_options(defaults, {"progress": False, "skip_t": 5})
    {'fc': FCOptions(skip_t=5), 'noise': NoiseOptions(), 'search': SearchOptions(), 'run': RunOptions(progress=False)}
    >>> with_single_options(defaults, {"fresh": False})
    Traceback (most recent call last):
        ...
    TypeError: fit: fresh: give noise=NoiseOptions(resample=False).
    """
    places = {each.name: (group, kind) for group, kind in GROUPS.items() for each in dataclasses.fields(kind)}
    problems, single = [], {}
    for name, value in keywords.items():
        option = _SYNONYMS.get(name, name)
        if name in places:
            single.setdefault(places[name][0], {})[name] = value
        elif option in places:
            group, kind = places[option]
            problems.append(f"{name}: give {group}={kind.__name__}({option}={short_repr(value)}).")
        else:
            problems.append(f"{name}: there is no such argument.{did_you_mean(name, [*_ARGUMENTS, *places])}")
    if problems:
        raise TypeError(f"fit: {' '.join(problems)}")
    # An object of another kind is refused with the other arguments.
    changed = {
        group: replace(groups[group], **values)
        for group, values in single.items()
        if isinstance(groups[group], GROUPS[group])
    }
    return groups | changed


@serialisable
@dataclass(frozen=True)
class FitSettings:
    """Options of a fit that was done, as text: they can be printed and pickled, whatever they were.

    Attributes
    ----------
    method : Method
    codes : dict of str to str
        Code of each option by name; the name of an option of a group has that of its argument in front:
        ``"noise.resample"``.
    changed : frozenset of str
        Names of the options that differ from their defaults.
    resolved : dict of str to str
        Meaning of the options that were left out (None), by name.
    seed : int
        Seed of all that the fit drew; see `noise_key`.
    """

    method: Method
    codes: dict = field(repr=False)
    changed: frozenset = frozenset()
    resolved: dict = field(default_factory=dict, repr=False)
    seed: int = 0

    @classmethod
    def of(cls, arguments, defaults) -> "FitSettings":
        """Settings of a call of `fit`.

        Parameters
        ----------
        arguments, defaults : dict of str to object
            Keyword arguments of the call, and their defaults, by name; groups as they are.
        """
        codes, changed = {}, set()
        for argument, value in arguments.items():
            if argument in GROUPS:
                for name, option, is_default in value.entries():
                    codes[f"{argument}.{name}"] = options_as_code({name: option})[name]
                    changed |= set() if is_default else {f"{argument}.{name}"}
            else:
                codes[argument] = options_as_code({argument: value})[argument]
                changed |= set() if codes[argument] == repr(defaults[argument]) else {argument}
        return cls(Method(arguments["method"]), codes, frozenset(changed), seed=arguments["search"].seed)

    def items(self) -> list[tuple[str, str, bool]]:
        """(name, code, whether it differs from the default) of each option."""
        return [(name, code, name in self.changed) for name, code in self.codes.items()]

    def call(self) -> list[tuple[str, str]]:
        """(argument, code) of a call that repeats the fit: changed options, without those of the run."""
        arguments = {}
        for name, code, differs in self.items():
            group, _, option = name.rpartition(".")
            if differs and group != "run":
                arguments.setdefault(group or name, []).append(f"{option}={code}" if group else code)
        return [
            (name, f"tj.{GROUPS[name].__name__}({', '.join(codes)})" if name in GROUPS else codes[0])
            for name, codes in arguments.items()
        ]

    def with_code(self, name, code) -> "FitSettings":
        """Settings with another code of an option, such as of an optimizer that a command has made."""
        return replace(self, codes=self.codes | {name: code}, changed=self.changed | {name})

    def with_resolved(self, resolved) -> "FitSettings":
        """Settings with the meaning of the options that were left out."""
        return replace(self, resolved=resolved)
