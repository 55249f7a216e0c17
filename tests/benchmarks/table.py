"""Every ratio that is asked of tvb_jaxfit, measured in one run, with what shows that the numbers are right.

Run by name, in an environment that has the ``benchmarks`` extra, on a machine that does nothing else::

    python tests/benchmarks/table.py --json table.json

Works run in processes of their own (``works.py``), repetitions in turns, so that a slow minute is everybody's. Ratios
are those of medians; memory is the peak of a whole process, in GB. A row is met where its ratio is what is asked and
its numbers are right. ``--quick`` runs all in tiny sizes: a check of the script, its ratios mean nothing.
"""

import argparse
import contextlib
import datetime
import importlib.metadata
import importlib.util
import json
import operator
import os
import platform
import statistics
from pathlib import Path

import sweep
from processes import in_turns, processes, say

FULL = {
    "length": 120_000.0,
    "repetitions": 9,
    "tvb_repetitions": 3,
    "rounds": 3,
    "few": 9,
    "model_steps": 6000,
    "steps": (30_000, 10_000, 100_000, 300_000),
    "regions": ((84, 1.0), (200, 1.0), (400, 1.0), (1000, 1.0), (400, 0.05), (1000, 0.05)),
    "region_steps": 3000,
    "horizons": (50, 1000, 4000, 10_000),
    "delay_steps": 3000,
    "sweep": [],
    "devices": sweep.N_DEVICES,
}
QUICK = {
    "length": 24_000.0,
    "repetitions": 2,
    "tvb_repetitions": 1,
    "rounds": 1,
    "few": 1,
    "model_steps": 200,
    "steps": (6000, 12_000),
    "regions": ((20, 1.0), (40, 0.2)),
    "region_steps": 500,
    "horizons": (50, 1000),
    "delay_steps": 300,
    "sweep": ["--n", "2", "--length", "24000", "--rounds", "1", "--runs", "1"],
    "devices": (2,),
}
PLAIN = "plain autodiff of our scan"
NOT_THERE = "TVB-Optim is not installed"
EXACT = 1e-9
HOLDS = {">=": operator.ge, "<=": operator.le}


def figure(value, than, within=EXACT):
    """How right the numbers are: a relative difference, from what, and whether it is small enough."""
    return {"difference": value, "from": than, "right": value <= within}


def row(work, system, seconds=None, first=None, ratio=None, asked=None, correctness=None, **more):
    """A row of the table; ``asked`` is (">=" or "<=", value)."""
    met = None
    if asked and ratio is not None:
        met = HOLDS[asked[0]](ratio, asked[1]) and (correctness is None or correctness["right"])
    return {
        "work": work,
        "system": system,
        "median": statistics.median(seconds) if seconds else None,
        "min": min(seconds) if seconds else None,
        "first call": first,
        "ratio": ratio,
        "asked": f"{asked[0]} {asked[1]:g}" if asked else None,
        "met": met,
        "correctness": correctness,
    } | more


def over(some, others):
    """Ratio of medians."""
    return statistics.median(some) / statistics.median(others)


