"""Throughput of cohorts: subjects an hour of linear fits, by number of regions and of processes.

python tests/benchmarks/cohort.py [--regions 84 200] [--processes 1 2] [--subjects 4] [--evaluations 600]
"""

import argparse
import tempfile
import time

import jax
import numpy as np
from tvb.simulator.lab import connectivity, coupling, integrators, models, monitors, noise, simulator

import tvb_jaxfit as tj


def make_simulator(subject):
    """Reduced Wong-Wang model of a subject, BOLD each second over ten minutes."""
    n_node = len(subject["weights"])
    return simulator.Simulator(
        connectivity=connectivity.Connectivity(
            weights=subject["weights"],
            tract_lengths=np.zeros((n_node, n_node)),
            centres=np.zeros((n_node, 3)),
            region_labels=np.array([f"r{i}" for i in range(n_node)]),
            speed=np.array([np.inf]),
        ),
        model=models.ReducedWongWang(w=np.array([0.5]), I_o=np.array([0.32])),
        coupling=coupling.Linear(a=np.array([0.1])),
        integrator=integrators.HeunStochastic(dt=4.0, noise=noise.Additive(nsig=np.array([4e-6]))),
        monitors=[monitors.Bold(period=1000.0)],
        simulation_length=600_000.0,
    )


def subjects(n_node, n):
    """Sparse connectomes, and the FC of ten minutes of a linear network on each of them."""
    for number in range(n):
        random = np.random.default_rng([n_node, number])
        weights = random.lognormal(0.0, 1.0, (n_node, n_node)) * (random.random((n_node, n_node)) < 0.25)
        weights = np.triu(weights, 1) + np.triu(weights, 1).T
        weights /= weights.max()
        scaled = 0.8 * weights / np.max(np.abs(np.linalg.eigvalsh(weights)))
        signals = np.linalg.solve(np.eye(n_node) - scaled, random.normal(size=(n_node, 600)))
        yield f"{number:03d}", {"weights": weights, "fc": np.corrcoef(signals)}


FREE = {
    "coupling.a": tj.PositiveParameter(),
    "model.w": tj.BoundedParameter(lower_bound=0.0, upper_bound=1.0, regional=True),
    "model.I_o": tj.BoundedParameter(lower_bound=0.2, upper_bound=0.4, regional=True),
}


def main():
    """Print a line for each number of regions and of processes."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--regions", type=int, nargs="+", default=[84, 200])
    arguments.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    arguments.add_argument("--subjects", type=int, default=4, help="after one that compiles, for each process")
    arguments.add_argument("--evaluations", type=int, default=600)
    options = arguments.parse_args()
    jax.config.update("jax_enable_x64", True)
    print("regions  processes  first fits [s]  seconds a fit  subjects an hour")
    for n_node in options.regions:
        for n_processes in options.processes:
            found = list(subjects(n_node, options.subjects + n_processes))
            with tempfile.TemporaryDirectory() as folder:
                began = time.perf_counter()
                cohort = tj.fit_cohort(
                    make_simulator,
                    found,
                    FREE,
                    folder,
                    method="linear",
                    max_evaluations=options.evaluations,
                    n_workers=n_processes,
                    progress=False,
                )
                wall = time.perf_counter() - began
                assert cohort.n_done == len(found), cohort
                seconds = sorted(cohort.scores["seconds"])
            first, rest = seconds[-n_processes:], seconds[:-n_processes]
            rate = len(found) / wall * 3600.0
            print(
                f"{n_node:7d}  {n_processes:9d}  {np.mean(first):14.1f}  {np.mean(rest):13.1f}  {rate:16.0f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
