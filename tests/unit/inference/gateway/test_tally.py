"""What is counted between two looks at the metrics is told at the next one, once."""

from prometheus_client import CollectorRegistry

from inference.gateway.metrics import Tally


def test_it_tells_all_that_was_counted() -> None:
    registry = CollectorRegistry()
    tally = Tally("asked", "Questions", ("who", "how"), registry=registry)
    for _ in range(3):
        tally.count("ann", "twice")
    tally.count("bob", "once", amount=0)
    tally.labels("ann", "twice").inc()
    for _ in range(2):
        assert registry.get_sample_value("asked_total", {"who": "ann", "how": "twice"}) == 4
    assert registry.get_sample_value("asked_total", {"who": "bob", "how": "once"}) == 0
    tally.count("ann", "twice")
    tally.remove_by_labels({"who": "ann"})
    assert registry.get_sample_value("asked_total", {"who": "ann", "how": "twice"}) is None
