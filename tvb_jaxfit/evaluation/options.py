"""Options of the FC that is computed from a run and compared with an empirical FC."""

from dataclasses import dataclass

from ..checks import options as allowed
from ..checks.option_group import OptionGroup
from ..loss import MISSING
from ..persistence import serialisable


@serialisable
@dataclass(frozen=True, repr=False)
class FCOptions(OptionGroup):
    """Functional connectivity (FC) of a run, and its comparison with an empirical FC.

    Parameters
    ----------
    monitor : int, optional
        Index of the monitor whose samples FC is computed from. Default: the only Bold monitor, or the only monitor.
    skip_t : int, optional
        Number of samples to leave out at the start of a run. Default: the samples of a Bold monitor that depend on the
        empty part of its buffer, i.e. as many as the hemodynamic response is long before a first run, and none after a
        long run.
    simulation_length : float, optional
        Length of a run [ms]. Default: that of the simulator.
    missing : {"refuse", "ignore"}, optional
        Pairs of regions without data in the target (NaN, or masked; for a labelled target also regions that it lacks)
        are refused, or have a weight of 0 in the loss, in r and in every score. Their regions are simulated in both
        cases.

    Raises
    ------
    ValueError
        Invalid options, all in one message.

    Notes
    -----
    With ``missing="ignore"``, a loss that has an argument ``missing`` (`rmse`, `fc_corr` and `rmse_corr` have one) is
    called with ``missing="ignore"``. Any other loss receives a target with NaN for the pairs without data, and must
    leave them out itself.

    Examples
    --------
    >>> from tvb_jaxfit import FCOptions
    >>> FCOptions(missing="ignore")
    FCOptions(missing='ignore')
    """

    monitor: int | None = None
    skip_t: int | None = None
    simulation_length: float | None = None
    missing: str = "refuse"

    def __post_init__(self):
        self._check(
            monitor=allowed.optional(allowed.integer(0)),
            skip_t=allowed.optional(allowed.integer(0)),
            simulation_length=allowed.optional(allowed.number(above=0.0)),
            missing=MISSING,
        )
        for name in ("monitor", "skip_t"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, int(getattr(self, name)))
