"""JaxBackend: the translation as one of TVB's simulator backends."""

import math

import numpy as np
from tvb.simulator.backend.base import BaseBackend
from tvb.simulator.simulator import Simulator

from .checks import options as allowed
from .checks.options import check
from .translate.assemble import assemble
from .translate.prepare import translate_simulator


class JaxBackend(BaseBackend):
    """Run simulators as TVB's own backends do, with TVB's numbers.

    Examples
    --------
    >>> import numpy as np
    >>> from tvb.simulator.lab import *
    >>> from tvb_jaxfit import JaxBackend
    >>> sim = simulator.Simulator(
    ...     connectivity=connectivity.Connectivity(
    ...         weights=np.array([[0.0, 1.0], [2.0, 0.0]]), tract_lengths=np.full((2, 2), 10.0),
    ...         centres=np.zeros((2, 3)), region_labels=np.array(["l", "r"])),
    ...     model=models.Generic2dOscillator(), integrator=integrators.HeunDeterministic(dt=0.1),
    ...     monitors=[monitors.TemporalAverage(period=1.0)])
    >>> (time, data), = JaxBackend().run_sim(sim, nstep=50)
    >>> data.shape
    (5, 1, 2, 1)
    """

    def check_compatibility(self, sim: Simulator) -> None:
        """Check that a simulator can be translated.

        Raises
        ------
        UnsupportedComponent
            With all reasons, if it cannot.
        """
        translate_simulator(sim)

    def run_sim(
        self, sim: Simulator, nstep: int | None = None, simulation_length: float | None = None
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """Run from the position of a simulator.

        Parameters
        ----------
        sim : tvb.simulator.simulator.Simulator
            Configured or not. Not modified: as in TVB's other backends, it does not go on.
        nstep : int, optional
            Integration steps.
        simulation_length : float, optional
            [ms], if ``nstep`` is not given; the simulator's own by default.

        Returns
        -------
        list of (ndarray, ndarray)
            (time, data) of each monitor, as of ``sim.run()``.

        Raises
        ------
        UnsupportedComponent
            As `prepare`.
        ValueError
            If ``nstep`` is no positive integer.
        """
        check(
            "run_sim",
            nstep=(nstep, allowed.optional(allowed.integer(1))),
            simulation_length=(simulation_length, allowed.optional(allowed.number(above=0.0))),
        )
        translated = translate_simulator(sim)
        reference = translated.reference
        if nstep is None:
            length = reference.simulation_length if simulation_length is None else simulation_length
            nstep = math.ceil(length / reference.integrator.dt)
        simulate, state = assemble(translated, simulation_length, n_steps=int(nstep))
        return [(time, np.asarray(data)) for time, data in simulate(state)]
