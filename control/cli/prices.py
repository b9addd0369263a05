"""price: what new prices would have cost."""

from __future__ import annotations

from typing import Annotated

import typer

from common.clock import SYSTEM_CLOCK, rfc3339
from common.errors import ComputilityError, InvalidInput
from control.cli.asking.options import FilesOption, OutputOption, session_of
from control.console.documents.manifests import blame, read_manifests
from control.console.formats import Output
from control.console.output import console, print_document
from control.console.tables.price_table import print_dry_run
from control.console.told.moments import parse_span

price_app = typer.Typer(help="Try price books on past usage.", no_args_is_help=True)


@price_app.callback()
def _prices() -> None:
    """Try price books on past usage."""


@price_app.command("dry-run")
def dry_run(
    context: typer.Context,
    filename: FilesOption,
    since: Annotated[str, typer.Option("--since", help="Usage of so long, like 7d or 24h.")] = "",
    begin: Annotated[str | None, typer.Option("--from", help="Begin, like 2026-11-01.")] = None,
    until: Annotated[str | None, typer.Option("--until", help="End (not included); unset = now.")] = None,
    tenant: Annotated[str | None, typer.Option("--tenant", help="Only of this tenant.")] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show what past usage would have cost with new price books, by tenant (platform-admin).

    Nothing is written. The books count for the whole time, whenever they begin.

    Example: computility price dry-run -f book.yaml --since 30d
    """
    if bool(since) == bool(begin):
        raise InvalidInput("--since or --from: give one of them", param="--since")
    if since:
        begin = rfc3339(max(0, SYSTEM_CLOCK.now_ms() - round(parse_span(since, "--since") * 1000)))
    manifests = read_manifests(filename)
    for manifest in manifests:
        manifest.require_json()
    with session_of(context).client() as client:
        try:
            answer = client.price_dry_run([one.content for one in manifests], begin or "", until, tenant)
        except ComputilityError as error:
            raise blame(manifests, error) from error
    if output in (Output.YAML, Output.JSON):
        print_document(answer, output)
    else:
        print_dry_run(console(), answer)