def of_seed(sizes, tvboptim):
    """The seed workload in float64: loss, gradient, the same in TVB-Optim, by plain autodiff and in TVB."""
    length = sizes["length"]
    seed = ("seed", {"length": length, "tvboptim": tvboptim})
    with processes("seed workload", seed, ("tvb", {"length": length})) as (both, tvb):
        each = -(-sizes["repetitions"] // sizes["tvb_repetitions"])
        for begin in range(0, sizes["repetitions"], each):
            in_turns("seed workload", [both], min(each, sizes["repetitions"] - begin))
            in_turns("seed workload by TVB", [tvb], 1)
        say("seed workload: comparison with TVB and plain autodiff")
        figures = both.check()
    seconds, first, of_tvb = both.seconds, both.first, tvb.seconds["simulation"]
    bold = figure(figures["BOLD"], "TVB's BOLD, history in float64")
    by_plain = figure(figures["gradient"], "plain autodiff")
    yield row("loss", "tvb_jaxfit", seconds["loss"], first["loss"], correctness=bold)
    ratio = over(of_tvb, seconds["loss"])
    yield row("loss", "TVB, simulation alone", of_tvb, None, ratio, (">=", 80), bold)
    yield from beside("loss", both, figures, ("loss", 4), tvboptim)
    yield row("loss and gradient", "tvb_jaxfit", seconds["gradient"], first["gradient"], correctness=by_plain)
    yield from beside("loss and gradient", both, figures, ("gradient", 5), tvboptim)
    ratio = over(seconds["gradient, plain"], seconds["gradient"])
    plain = seconds["gradient, plain"], first["gradient, plain"]
    yield row("loss and gradient", f"{PLAIN}, states alone", *plain, ratio, correctness=by_plain)
    ratio = over(seconds["gradient"], seconds["loss"])
    yield row("gradient over loss", "tvb_jaxfit", ratio=ratio, asked=("<=", 2.7), correctness=by_plain)


def beside(what, both, figures, asked, tvboptim):
    """TVB-Optim's row beside ours."""
    name, least = asked
    if not tvboptim:
        yield row(what, NOT_THERE)
        return
    theirs = f"{name}, TVB-Optim"
    ratio = over(both.seconds[theirs], both.seconds[name])
    yield row(what, "TVB-Optim", both.seconds[theirs], both.first[theirs], ratio, (">=", least), on_our_draws(figures))


def on_our_draws(figures):
    """How far TVB-Optim's loss is from ours on the same noise: their BOLD is not TVB's to the last digit."""
    return figure(figures["loss, TVB-Optim"], "our loss, on our draws", 1e-2)


def of_precision(sizes, tvboptim):
    """Single precision against double precision."""
    what = "loss and gradient, float32 beside float64"
    options = {"length": sizes["length"]}
    single = options | {"environment": {"JAX_ENABLE_X64": "0"}}
    with processes(what, ("gradient", options), ("gradient", single)) as started:
        in_turns(what, started, sizes["repetitions"])
        double, single = (process.check() for process in started)
    pairs = zip(single["values"], double["values"], strict=True)
    worst = max(abs(a - b) for a, b in pairs) / max(map(abs, double["values"]))
    right = figure(worst, "the gradient in float64, maximum norm", 1e-3)
    slow, fast = (process.seconds["gradient"] for process in started)
    first = [process.first["gradient"] for process in started]
    by_plain = figure(double["gradient"], "plain autodiff")
    yield row(what, "tvb_jaxfit, float64", slow, first[0], correctness=by_plain)
    yield row(what, "tvb_jaxfit, float32", fast, first[1], over(slow, fast), (">=", 1.4), right)


def of_memory(sizes, tvboptim):
    """Peak memory and first call of the gradient, each round in new processes, which do nothing else."""
    what, modules = "gradient alone in a process", {"tvb_jaxfit": "works"}
    if tvboptim:
        modules["TVB-Optim"] = "theirs"
    rounds, right = {system: [] for system in modules}, {}
    for number in range(sizes["rounds"]):
        for system in modules:
            options = {"length": sizes["length"], "module": modules[system]}
            with processes(f"{what}, round {number + 1}", ("gradient", options)) as (process,):
                in_turns(what, [process], 3)
                if number == 0:
                    right[system] = process.check()
            rounds[system].append(process)
    right["tvb_jaxfit"] = figure(right["tvb_jaxfit"]["gradient"], "plain autodiff")
    peak, first, prepare = ({} for _ in range(3))
    for system, each in rounds.items():
        peak[system] = [process.peak for process in each]
        first[system] = [process.first["gradient"] for process in each]
        prepare[system] = statistics.median(process.prepared for process in each)
    more = {"correctness": right["tvb_jaxfit"], "GB": statistics.median(peak["tvb_jaxfit"])}
    ratio = over(peak["tvb_jaxfit"], peak["TVB-Optim"]) if tvboptim else None
    yield row("peak memory", "tvb_jaxfit", ratio=ratio, asked=("<=", 0.7), **more)
    if tvboptim:
        right["TVB-Optim"] = on_our_draws(right["TVB-Optim"])
        more = {"correctness": right["TVB-Optim"], "GB": statistics.median(peak["TVB-Optim"])}
        yield row("peak memory", "TVB-Optim", **more)
    what = "first call of the gradient"
    more = {"correctness": right["tvb_jaxfit"], "prepare": prepare["tvb_jaxfit"]}
    yield row(what, "tvb_jaxfit", first["tvb_jaxfit"], **more)
    if tvboptim:
        ratio = over(first["TVB-Optim"], first["tvb_jaxfit"])
        more = {"correctness": right["TVB-Optim"], "prepare": prepare["TVB-Optim"]}
        yield row(what, "TVB-Optim", first["TVB-Optim"], ratio=ratio, asked=(">=", 1), **more)
    else:
        yield row(f"peak memory, {what}", NOT_THERE)


def of_models(sizes, tvboptim):
    """Models with several variables, against plain autodiff of the same scan."""
    with processes("models", ("several_variables", {"n_steps": sizes["model_steps"]})) as (process,):
        in_turns("models", [process], sizes["few"])
        figures = process.check()
    for model, difference in figures.items():
        what, right = f"gradient, {model}", figure(difference, "plain autodiff")
        ours, plain = f"{model}, tvb_jaxfit", f"{model}, plain"
        yield row(what, "tvb_jaxfit", process.seconds[ours], process.first[ours], correctness=right)
        ratio = over(process.seconds[plain], process.seconds[ours])
        yield row(what, PLAIN, process.seconds[plain], process.first[plain], ratio, (">=", 2), right)


def of_steps(sizes, tvboptim):
    """Cost against the number of steps; the first number is what the others are measured by."""
    works = [("gradient", {"length": 4.0 * n}) for n in sizes["steps"]]
    with processes("steps", *works) as started:
        in_turns("steps", started, sizes["few"])
        say("steps: comparison with plain autodiff")
        # The peak is that of the last repetition, before anything is compared.
        figures = [process.check()["gradient"] for process in started]
    medians = (statistics.median(process.seconds["gradient"]) for process in started)
    each = [median / n for median, n in zip(medians, sizes["steps"], strict=True)]
    for n, process, one, difference in zip(sizes["steps"], started, each, figures, strict=True):
        seconds, first = process.seconds["gradient"], process.first["gradient"]
        more = {"correctness": figure(difference, "plain autodiff"), "us a step": one * 1e6, "GB": process.peak}
        ratio = one / each[0]
        away = {"ratio": ratio, "asked": ("<=", 1.1)} if n != sizes["steps"][0] else {}
        yield row(f"gradient of {n} steps", "tvb_jaxfit", seconds, first, **away, **more)
    n, process, right = max(zip(sizes["steps"], started, figures, strict=True), key=lambda one: one[0])
    right = figure(right, "plain autodiff")
    yield row(f"peak GB of {n} steps", "tvb_jaxfit", ratio=process.peak, asked=("<=", 1.5), correctness=right)


def of_regions(sizes, tvboptim):
    """Cost against the number of regions, beside the matrix products alone."""
    options = {"cases": sizes["regions"], "n_steps": sizes["region_steps"]}
    with processes("regions", ("regions", options)) as (process,):
        in_turns("regions", [process], sizes["few"])
        figures = process.check()
    for n_node, density in sizes["regions"]:
        name = f"{n_node} {density}"
        for what in ("loss", "gradient"):
            seconds, alone = process.seconds[f"{name} {what}"], process.seconds[f"{name} products of {what}"]
            more = {
                "correctness": figure(figures[name], "plain autodiff"),
                "us a step": statistics.median(seconds) / sizes["region_steps"] * 1e6,
                "part of products": over(alone, seconds),
            }
            title = f"{what}, {n_node} regions" + ("" if density == 1.0 else f", {density:.0%} of the weights")
            yield row(title, "tvb_jaxfit", seconds, process.first[f"{name} {what}"], **more)


def of_delays(sizes, tvboptim):
    """Cost against the longest delay in steps; the shortest is what the others are measured by."""
    horizons, n_steps = sizes["horizons"], sizes["delay_steps"]
    with processes("delays", ("delays", {"horizons": horizons, "n_steps": n_steps})) as (process,):
        in_turns("delays", [process], sizes["few"])
    for name, seconds in process.seconds.items():
        sending, horizon, what = name.rsplit(" ", 2)
        ratio = over(seconds, process.seconds[f"{sending} {horizons[0]} {what}"])
        title = f"{what}, {sending}, delays to {horizon} steps"
        each = statistics.median(seconds) / n_steps * 1e6
        yield row(title, "tvb_jaxfit", seconds, process.first[name], ratio, **{"us a step": each})


def of_sweep(sizes, tvboptim):
    """A sweep, as ``sweep.py`` times it."""
    arguments = sweep.parser().parse_args(sizes["sweep"])
    cases = {"tvb_jaxfit": ("tvb_jaxfit", None)}
    cases |= {f"TVB-Optim, {n} devices": (f"TVB-Optim {n}", None) for n in sizes["devices"] if tvboptim}
    what = f"sweep of {arguments.n**2} points, {arguments.length / 1000:g} s each"
    say(what)
    results = sweep.in_turns(arguments, cases)
    right = figure(max(result["difference"] for result in results["tvb_jaxfit"]), "losses at single points")
    best = {name: min(min(result["seconds"]) for result in rounds) for name, rounds in results.items()}
    fastest = min((name for name in best if name != "tvb_jaxfit"), key=best.get, default=None)
    for name, rounds in results.items():
        seconds = [one for result in rounds for one in result["seconds"]]
        first = min(result["seconds"][0] for result in rounds)
        # The faster of theirs counts, by the fastest run of each.
        ratio = {} if name == "tvb_jaxfit" else {"ratio": best[name] / best["tvb_jaxfit"]}
        asked = {"asked": (">=", 5)} if name == fastest else {}
        yield row(what, name, seconds, first, **ratio, **asked, correctness=right)
    if not tvboptim:
        yield row(what, NOT_THERE)


SECTIONS = {
    "seed": of_seed,
    "precision": of_precision,
    "memory": of_memory,
    "models": of_models,
    "steps": of_steps,
    "regions": of_regions,
    "delays": of_delays,
    "sweep": of_sweep,
}


def machine():
    """Where this was measured, and with what."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    versions = {}
    for package in ("jax", "tvb-library", "tvboptim"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return {
        "platform": platform.platform(),
        "processor": next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), None),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "python": platform.python_version(),
        "versions": versions,
    }


def shown(one):
    """A row as a line."""

    def number(value, unit=""):
        return "" if value is None else f"{value:.3g}{unit}"

    right, met = one["correctness"], one["met"]
    more = [f"{value:.3g} {name}" for name, value in one.items() if name in ("GB", "us a step", "part of products")]
    more += [f"prepare {one['prepare']:.2g}s"] if "prepare" in one else []
    more += [f"{right['difference']:.1e} from {right['from']}" + ("" if right["right"] else ": WRONG")] if right else []
    return (
        f"{one['work']:50}{one['system']:42}{number(one['median'], 's'):>9}{number(one['min'], 's'):>9}"
        f"{number(one['first call'], 's'):>9}{number(one['ratio']):>8}{one['asked'] or '':>8}"
        f"{'' if met is None else 'yes' if met else 'NO':>5}  {'; '.join(more)}"
    )


def main():
    """Measure, print as it goes, and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="where to write the table")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to check that this runs")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS), help="some of it")
    arguments = parser.parse_args()
    tvboptim = importlib.util.find_spec("tvboptim") is not None
    table = {"machine": machine(), "date": f"{datetime.date.today()}", "quick": arguments.quick}
    table["network"] = "dk_average" if tvboptim else "random weights: dk_average comes with TVB-Optim"
    table |= {"units": "seconds, GB, us (microseconds)", "rows": []}
    print(json.dumps(table["machine"]))
    columns = f"{'median':>9}{'min':>9}{'first':>9}{'ratio':>8}{'asked':>8}{'met':>5}"
    print(f"{'work':50}{'system':42}{columns}")
    for name in arguments.only:
        for one in SECTIONS[name](QUICK if arguments.quick else FULL, tvboptim):
            table["rows"].append(one)
            print(shown(one), flush=True)
        if arguments.json:
            arguments.json.write_text(json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    main()
