"""plan: what would serve an Endpoint, and what that would cost, before it is applied."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from common.errors import ComputilityError, InvalidInput
from common.private import at_home
from common.strict_json import parse_json
from control.cli.asking.options import FilesOption, JsonOption, OutputOption, session_of
from control.console.documents.manifests import blame, read_manifests
from control.console.formats import Output
from control.console.output import console, print_document
from control.console.tables.plan_table import print_plan

_TRAFFIC, _SLO = "traffic", "slo"


def plan(
    context: typer.Context,
    filename: FilesOption,
    requests_per_second: Annotated[
        float | None,
        typer.Option("--requests-per-second", "-r", help="Load; unset = as many as can be served."),
    ] = None,
    prompt_tokens: Annotated[
        int | None, typer.Option("--prompt-tokens", help="Mean length of prompts.")
    ] = None,
    output_tokens: Annotated[
        int | None, typer.Option("--output-tokens", help="Mean length of answers.")
    ] = None,
    ttft_ms: Annotated[
        float | None, typer.Option("--ttft-ms", help="Longest time to the first token.")
    ] = None,
    itl_ms: Annotated[float | None, typer.Option("--itl-ms", help="Longest time between two tokens.")] = None,
    devices: Annotated[
        list[str] | None,
        typer.Option(
            "--devices",
            "-d",
            help="Plan with these, not the pool's: vendor/model=count or =count/perNode. Repeat it.",
        ),
    ] = None,
    model_config: Annotated[
        Path | None, typer.Option("--model-config", help="The Model's config.json, where control has none.")
    ] = None,
    output: OutputOption = Output.TABLE,
    as_json: JsonOption = False,
) -> None:
    """Show what would serve an Endpoint within its SLO, and its cost.

    Nothing is written. One engine, replicas, or prefill and decode apart, on each model of devices and
    each size of engine. What spec.traffic and spec.slo of the Endpoint say, the options here say in their
    place.

    Examples: computility plan -f endpoint.yaml --ttft-ms 1000 --itl-ms 20;
    computility plan -f endpoint.yaml -r 20 -d nvidia/H200=16 -d nvidia/A100=8
    """
    traffic = {
        "requestsPerSecond": requests_per_second,
        "promptTokens": prompt_tokens,
        "outputTokens": output_tokens,
    }
    slo = {"ttftMilliseconds": ttft_ms, "interTokenMilliseconds": itl_ms}
    manifests = read_manifests(filename)
    for manifest in manifests:
        manifest.require_json()
    documents = [_with(_with(manifest.content, _TRAFFIC, traffic), _SLO, slo) for manifest in manifests]
    offered = [_offered(text) for text in devices] if devices else None
    config = _config(model_config) if model_config else None
    with session_of(context).client() as client:
        try:
            answer = client.plan(documents, config=config, devices=offered)
        except ComputilityError as error:
            raise blame(manifests, error) from error
    if as_json or output in (Output.YAML, Output.JSON):
        print_document(answer, Output.YAML if output is Output.YAML else Output.JSON)
    else:
        print_plan(console(), answer)


def _with(document: Mapping[str, Any], part: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """The document; of an Endpoint, with these values in that part of its spec."""
    changed = copy.deepcopy(dict(document))
    given = {name: value for name, value in values.items() if value is not None}
    spec = changed.get("spec")
    if changed.get("kind") == "Endpoint" and isinstance(spec, dict) and given:
        said = spec.get(part) or {}
        spec[part] = {**said, **given} if isinstance(said, dict) else said
    return changed


def _offered(text: str) -> dict[str, Any]:
    """``nvidia/H200=16/8`` as control takes it."""
    device_class, _, counts = text.partition("=")
    count, slash, per_node = counts.partition("/")
    numbers = [count, per_node] if slash else [count]
    if not device_class or not all(number.isascii() and number.isdigit() for number in numbers):
        raise InvalidInput(
            f"--devices: {text!r}: write vendor/model=count, e.g. nvidia/H200=16", param="--devices"
        )
    offered: dict[str, Any] = {"deviceClass": device_class, "count": int(count)}
    return {**offered, "perNode": int(per_node)} if slash else offered


def _config(path: Path) -> dict[str, Any]:
    try:
        content = parse_json(at_home(str(path)).read_bytes())
    except OSError as error:
        raise InvalidInput(f"--model-config: {path}: {error.strerror}", param="--model-config") from error
    if not isinstance(content, dict):
        raise InvalidInput(f"--model-config: {path}: must be a mapping", param="--model-config")
    return content
