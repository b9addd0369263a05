"""When a replica that fails is left alone."""

from inference.core.routing.breaker import FAILURES_TO_OPEN, LONGEST_PAUSE_SECONDS, Breaker


def test_a_breaker_opens_after_failures_in_a_row_and_closes_with_a_success() -> None:
    breaker = Breaker()
    for _ in range(FAILURES_TO_OPEN - 1):
        breaker.failed(100.0)
    breaker.succeeded()
    for _ in range(FAILURES_TO_OPEN - 1):
        breaker.failed(100.0)
    assert breaker.allows(100.0)
    assert breaker.state(100.0) == "closed"
    breaker.failed(100.0)
    assert not breaker.allows(100.9)
    assert breaker.state(100.9) == "open"
    assert breaker.allows(101.0), "after the pause one may try again"
    assert breaker.state(101.0) == "half_open"
    breaker.failed(101.0)
    assert not breaker.allows(102.9)
    for _ in range(2000):
        breaker.failed(200.0)
    assert breaker.allows(200.0 + LONGEST_PAUSE_SECONDS)
    breaker.succeeded()
    assert breaker.allows(0.0)
    assert breaker.state(0.0) == "closed"
