"""How plans of Endpoints are printed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console

from common.units import format_bytes, format_credits
from control.console.output import print_table

TITLES = ["", "MODE", "DEV", "ENGINES", "TTFT", "ITL", "REQ/S", "TOK/S/DEV", "COST/M", "BY"]


def print_plan(out: Console, answer: Mapping[str, Any]) -> None:
    """For each Endpoint its load, the options with the advised one marked, why, and what does not do."""
    for one in answer["plans"]:
        _print_head(out, one)
        options = one["options"]
        if options:
            rows = [_row(option, place == one.get("taken")) for place, option in enumerate(options)]
            print_table(TITLES, rows, out)
        for reason in one["reasons"]:
            out.print(f"  {reason}", markup=False)
        if one["refusals"]:
            rows = [[no["deviceClass"], _mode(no["mode"]), no["message"]] for no in one["refusals"]]
            print_table(["NOT ON", "AS", "WHY"], rows, out)
        if one.get("taken") is not None:
            out.print(f"  spec: {{{_advice(options[one['taken']])}}}", markup=False)
    out.print(
        "* advised; milliseconds and rates at full load; COST/M: credits of device time for a million "
        "tokens out; nothing was written",
        style="dim",
    )


def _print_head(out: Console, one: Mapping[str, Any]) -> None:
    traffic, slo = one["traffic"], one["slo"]
    load = f"{traffic['promptTokens']:,} tokens in, {traffic['outputTokens']:,} out"
    rate = traffic.get("requestsPerSecond")
    load += f", {rate:g} requests/s" if rate else ", as many as can be served"
    limits = [
        f"{title} {slo[key]:,.10g} ms"
        for title, key in (("TTFT", "ttftMilliseconds"), ("ITL", "interTokenMilliseconds"))
        if slo.get(key)
    ]
    out.print(f"[bold]{one['project']}/{one['name']}[/bold] ", end="")
    out.print(
        f"serves {one['model']}: {one['parameters'] / 1e9:.1f}B parameters, "
        f"{format_bytes(one['weightBytes'])} of weights, "
        f"{format_bytes(one['kvBytesPerToken'])} of KV cache a token",
        markup=False,
    )
    assumed = " (assumed: spec.traffic is not set)" if one["trafficAssumed"] else ""
    out.print(f"  load: {load}{assumed}", markup=False)
    for role in one.get("roles") or ():
        out.print(f"  {role['role']} may be on: {', '.join(role['deviceClasses']) or 'none'}", markup=False)
    out.print(f"  SLO: {', '.join(limits) or 'none'}", markup=False)


def _row(option: Mapping[str, Any], taken: bool) -> list[object]:
    cost = option.get("microcreditsPerMillionOutputTokens")
    legs = option["legs"]
    return [
        "*" if taken else " ",
        option["mode"],
        option["devices"],
        "\n".join(_engines(leg) for leg in legs),
        f"{option['ttftMilliseconds']:,.0f}",
        f"{option['interTokenMilliseconds']:,.1f}",
        f"{option['capacityRequestsPerSecond']:,.1f}",
        f"{option['outputTokensPerSecondPerDevice']:,.0f}",
        None if cost is None else format_credits(cost),
        ", ".join(sorted({leg["source"] for leg in legs})),
    ]


def _engines(leg: Mapping[str, Any]) -> str:
    stages = f" pp{leg['pipelineParallel']}" if leg["pipelineParallel"] > 1 else ""
    role = "" if leg["role"] == "serve" else f" {leg['role']}"
    model = leg["deviceClass"].partition("/")[2]
    return f"{leg['engines']}{role} × tp{leg['tensorParallel']}{stages} {model}"


def _mode(mode: str) -> str:
    return "" if mode == "any" else mode


def _advice(option: Mapping[str, Any]) -> str:
    """What an Endpoint's spec says to be served so."""
    parts = [f"mode: {option['mode']}"]
    for leg in option["legs"]:
        vendor, _, model = leg["deviceClass"].partition("/")
        tensor, stages = leg["tensorParallel"], leg["pipelineParallel"]
        devices = f"devices: {{count: {tensor * stages}, vendors: [{vendor}], models: [{model}]}}"
        args = f"args: [--tensor-parallel-size={tensor}, --pipeline-parallel-size={stages}]"
        if leg["role"] == "serve":
            more = [f"engine: {{{args}}}"] if stages > 1 else []
            parts += [f"replicas: {leg['engines']}", devices, *more]
        else:
            inside = [f"replicas: {leg['engines']}", devices, *([args] if stages > 1 else [])]
            parts.append(f"{leg['role']}: {{{', '.join(inside)}}}")
    return ", ".join(parts)
