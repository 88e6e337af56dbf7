"""So many lines at once, then so many a second: the rest is counted, and told now and then."""

from __future__ import annotations

import time

from agenthost.placement.allowance import LONGEST, LONGEST_TRACE, Allowance, abridged, cut


def test_what_is_over_the_allowance_is_counted() -> None:
    allowance = Allowance(at_once=5, per_second=0.0)
    assert [allowance.take() for _ in range(7)] == [1, 1, 1, 1, 1, 0, 0]
    assert allowance.take(10) == 0
    assert allowance.left_out() == "12 lines left out: over 0 a second"
    assert allowance.left_out(at_end=True) == ""


def test_many_lines_are_taken_as_far_as_they_may_be() -> None:
    allowance = Allowance(at_once=5, per_second=0.0)
    assert (allowance.take(3), allowance.take(3), allowance.take(3)) == (3, 2, 0)
    assert allowance.left_out() == "4 lines left out: over 0 a second"


def test_it_is_not_told_again_at_once_but_at_the_end() -> None:
    allowance = Allowance(at_once=0, per_second=0.0)
    allowance.take()
    assert allowance.left_out()
    allowance.take()
    assert allowance.left_out() == ""
    assert allowance.left_out(at_end=True) == "1 lines left out: over 0 a second"


def test_with_time_more_may_be_logged() -> None:
    allowance = Allowance(at_once=2, per_second=1000.0)
    assert allowance.take(2) == 2
    deadline = time.monotonic() + 10
    while not allowance.take():
        assert time.monotonic() < deadline


def test_a_line_that_is_too_long_is_cut() -> None:
    assert cut("x" * LONGEST) == "x" * LONGEST
    assert cut("x" * (LONGEST + 1)) == "x" * LONGEST + f"… ({LONGEST + 1} characters)"


def test_a_traceback_that_is_too_long_keeps_its_beginning_and_its_end() -> None:
    assert abridged("x" * LONGEST_TRACE) == "x" * LONGEST_TRACE
    long = "Traceback" + "x" * LONGEST_TRACE + "ValueError: why"
    assert abridged(long).startswith("Tracebackx")
    assert abridged(long).endswith("xValueError: why")
    assert f"…\n({len(long)} characters)\n…" in abridged(long)
    assert len(abridged(long)) < LONGEST_TRACE + 50
