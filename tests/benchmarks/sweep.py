"""Time a sweep of the seed workload beside TVB-Optim: 16 x 16 values of w and global coupling, 90 s of simulation each.

Run by name, in an environment that has the ``benchmarks`` extra::

    python tests/benchmarks/sweep.py

Each system runs in processes of its own, in turns; TVB-Optim with the number of virtual devices that its tutorial sets
(8), and with as many as there are processors here; the faster of them counts. Times are those of ``run()``, the first
one with its compilation. Ours is compared with the loss at single points. ``--batch-sizes`` times our batches instead.
"""

import argparse
import json
import os
import subprocess
import sys
import time

N_DEVICES = (8, 2)
LENGTH, LOW, HIGH = 90_000.0, 0.001, 0.7


def ours(n, length, batch_size, n_pmap):
    """(execution, largest relative difference from single points), to be called in this order."""
    import numpy as np
    import seed_workload

    import tvb_jaxfit as tj

    seed_workload.LENGTH = length
    fc_target = seed_workload.data()[1]
    of_free, _, _, state = seed_workload.ours(seed_workload.tvb_simulator(), fc_target)

    def loss(state):
        return of_free({}, state)

    state.model.w, state.coupling.a = tj.GridAxis(LOW, HIGH, n), tj.GridAxis(LOW, HIGH, n)
    space = tj.Space(state)

    def check(values):
        points = np.random.default_rng(0).choice(len(space), min(5, len(space)), replace=False)
        alone = np.array([loss(space[int(point)]) for point in points])
        return float(np.max(np.abs(np.ravel(values)[points] / alone - 1.0)))

    execution = tj.ParallelExecution(loss, space, n_pmap, batch_size, progress=False)
    return lambda: execution.run().values, check


def of_tvboptim(n, length, n_devices):
    """The same in TVB-Optim, as its tutorial does it."""
    import copy

    import jax
    import theirs
    from tvboptim.data import load_functional_connectivity
    from tvboptim.execution import ParallelExecution
    from tvboptim.observations.observation import compute_fc, rmse
    from tvboptim.types import GridAxis, Space

    fc_target = load_functional_connectivity("dk_average")
    model, state, bold = theirs.model_of(length)

    def loss(state):
        return rmse(compute_fc(bold(model(state)), skip_t=theirs.SKIP), fc_target)

    state = copy.deepcopy(state)
    state.dynamics.w, state.coupling.instant.G = GridAxis(LOW, HIGH, n), GridAxis(LOW, HIGH, n)
    space = Space(state, mode="product")
    execution = ParallelExecution(loss, space, n_pmap=n_devices)

    def run():
        values = execution.run()
        return jax.block_until_ready([values[point] for point in range(n * n)])

    return run, lambda values: None


def work(system, n, length, runs, batch_size, n_pmap):
    """In a process of its own: print what was measured as JSON."""
    if system == "tvb_jaxfit":
        run, check = ours(n, length, batch_size, n_pmap)
    else:
        run, check = of_tvboptim(n, length, int(system.split()[1]))
    seconds, cpu = [], []
    for _ in range(runs):
        start, of_cpu = time.perf_counter(), time.process_time()
        values = run()
        seconds.append(time.perf_counter() - start)
        cpu.append(time.process_time() - of_cpu)
    print(json.dumps({"seconds": seconds, "cpu": cpu, "difference": check(values)}))


def measured(system, arguments, batch_size=None):
    """What `work` prints."""
    environment = dict(os.environ)
    if system != "tvb_jaxfit":
        environment["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={system.split()[1]}"
    command = [sys.executable, __file__, "--work", system]
    options = {name: getattr(arguments, name) for name in ("n", "length", "runs", "n_pmap")} | {
        "batch_size": batch_size
    }
    for name, value in options.items():
        command += [f"--{name.replace('_', '-')}", str(value)] if value else []
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{system}:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def parser():
    """Of the command line; its defaults are the sweep that is reported."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=16, help="values along each axis")
    parser.add_argument("--length", type=float, default=LENGTH, help="of each simulation [ms]")
    parser.add_argument("--runs", type=int, default=2, help="runs in each process")
    parser.add_argument("--rounds", type=int, default=2, help="processes for each system")
    parser.add_argument("--n-pmap", type=int, help="batches at once, ours")
    parser.add_argument("--batch-sizes", type=int, nargs="+", help="ours alone, with each of these")
    parser.add_argument("--batch-size", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--work", help=argparse.SUPPRESS)
    return parser


def in_turns(arguments, cases):
    """What `work` prints, a list for each case: {name: (system, batch size)}."""
    results = {name: [] for name in cases}
    for _ in range(arguments.rounds):
        for name, (system, batch_size) in cases.items():
            results[name].append(measured(system, arguments, batch_size))
    return results


def main():
    """Measure and print a table; the last line is JSON."""
    arguments = parser().parse_args()
    if arguments.work:
        of_ours = arguments.batch_size, arguments.n_pmap
        return work(arguments.work, arguments.n, arguments.length, arguments.runs, *of_ours)
    if arguments.batch_sizes:
        cases = {f"tvb_jaxfit, batches of {size}": ("tvb_jaxfit", size) for size in arguments.batch_sizes}
    else:
        cases = {"tvb_jaxfit": ("tvb_jaxfit", arguments.batch_size)}
        cases |= {f"TVB-Optim, {n} devices": (f"TVB-Optim {n}", None) for n in N_DEVICES}
    results = in_turns(arguments, cases)
    print(f"{arguments.n**2} points of {arguments.length / 1000:g} s of simulation")
    print(f"{'system':30}{'first run':>12}{'next runs':>12}{'processor':>12}")
    best = {}
    for name, rounds in results.items():
        first = min(result["seconds"][0] for result in rounds)
        best[name] = min(min(result["seconds"]) for result in rounds)
        print(f"{name:30}{first:11.2f}s{best[name]:11.2f}s{min(min(result['cpu']) for result in rounds):11.2f}s")
    differences = [r["difference"] for rounds in results.values() for r in rounds if r["difference"] is not None]
    print(f"largest relative difference of a sweep's value from the loss at its point: {max(differences):.1e}")
    theirs = [seconds for name, seconds in best.items() if name.startswith("TVB-Optim")]
    summary = {"best seconds": best, "difference": max(differences)}
    if theirs:
        summary["times faster"] = min(theirs) / best["tvb_jaxfit"]
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
