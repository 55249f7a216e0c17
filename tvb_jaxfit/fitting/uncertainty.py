"""Uncertainty of a fit: what the data determine, the posterior of the values, and its check by simulation."""

from dataclasses import replace

from ..checks import options as allowed
from ..checks.options import check
from ..posterior.recordings import Recordings
from ..posterior.result import Posterior
from ..posterior.sample import Sampling, observed_fc, observed_recordings, posterior
from ..translate.prepare_linear import prepare_linear
from ..uncertainty.identifiability import Identifiability, identifiability
from .predictive import PredictiveCheck, predictive_check
from .problem import expected_length


class UncertaintyMixin:
    """Methods of a `FitResult` that tell how sure its values are."""

    def identifiability(self, length: float | None = None) -> Identifiability:
        """Information about the fitted values in the FC of a recording: which of them are determined, and how well.

        Parameters
        ----------
        length : float, optional
            Length of the recording [ms] that the target was computed from. Default: that of the simulator, without the
            samples that are left out.

        Returns
        -------
        Identifiability
            Standard errors, determined directions, trade-offs and profiles. From the linear response at the best state;
            only FC counts, also for a fit to more targets. Its record is kept as attribute ``standard_errors``, which
            reports show and `save` writes.

        Raises
        ------
        NoStableFixedPoint
            The best state has no stable fixed point.
        UnsupportedComponent
            The simulator has no linear response, for example without noise.
        ValueError
            A recording of less than 10 samples; a result without a simulator or without the arguments of its fit.
        """
        check("identifiability", length=(length, allowed.optional(allowed.number(above=0.0))))
        self._refuse_missing("identifiability")
        length, remarks = self._recording_length(length)
        linear, _ = prepare_linear(self.simulator)
        labels = self.simulator.connectivity.region_labels
        found = identifiability(linear, self.best, self.target, self.monitor, length, labels, remarks)
        self.standard_errors = found.record
        return found

    def posterior(
        self,
        recordings: Recordings | None = None,
        *,
        length: float | None = None,
        prior: dict | None = None,
        method: str = "nuts",
        discrepancy: bool = True,
        n_chains: int = 2,
        n_draws: int = 500,
        n_warmup: int = 300,
        seed: int = 0,
        progress: bool = True,
    ) -> Posterior:
        """Posterior of the fitted values, from the FC of the fit or from recordings; see `Posterior`.

        Parameters
        ----------
        recordings : Recordings, optional
            Measured signals, in the order of the regions. Default: the FC that the fit was made for.
        length : float, optional
            Length of the recording [ms] that FC was computed from. Default: as for `identifiability`.
        prior : dict of str to numpyro.distributions.Distribution, optional
            By path. They take the place of bounds. Default: uniform between bounds; see the guide for others.
        method : {"nuts", "laplace"}, optional
            Draws of the No-U-Turn sampler of NumPyro, or of a normal approximation, which takes seconds.
        discrepancy : bool, optional
            Estimate what the model leaves unexplained in FC beyond the sampling error. False: the model is true.
        n_chains, n_draws, n_warmup : int, optional
            Number of chains; and of draws of each, after a warm-up.
        seed : int, optional
        progress : bool, optional
            Show progress bars.

        Returns
        -------
        Posterior
            Printable. After an interrupt (Ctrl-C) it has the draws that were completed.

        Raises
        ------
        NoStableFixedPoint
            The best state has no stable fixed point.
        UnsupportedComponent
            The simulator has no linear response, for example without noise.
        ValueError
            Data or priors that do not suit the fit; a result without a simulator or without the arguments of its fit.
        ImportError
            Without NumPyro and ArviZ, which ``pip install tvb-jaxfit[posterior]`` installs.
        """
        check(
            "posterior",
            recordings=(recordings, allowed.optional(allowed.instance(Recordings))),
            length=(length, allowed.optional(allowed.number(above=0.0))),
            prior=(prior, allowed.optional(allowed.instance(dict, "of distributions of NumPyro by path"))),
            method=(method, allowed.choice("nuts", "laplace")),
            discrepancy=(discrepancy, allowed.boolean),
            n_chains=(n_chains, allowed.integer(1)),
            n_draws=(n_draws, allowed.integer(4)),
            n_warmup=(n_warmup, allowed.integer(10)),
            seed=(seed, allowed.integer(0)),
            progress=(progress, allowed.boolean),
        )
        self._refuse_missing("posterior")
        linear, _ = prepare_linear(self.simulator)
        if recordings is None:
            length, remarks = self._recording_length(length)
            data, further = observed_fc(linear, self.target, self.monitor, length, bool(discrepancy))
            remarks += further
        else:
            data, remarks = observed_recordings(linear, recordings, self.monitor), []
        sampling = Sampling(method == "nuts", int(n_chains), int(n_draws), int(n_warmup), int(seed), bool(progress))
        labels = self.simulator.connectivity.region_labels
        return posterior(linear, self.best, self.initial, data, labels, prior or {}, sampling, remarks)

    def _recording_length(self, length):
        """Length of a recording [ms], by default that of the simulator, and remarks on what is used."""
        remarks = [f"FC alone: {', '.join(self.targets)} would say more"] if self.targets else []
        if length is not None:
            return length, remarks
        request = replace(self.request, sim=self.simulator)
        remarks.append("length: that of the simulator; for a recording of another length, length=... in ms")
        return expected_length(request, self.simulate, self.monitor, self.skip_t), remarks

    def predictive_check(
        self, posterior: Posterior, n_draws: int = 10, n_tvb: int = 1, seed: int = 0, progress: bool = True
    ) -> PredictiveCheck:
        """Simulations at draws of a posterior, compared with the data: by the translated simulator, and by TVB itself.

        Parameters
        ----------
        posterior : Posterior
            Of this fit.
        n_draws : int, optional
            Number of draws, evenly spaced; each is simulated once, on its own noise.
        n_tvb : int, optional
            Number of these that TVB simulates, too, which may take a while.
        seed : int, optional
        progress : bool, optional
            Show progress bars.

        Returns
        -------
        PredictiveCheck
            Printable. After an interrupt (Ctrl-C) it has the draws that were completed.
        """
        check(
            "predictive_check",
            posterior=(posterior, allowed.instance(Posterior)),
            n_draws=(n_draws, allowed.integer(2)),
            n_tvb=(n_tvb, allowed.integer(0)),
            seed=(seed, allowed.integer(0)),
            progress=(progress, allowed.boolean),
        )
        self._refuse_missing("predictive_check")
        return predictive_check(self, posterior, int(n_draws), int(n_tvb), int(seed), bool(progress))
