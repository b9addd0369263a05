"""chat: talk to a model through the gateway, as any OpenAI client does."""

from __future__ import annotations

import sys
from difflib import get_close_matches
from typing import TYPE_CHECKING, Annotated

import typer

from common.errors import ComputilityError, NotFound
from control.cli.asking.options import session_of
from control.console.output import console

if TYPE_CHECKING:
    from rich.console import Console

    from common.client_chat import ChatClient

Messages = list[dict[str, str]]
Options = dict[str, int | float]


def chat(
    context: typer.Context,
    model: Annotated[str, typer.Argument(help="Name of the model as `GET /v1/models` lists it.")],
    message: Annotated[str | None, typer.Argument(help="What to say; unset = a conversation.")] = None,
    system: Annotated[str, typer.Option("--system", help="System message.")] = "",
    max_tokens: Annotated[int | None, typer.Option("--max-tokens", min=1)] = None,
    temperature: Annotated[float | None, typer.Option("--temperature", min=0.0, max=2.0)] = None,
) -> None:
    """Chat with a model; the answer streams.

    Without a message it is a conversation (end with Ctrl-D); what is piped in is one message.
    Examples: computility chat tiny 'Hello'; echo Hello | computility chat tiny
    """
    messages: Messages = [{"role": "system", "content": system}] if system else []
    if message is None and not sys.stdin.isatty():
        message = sys.stdin.read()
    options = {"max_tokens": max_tokens, "temperature": temperature}
    chosen = {name: value for name, value in options.items() if value is not None}
    out = console()
    with session_of(context).chat() as client:
        try:
            if message is not None:
                _ask(client, out, model, [*messages, {"role": "user", "content": message}], chosen)
            else:
                _converse(client, out, model, messages, chosen)
        except NotFound as error:
            raise _with_nearest(client, model, error) from error


def _ask(client: ChatClient, out: Console, model: str, messages: Messages, options: Options) -> str:
    """Print the answer as it comes; returns it."""
    parts: list[str] = []
    for text in client.answer(model, messages, **options):
        parts.append(text)
        out.print(text, end="", markup=False, soft_wrap=True)
    out.print()
    return "".join(parts)


def _converse(client: ChatClient, out: Console, model: str, messages: Messages, options: Options) -> None:
    while True:
        try:
            said = out.input("[bold cyan]you>[/bold cyan] ")
        except (EOFError, KeyboardInterrupt):
            out.print()
            return
        if said.strip():
            messages.append({"role": "user", "content": said})
            messages.append({"role": "assistant", "content": _ask(client, out, model, messages, options)})


def _with_nearest(client: ChatClient, model: str, error: NotFound) -> NotFound:
    """The error with the model that may have been meant."""
    try:
        near = get_close_matches(model, client.models(), n=1, cutoff=0.5)
    except ComputilityError:
        return error
    return NotFound(f"{error.message} Did you mean {near[0]}?", error.code, error.param) if near else error
