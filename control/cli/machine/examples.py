"""examples: the small model and the resources that show what can be done."""

from __future__ import annotations

from typing import Annotated

import typer

from control.cli.asking.options import session_of
from control.console.output import console


def examples(
    context: typer.Context,
    model: Annotated[str, typer.Option("--model", help="Serve this model: a folder or a hub name.")] = "",
) -> None:
    """Apply `examples/` to a running Computility: a tenant, a project, an endpoint.

    The small model that it serves is made in the home first, unless it is there: run this where control's
    home is. Example: computility examples --model Qwen/Qwen3-0.6B
    """
    from control.console.display import Stage
    from control.console.documents.outcomes import apply_manifests
    from control.demo import story

    session, out = session_of(context), console()
    story.check_source(model)
    manifests = story.example_manifests(model)
    if story.needs_tiny_model(manifests) and not story.tiny_model_folder(session.settings).exists():
        with Stage(out, "building the small base model (up to a minute, once)") as stage:
            for warning in story.build_tiny_model(session.settings):
                stage.say(warning)
    with session.client() as client:
        apply_manifests(client, manifests, out)
