"""What `computility verify` takes for billed, and what it says where something is missing."""

from types import SimpleNamespace as Thing
from typing import Any

import openai
import pytest

from common.errors import NotFound, Unavailable
from control.cli.machine import verify as module


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds; pauses move them on."""
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    monkeypatch.setattr(module, "time", Thing(monotonic=lambda: now[0], sleep=sleep))
    return now


class Control:
    """Control whose endpoint gets ready, and whose ledger fills up, look by look."""

    def __init__(self, ready_after: int = 0, posted: tuple[int, ...] = ()) -> None:
        self.ready_after, self.posted = ready_after, list(posted)

    def list(self, plural: str) -> list[dict[str, Any]]:
        assert plural == "endpoints"
        self.ready_after -= 1
        status = "True" if self.ready_after < 0 else "False"
        return [
            {
                "metadata": {"name": "tiny", "project": "p"},
                "status": {"servedName": "t", "conditions": [{"type": "Ready", "status": status}]},
            }
        ]

    def usage(self, key: str) -> dict[str, Any]:
        tokens = self.posted.pop(0) if len(self.posted) > 1 else self.posted[0]
        return {
            "total": {
                "prompt_tokens": tokens // 2,
                "completion_tokens": tokens - tokens // 2,
                "microcredits": 7,
            }
        }


def test_it_waits_for_an_endpoint_as_long_as_it_was_told() -> None:
    found = module._ready(Control(ready_after=3), "t", deadline=5)  # type: ignore[arg-type]
    assert found["metadata"]["name"] == "tiny"
    with pytest.raises(Unavailable, match="no endpoint is ready; there are: tiny"):
        module._ready(Control(ready_after=3), "", deadline=1)  # type: ignore[arg-type]
    with pytest.raises(Unavailable, match="no endpoint of other is ready"):
        module._ready(Control(), "other", deadline=0)  # type: ignore[arg-type]


def test_it_waits_for_nothing_where_there_is_no_endpoint(clock: list[float]) -> None:
    with pytest.raises(NotFound, match="no endpoint to chat with; apply a Model"):
        module._ready(Thing(list=lambda plural: []), "", deadline=600)  # type: ignore[arg-type]
    assert clock == [0.0]


def test_it_waits_until_the_ledger_has_all() -> None:
    assert module._billed(Control(posted=(0, 20, 50)), "k", 50, deadline=60) == 7  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("posted", "error", "said"),
    [(0, NotFound, "nothing of 50"), (20, module.NotBilled, "has 20"), (51, module.NotBilled, "has 51")],
)
def test_a_bill_that_differs_is_an_error(posted: int, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        module._billed(Control(posted=(posted,)), "k", 50, deadline=10)  # type: ignore[arg-type]


class Gateway:
    """The official client's surface; knows the key from some request on."""

    def __init__(self, unknown: int = 0, tells_usage: bool = True) -> None:
        self.unknown, self.usage = unknown, Thing(total_tokens=21) if tells_usage else None
        self.chat = Thing(completions=self)

    def create(self, *, stream: bool = False, **_: Any) -> Any:
        self.unknown -= 1
        if self.unknown >= 0:
            answer = Thing(request=None, status_code=401, headers={})
            raise openai.AuthenticationError("who?", response=answer, body=None)  # type: ignore[arg-type]
        return [Thing(usage=None), Thing(usage=self.usage)] if stream else Thing(usage=self.usage)


def test_a_new_key_is_known_after_a_moment() -> None:
    assert module._chat(Gateway(unknown=2), "t", deadline=60) == 42  # type: ignore[arg-type]


def test_answers_without_usage_are_an_error() -> None:
    with pytest.raises(module.NotBilled, match="no usage"):
        module._chat(Gateway(tells_usage=False), "t", deadline=60)  # type: ignore[arg-type]
    with pytest.raises(module.NotBilled, match="no usage"):
        module._streamed(Gateway(tells_usage=False), "t")  # type: ignore[arg-type]
