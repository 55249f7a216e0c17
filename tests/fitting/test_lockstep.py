"""Functions that run side by side, one evaluation of each at a time."""

import threading

import pytest

from tvb_jaxfit.fitting.linear.lockstep import Ended, in_lockstep


def _counting(n, seen):
    def function(evaluate):
        for value in range(n):
            seen.append(evaluate(value))

    return function


def test_each_round_evaluates_what_every_function_asks_for_in_the_calling_thread():
    rounds, seen = [], ([], [], [])

    def evaluate_all(asked):
        rounds.append((asked, threading.current_thread()))
        return [10 * place + argument for place, argument in asked]

    in_lockstep([_counting(n, each) for n, each in zip((3, 1, 2), seen, strict=True)], evaluate_all)
    assert [asked for asked, _ in rounds] == [[(0, 0), (1, 0), (2, 0)], [(0, 1), (2, 1)], [(0, 2)]]
    assert seen == ([0, 1, 2], [10], [20, 21])
    assert {thread for _, thread in rounds} == {threading.current_thread()}


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, Ended])
def test_an_error_of_an_evaluation_ends_all_functions(error):
    ended = []

    def function(evaluate):
        try:
            evaluate(0)
        finally:
            ended.append(True)

    def evaluate_all(asked):
        raise error("evaluation")

    if error is Ended:
        in_lockstep([function] * 2, evaluate_all)
    else:
        with pytest.raises(error, match="evaluation"):
            in_lockstep([function] * 2, evaluate_all)
    assert ended == [True, True]


def test_an_error_of_a_function_is_raised_after_the_others_are_done():
    def failing(evaluate):
        evaluate(0)
        raise ValueError("function")

    seen = []
    with pytest.raises(ValueError, match="function"):
        in_lockstep([failing, _counting(4, seen)], lambda asked: [0 for _ in asked])
    assert len(seen) == 4
