"""Options of ``tvb-jaxfit cohort`` that name columns, parts and workers."""

import argparse
import re

# Options of Slurm, with their types.
_SLURM = {"queue": str, "account": str, "cores": int, "memory": str, "walltime": str}


def cohort_problems(options: argparse.Namespace) -> list[str]:
    """Problems of the options of ``tvb-jaxfit cohort`` that a single fit does not have.

    Parameters
    ----------
    options : argparse.Namespace
    """
    problems = [problem for _, problem in map(parse_column, options.column) if problem]
    if options.workers is not None and options.workers < 0:
        problems.append(f"--workers {options.workers}: give at least 0")
    if options.scheduler and (options.slurm or options.workers is not None):
        problems.append("--scheduler: its cluster has its own workers; leave --slurm and --workers")
    if options.slurm is not None:
        problems += parse_slurm(options.slurm)[1]
    if options.array is not None and parse_array(options.array) is None:
        problems.append(f"--array {options.array}: give I/N, with I from 0 to N - 1")
    return problems


def parse_column(text: str) -> tuple[tuple[str, str], str]:
    """(name, value) of an option ``--column``, and the problem that it has.

    Parameters
    ----------
    text : str
    """
    name, _, value = text.partition("=")
    problem = "" if name.strip() and value.strip() else f"--column {text}: give NAME=VALUE"
    return (name.strip(), value.strip()), problem


def parse_array(text: str) -> tuple[int, int] | None:
    """(part, number of parts) of an option ``--array``; None for another text.

    Parameters
    ----------
    text : str
    """
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    part, n = (int(found[1]), int(found[2])) if found else (0, 0)
    return (part, n) if part < n else None


def parse_slurm(text: str) -> tuple[dict, list[str]]:
    """Options of the cluster, and the problems of an option ``--slurm``.

    Parameters
    ----------
    text : str
    """
    found, problems = {}, []
    for part in filter(None, text.split(",")):
        name, _, value = (each.strip() for each in part.partition("="))
        if name not in _SLURM or not value or (_SLURM[name] is int and not value.isdigit()):
            problems.append(f"--slurm {part}: give some of {', '.join(f'{each}=...' for each in _SLURM)}")
        else:
            found[name] = _SLURM[name](value)
    missing = [name for name in ("cores", "memory") if name not in found and not problems]
    if missing:
        problems.append(f"--slurm {text}: {' and '.join(missing)} missing")
    return found, problems
