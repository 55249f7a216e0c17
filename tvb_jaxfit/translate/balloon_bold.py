"""TVB monitor of BOLD by the Balloon-Windkessel model."""

import numpy as np
from tvb.analyzers.fmri_balloon import BoldModels
from tvb.basic.neotraits.api import EnumAttr, Float, NArray, Range
from tvb.simulator.monitors import Monitor

from ..dynamics.balloon_parameters import PARAMETERS, balloon_parameters
from ..dynamics.hemodynamics import REST, bold_signal, rates

_DEFAULTS = balloon_parameters()


def _trait(name, label, lowest=None, highest=None):
    domain = None if lowest is None else Range(lo=lowest, hi=highest)
    return NArray(default=np.array([_DEFAULTS[name]]), domain=domain, label=label, doc=f"{label}: global or regional")


class BalloonBold(Monitor):
    r"""BOLD by the Balloon-Windkessel model: a monitor of TVB, which TVB runs and `prepare` translates.

    Parameters
    ----------
    parameter_set : str, default "tvb"
        Name of a parameter set, see `balloon_parameters`: the values of all parameters that are not given.
    **attributes
        Attributes of the monitor.

    Attributes
    ----------
    period : float
        Sampling period, the repetition time [ms]; 2000 by default.
    interim_period : float
        Step of the hemodynamics [ms]: the neural activity is averaged over it, and the equations advance by it. 4 by
        default, as the interim average of TVB's Bold monitor; dt, if it is shorter.
    variables_of_interest : ndarray of int
        Rows of the model's variables of interest that drive the hemodynamics, such as the excitatory rate or gating
        variable; each by itself, all by default.
    bold_model : BoldModels
        Nonlinear or linear equation of the signal (``tvb.analyzers.fmri_balloon.BoldModels``).
    tau_s, tau_f, tau_o, alpha, E0, V0, k1, k2, k3 : ndarray, shape (1,) or (n_node,)
        Parameters, global or regional. In a state they are leaves, such as ``monitors[0].tau_s``.

    Notes
    -----
    The equations are those of `balloon_windkessel`, by Heun's scheme: the signal is that of TVB's analyzer
    ``fmri_balloon`` for a TemporalAverage monitor of the interim period, at every sampling time. Nothing but the
    samples and the hemodynamic state is kept, for a run of any length.

    Blood is at rest before the first run; see ``FCOptions.skip_t`` for the transient.

    Examples
    --------
    >>> import numpy as np, tvb_jaxfit as tj
    >>> monitor = tj.BalloonBold(period=720.0, parameter_set="cbig", alpha=np.array([0.32]))
    >>> print(monitor.alpha, monitor.E0, monitor.k3)
    [0.32] [0.34] [0.53]
    """

    _documentation = __doc__
    period = Float(label="Sampling period (ms)", default=2000.0, doc="Repetition time (TR)")
    interim_period = Float(label="Step of the hemodynamics (ms)", default=4.0, doc="Period of the interim average")
    bold_model = EnumAttr(label="Equation of the BOLD signal", default=BoldModels.NONLINEAR)
    tau_s = _trait("tau_s", "Time constant of signal decay (s)", 0.1, 10.0)
    tau_f = _trait("tau_f", "Time constant of flow-dependent elimination (s)", 0.1, 10.0)
    tau_o = _trait("tau_o", "Hemodynamic transit time (s)", 0.1, 10.0)
    alpha = _trait("alpha", "Grubb's exponent", 0.05, 1.0)
    E0 = _trait("E0", "Oxygen extraction fraction at rest", 0.05, 0.95)
    V0 = _trait("V0", "Blood volume fraction at rest")
    k1 = _trait("k1", "Coefficient of deoxyhemoglobin")
    k2 = _trait("k2", "Coefficient of its concentration")
    k3 = _trait("k3", "Coefficient of volume")

    _interim_istep = None
    _interim_stock = None
    _state = None

    def __init__(self, parameter_set: str = "tvb", **attributes):
        values = balloon_parameters(parameter_set)
        super().__init__(**{name: np.array([value]) for name, value in values.items()} | attributes)

    def _config_time(self, simulator):
        super()._config_time(simulator)
        self._interim_istep = max(1, int(round(self.interim_period / self.dt)))
        shape = self.voi.shape[0], simulator.number_of_nodes, simulator.model.number_of_modes
        self._interim_stock = np.zeros((self._interim_istep, *shape))
        self._state = np.stack([np.full(shape, value) for value in REST])

    def sample(self, step, state):
        """BOLD signal at the sampling steps; the hemodynamics advance at the end of each interim period."""
        self._interim_stock[(step - 1) % self._interim_istep] = state[self.voi]
        if step % self._interim_istep == 0:
            neural = np.mean(self._interim_stock, axis=0)
            self._state = _heun(_columns(self), self._state, neural, self._interim_istep * self.dt / 1000.0)
        if step % self.istep == 0:
            nonlinear = self.bold_model is BoldModels.NONLINEAR
            return [step * self.dt, bold_signal(_columns(self), self._state, nonlinear)]
        return None


# TVB's metaclass adds a list of the attributes.
BalloonBold.__doc__ = BalloonBold._documentation


def _columns(monitor):
    """Parameters as columns that broadcast against samples (n_voi, n_node, n_mode)."""
    return {name: np.reshape(getattr(monitor, name), (1, -1, 1)) for name in PARAMETERS}


def _heun(p, state, neural, dt):
    """Hemodynamic state after a step of TVB's HeunDeterministic; dt in seconds."""
    first = np.array(rates(p, state, neural))
    second = np.array(rates(p, state + dt * first, neural))
    return state + (first + second) * (dt / 2.0)
