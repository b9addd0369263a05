"""verify: is what is served here billed as it was counted? Two requests, and a look at the ledger."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from common.errors import ComputilityError, NotFound, Unavailable
from common.ids import new_id
from common.units import format_credits
from control.cli.asking.options import session_of
from control.cli.asking.session import Credentials, Session
from control.console.output import console

if TYPE_CHECKING:
    from openai import OpenAI

    from common.client import Client

QUESTION = "What is a utility?"
MAX_ANSWER_TOKENS = 24
PAUSE_SECONDS = 1.0
BILL_SECONDS = 60.0


class NotBilled(ComputilityError):
    """The ledger has something else than the answers said."""


def verify(
    context: typer.Context,
    model: Annotated[
        str, typer.Argument(help="Name as `GET /v1/models` lists it; unset = any that is ready.")
    ] = "",
    wait_seconds: Annotated[
        float, typer.Option("--wait-seconds", min=0, help="Longest wait for an endpoint to be ready.")
    ] = 0.0,
) -> None:
    """Chat with a model, and check that the bill has what the answers said.

    One answer is plain, the other streams; the ledger has to have the tokens of both. It needs a
    platform-admin's key, makes one for the requests, and revokes that in the end.
    Example: computility verify tiny --wait-seconds 600
    """
    session, out = session_of(context), console()
    with session.client() as client:
        endpoint = _ready(client, model, time.monotonic() + wait_seconds)
        served, project = endpoint["status"]["servedName"], endpoint["metadata"]["project"]
        name = new_id("verify")
        secret = str(client.create_key(name, "member", project=project)["secret"])
        try:
            asked = _chat(_openai(session, secret), served, time.monotonic() + BILL_SECONDS)
            cost = _billed(client, name, asked, time.monotonic() + BILL_SECONDS)
        finally:
            client.revoke_key(name)
    out.print(
        f"{served}: {asked} tokens in two answers, the same in the ledger, for {format_credits(cost)} credits"
    )


def _ready(client: Client, model: str, deadline: float) -> Mapping[str, Any]:
    """An endpoint that is ready. Raises ``Unavailable`` that says what is there instead, and ``NotFound`` at
    once where there is none at all."""
    from control.console.tables.tables import condition

    while True:
        endpoints = client.list("endpoints")
        if not endpoints:
            raise NotFound("there is no endpoint to chat with; apply a Model and an Endpoint first")
        found = [each for each in endpoints if not model or each.get("status", {}).get("servedName") == model]
        for endpoint in found:
            said = condition(endpoint, "Ready")
            if said and said["status"] == "True":
                return endpoint
        if time.monotonic() >= deadline:
            names = ", ".join(each["metadata"]["name"] for each in endpoints)
            raise Unavailable(f"no endpoint{f' of {model}' if model else ''} is ready; there are: {names}")
        time.sleep(PAUSE_SECONDS)


def _openai(session: Session, secret: str) -> OpenAI:
    """The gateway, as the new key's holder."""
    kept = session.credentials
    return session.openai(Credentials(kept.control_url, kept.gateway_url, secret))


def _chat(client: OpenAI, model: str, deadline: float) -> int:
    """The tokens of a plain and a streamed answer. A gateway knows a new key after a moment."""
    import openai

    from control.console.openai_errors import of_openai

    while True:
        try:
            return _plain(client, model) + _streamed(client, model)
        except openai.AuthenticationError as error:
            if time.monotonic() >= deadline:
                raise of_openai(error) from error
            time.sleep(PAUSE_SECONDS)
        except openai.OpenAIError as error:
            raise of_openai(error) from error


def _plain(client: OpenAI, model: str) -> int:
    answer = client.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": QUESTION}],
        max_tokens=MAX_ANSWER_TOKENS,
        temperature=0,
    )
    if answer.usage is None:
        raise NotBilled(f"{model}: the answer tells no usage")
    return answer.usage.total_tokens


def _streamed(client: OpenAI, model: str) -> int:
    used = 0
    for chunk in client.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": QUESTION}],
        max_tokens=MAX_ANSWER_TOKENS,
        temperature=0,
        stream=True,
        stream_options={"include_usage": True},
    ):
        used = chunk.usage.total_tokens if chunk.usage else used
    if not used:
        raise NotBilled(f"{model}: the stream tells no usage")
    return used


def _billed(client: Client, key: str, asked: int, deadline: float) -> int:
    """What the key's requests cost, in micro-credits, once the ledger has all of them. Raises ``NotBilled``
    where it has more, or not all in time, and ``NotFound`` where it has none."""
    while True:
        total = client.usage(key=key)["total"]
        posted = int(total["prompt_tokens"]) + int(total["completion_tokens"])
        if posted == asked:
            return int(total["microcredits"])
        if posted > asked or time.monotonic() >= deadline:
            if not posted:
                raise NotFound(f"the ledger has nothing of {asked} tokens after {BILL_SECONDS:.0f} s")
            raise NotBilled(f"the answers said {asked} tokens, the ledger has {posted}")
        time.sleep(PAUSE_SECONDS)
