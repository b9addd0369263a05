"""keys: make, list and revoke API keys."""

from __future__ import annotations

from typing import Annotated

import typer

from common.clock import SYSTEM_CLOCK
from control.cli.asking.options import OutputOption, ProjectOption, project_of, session_of
from control.console.formats import Output
from control.console.output import console, print_document, print_table, to_stderr
from control.console.tables.tables import resource_table

SECONDS_PER_DAY = 86_400
keys_app = typer.Typer(help="Make, list and revoke API keys.", no_args_is_help=True, add_completion=False)


@keys_app.command()
def create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Name of the key; it appears on the bill.")],
    role: Annotated[
        str, typer.Option("--role", help="platform-admin, tenant-admin, member or agent.")
    ] = "agent",
    tenant: Annotated[str | None, typer.Option("--tenant", help="For tenant-admins.")] = None,
    project: ProjectOption = None,
    model: Annotated[
        list[str] | None, typer.Option("--model", help="Only this model; may be given again. Unset = all.")
    ] = None,
    days: Annotated[
        int | None, typer.Option("--days", min=1, help="Valid for so long; unset = always.")
    ] = None,
    rpm: Annotated[int | None, typer.Option("--rpm", help="Requests per minute; unset = no limit.")] = None,
    tpm: Annotated[int | None, typer.Option("--tpm", help="Tokens per minute, prompts and answers.")] = None,
    concurrent: Annotated[
        int | None, typer.Option("--concurrent", help="Requests open at the same time.")
    ] = None,
    sequences: Annotated[
        int | None, typer.Option("--sequences", help="Answers that one request may ask for.")
    ] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Make a key. Its secret is shown this once and kept nowhere.

    A platform-admin may do everything, a tenant-admin all of its tenant, a member all of its project but
    keys, an agent only call models: `docs/roles.md`.

    Example: computility keys create ci --role member --project acme-agents --days 90 --rpm 60
    """
    asked = {
        "requestsPerMinute": rpm,
        "tokensPerMinute": tpm,
        "concurrentRequests": concurrent,
        "sequencesPerRequest": sequences,
    }
    limits = {limit: most for limit, most in asked.items() if most is not None}
    expires = SYSTEM_CLOCK.now_ms() + days * SECONDS_PER_DAY * 1000 if days else None
    where = project_of(context, project) if role in ("member", "agent") else project
    with session_of(context).client() as client:
        made = client.create_key(
            name,
            role,
            tenant=tenant,
            project=where,
            models=model or (),
            expires_ms=expires,
            rate_limits=limits,
        )
    for odd in made.get("warnings", ()):
        to_stderr(f"warning: {odd}")
    if output in (Output.YAML, Output.JSON):
        print_document(made, output)
        return
    out = console()
    out.print(f"key {name} ({role}); keep this secret, it is not shown again:")
    out.print(made["secret"], style="bold", markup=False, soft_wrap=True)


@keys_app.command("list")
def list_(context: typer.Context, output: OutputOption = Output.TABLE) -> None:
    """List the keys that you may see, without their secrets.

    Example: computility keys list -o wide
    """
    with session_of(context).client() as client:
        items = client.list_keys()
    if output in (Output.YAML, Output.JSON):
        print_document({"items": items}, output)
    elif items:
        print_table(*resource_table("ApiKey", items, output is Output.WIDE))
    else:
        console().print("no keys", style="dim")


@keys_app.command()
def revoke(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Name of the key.")],
    made: Annotated[
        bool, typer.Option("--made", help="Also the keys that were made with it, and with those.")
    ] = False,
) -> None:
    """Make a key invalid from now on.

    Example: computility keys revoke ci
    """
    with session_of(context).client() as client:
        client.revoke_key(name, made=made)
    console().print(f"key/{name} [red]revoked[/red]")
