"""chat: talk to a model through the gateway, as any OpenAI client does."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, cast

import typer

from control.cli.asking.options import session_of
from control.console.output import console

if TYPE_CHECKING:
    from openai import OpenAI
    from openai.types.chat import ChatCompletionMessageParam
    from rich.console import Console

    Messages = list[ChatCompletionMessageParam]


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
    import openai

    from control.console.openai_errors import of_openai

    messages: Messages = [{"role": "system", "content": system}] if system else []
    if message is None and not sys.stdin.isatty():
        message = sys.stdin.read()
    options = {"max_tokens": max_tokens, "temperature": temperature}
    chosen = {name: value for name, value in options.items() if value is not None}
    out = console()
    with session_of(context).openai() as client:
        try:
            if message is not None:
                _ask(client, out, model, [*messages, {"role": "user", "content": message}], chosen)
            else:
                _converse(client, out, model, messages, chosen)
        except openai.OpenAIError as error:
            raise of_openai(error) from error


def _ask(
    client: OpenAI, out: Console, model: str, messages: Messages, options: dict[str, int | float]
) -> str:
    """Print the answer as it comes; returns it."""
    import openai

    parts: list[str] = []
    stream = client.chat.completions.create(
        model=model,
        messages=messages,
        stream=True,
        max_tokens=cast("int | None", options.get("max_tokens", openai.omit)),
        temperature=options.get("temperature", openai.omit),
    )
    for chunk in stream:
        text = chunk.choices[0].delta.content if chunk.choices else None
        if text:
            parts.append(text)
            out.print(text, end="", markup=False, soft_wrap=True)
    out.print()
    return "".join(parts)


def _converse(
    client: OpenAI, out: Console, model: str, messages: Messages, options: dict[str, int | float]
) -> None:
    while True:
        try:
            said = out.input("[bold cyan]you>[/bold cyan] ")
        except (EOFError, KeyboardInterrupt):
            out.print()
            return
        if said.strip():
            messages.append({"role": "user", "content": said})
            messages.append({"role": "assistant", "content": _ask(client, out, model, messages, options)})
