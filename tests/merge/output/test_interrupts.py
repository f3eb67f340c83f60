"""Interrupts while files are written wait for a safe point; a second one does not."""

import signal

import pytest

from merge.output.interrupts import held_interrupts


def work(reached: list[str], *blows: signal.Signals) -> None:
    """Note what is reached of some work that is interrupted."""
    with held_interrupts() as safe_point:
        safe_point()
        for blow in blows:
            signal.raise_signal(blow)
        reached.append("the end of a tensor")
        safe_point()
        reached.append("the next tensor")


@pytest.mark.parametrize(("blow", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)])
def test_an_interrupt_waits_for_the_safe_point(blow: signal.Signals, error: type[BaseException]) -> None:
    before, reached = signal.getsignal(blow), list[str]()
    with pytest.raises(error):
        work(reached, blow)
    assert reached == ["the end of a tensor"]
    assert signal.getsignal(blow) is before


def test_a_second_interrupt_acts_at_once() -> None:
    reached = list[str]()
    with pytest.raises(KeyboardInterrupt):
        work(reached, signal.SIGINT, signal.SIGINT)
    assert reached == []


def test_an_interrupt_after_the_last_safe_point_acts_at_the_end() -> None:
    def end() -> None:
        with held_interrupts():
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        end()
