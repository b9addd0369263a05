"""The commands in one table, and a group that loads only the one that is called: to load them all would take
longer than most of them run."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from control.cli.asking.values import taken_as_typed

HERE = "On this machine"
STATE = "Resources"
CHANGE = "Changes to what is there"
INSIGHT = "What happens, and what it costs"
ACCESS = "Models, jobs and keys"
CONTEXT: dict[str, Any] = {"help_option_names": ["-h", "--help"]}
COMPLETE_VARIABLE = "_COMPUTILITY_COMPLETE"
"""Set by a shell that asks what could come next."""


@dataclass(frozen=True)
class Row:
    """A command: its panel in the help, its module in ``control.cli``, and its help in a line. ``attribute``
    is its function, or the ``Typer`` of its commands; empty = of the command's name."""

    panel: str
    module: str
    summary: str
    attribute: str = ""


COMMANDS: dict[str, Row] = {
    "up": Row(
        HERE, "machine.lifecycle", "Start Ray, control and gateway on this machine; Ctrl-C stops all of it."
    ),
    "down": Row(HERE, "machine.lifecycle", "Stop a running `up`, or whatever a killed one left."),
    "demo": Row(
        HERE, "machine.demo", "Play the whole story: build, serve, chat, fine-tune, chat again, bill."
    ),
    "doctor": Row(HERE, "machine.doctor", "Check this machine and the platform on it, and say what to do."),
    "completion": Row(
        HERE, "machine.completion", "Print what makes a shell complete commands, kinds and names."
    ),
    "version": Row(HERE, "machine.version", "Print the version here and, where it runs, that of control."),
    "help": Row(HERE, "machine.version", "Show the help of a command.", "help_"),
    "get": Row(STATE, "get", "Show resources of one or more kinds, or one of them."),
    "describe": Row(STATE, "resources", "Show one resource with its conditions and its latest events."),
    "apply": Row(STATE, "resources", "Create resources or change them to what files say."),
    "diff": Row(STATE, "resources", "Show what apply would change; exit code 1 where that is something."),
    "delete": Row(STATE, "resources", "Delete resources by their names, or all that files name."),
    "edit": Row(CHANGE, "changes.edit", "Change a resource in your editor ($VISUAL, $EDITOR, else vi)."),
    "patch": Row(CHANGE, "changes.edit", "Change fields of a resource, and leave the others as they are."),
    "scale": Row(CHANGE, "changes.edit", "Set how many replicas an Endpoint or a role of a Workload has."),
    "wait": Row(CHANGE, "changes.waiting", "Wait until a resource has a condition or a value, or is gone."),
    "rollout": Row(
        CHANGE,
        "changes.rollout",
        "Follow changes of an endpoint or workload, restart its engines, go back.",
        "rollout_app",
    ),
    "cordon": Row(CHANGE, "changes.nodes", "Place nothing new on a node; what runs there stays."),
    "uncordon": Row(CHANGE, "changes.nodes", "Let a node be used again, after cordon or drain."),
    "drain": Row(CHANGE, "changes.nodes", "Cordon a node, have its work moved, and wait until it is empty."),
    "examples": Row(
        CHANGE,
        "machine.examples",
        "Apply `examples/` to a running Computility: a tenant, a project, an endpoint.",
    ),
    "top": Row(INSIGHT, "pool", "Show what is used of the pool, by whom, and what is left over."),
    "explain": Row(INSIGHT, "observe", "Say why a workload is where it is, or what it waits for."),
    "simulate": Row(INSIGHT, "pool", "Say whether Workloads or Jobs would start now and where, or why not."),
    "plan": Row(INSIGHT, "plan", "Show what would serve an Endpoint within its SLO, and its cost."),
    "route": Row(INSIGHT, "doors", "Show whom a Route would ask.", "route_app"),
    "logs": Row(INSIGHT, "observe", "Print what a workload printed."),
    "events": Row(INSIGHT, "observe", "Show what happened to resources, oldest first."),
    "usage": Row(INSIGHT, "observe", "Show what was used and what it costs, in credits."),
    "costs": Row(INSIGHT, "bills", "Print a tenant's month as FOCUS 1.2 cost rows, in CSV."),
    "invoice": Row(INSIGHT, "bills", "Issue, list and show invoices and credit notes.", "invoice_app"),
    "budget": Row(INSIGHT, "budgets", "Show budgets: spent, held, left.", "budget_app"),
    "product": Row(INSIGHT, "shelf", "Write and list what tenants can order.", "product_app"),
    "order": Row(INSIGHT, "orders", "Order products, and show what is used of orders.", "order_app"),
    "voucher": Row(INSIGHT, "shelf", "Issue vouchers, and redeem them.", "voucher_app"),
    "guardrails": Row(INSIGHT, "guardrails", "Try guardrails on texts.", "guardrails_app"),
    "outcomes": Row(
        INSIGHT, "outcomes", "Record what work brought, and show it beside what it cost.", "outcomes_app"
    ),
    "margin": Row(INSIGHT, "margin", "Show what models were charged beside what making it cost."),
    "reconcile": Row(INSIGHT, "reconcile", "Show where engines' counters, events and ledger differ."),
    "price": Row(INSIGHT, "prices", "Try price books on past usage.", "price_app"),
    "audit": Row(INSIGHT, "access.who", "Show who wrote what, and who was refused, newest first."),
    "chat": Row(ACCESS, "chat", "Chat with a model; the answer streams."),
    "run": Row(ACCESS, "work.run", "Run a command on the pool with the folder that you are in."),
    "shell": Row(ACCESS, "work.shell", "Open a terminal on the pool, in a job of its own with the folder."),
    "port-forward": Row(
        ACCESS, "work.forward", "Reach ports of a job on this machine; Ctrl-C ends it.", "port_forward"
    ),
    "jobs": Row(
        ACCESS,
        "work.jobs",
        "List, follow, cancel and fetch jobs; `run` makes them.",
        "jobs_app",
    ),
    "files": Row(ACCESS, "access.files", "Upload, list, get and delete files of a project.", "files_app"),
    "batches": Row(
        ACCESS,
        "access.batches",
        "Make, list, watch and cancel batches of requests, and get their answers.",
        "batches_app",
    ),
    "finetunes": Row(
        ACCESS, "access.finetunes", "Make, list, watch, try and cancel fine-tuning jobs.", "finetunes_app"
    ),
    "verify": Row(
        ACCESS, "machine.verify", "Chat with a model, and check that the bill has what the answers said."
    ),
    "keys": Row(ACCESS, "keys", "Make, list and revoke API keys.", "keys_app"),
    "pause": Row(
        ACCESS,
        "access.pauses",
        "Stop a key, project, tenant or model at once, until `resume`; or list what is paused.",
    ),
    "resume": Row(ACCESS, "access.pauses", "Let what is paused go on."),
    "whoami": Row(
        ACCESS,
        "access.who",
        "Show name, role, tenant and project of the key in use, and the budgets that bind it.",
    ),
    "config": Row(ACCESS, "access.config", "Several Computilities by name: contexts.", "config_app"),
}


INSTEAD = {
    **dict.fromkeys(("create", "replace"), " Use `computility apply -f FILE`."),
    **dict.fromkeys(("label", "annotate", "set"), " Use `computility patch KIND NAME -p PATCH` or edit."),
    **dict.fromkeys(("submit", "launch"), " Use `computility run -- COMMAND`."),
    **dict.fromkeys(("exec", "ssh"), " Use `computility shell`, or `computility run -- COMMAND`."),
    **dict.fromkeys(("status", "ps"), " Use `computility top`, or `computility get all`."),
    **dict.fromkeys(
        ("api-resources", "api-versions"), " `computility explain KIND` shows a kind; `get` lists them."
    ),
    **dict.fromkeys(("login", "use", "context"), " Use `computility config set NAME`."),
    **dict.fromkeys(("auth", "can-i"), " Use `computility whoami`."),
    **dict.fromkeys(("start", "serve"), " Use `computility up` here, or apply an Endpoint."),
    **dict.fromkeys(
        ("stop", "kill"),
        " Use `computility delete KIND NAME`, or `pause` for a key, project, tenant or model; "
        "`computility down` stops all of it.",
    ),
}
"""What people type who come from elsewhere, and what does it here."""


class CommandGroup(TyperGroup):
    """The commands of the table; a listing of them all goes by their rows."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        taken_as_typed(self)

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        row = COMMANDS.get(cmd_name)
        if row is None:
            return None
        if self._is_listing(ctx):
            return TyperCommand(cmd_name, help=row.summary, rich_help_panel=row.panel)
        return load(cmd_name, row)

    def resolve_command(self, ctx: Any, args: Any) -> Any:
        """With the nearest names for one that is none."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-") and not ctx.resilient_parsing:
            near = get_close_matches(args[0], COMMANDS, n=3)
            meant = f" Did you mean {', '.join(near)}?" if near else " `computility --help` lists them."
            meant = INSTEAD.get(args[0], meant)
            ctx.fail(f"No such command {args[0]!r}.{meant}")
        return super().resolve_command(ctx, args)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        ctx.meta[_LISTING] = True
        super().format_help(ctx, formatter)

    def shell_complete(self, ctx: Any, incomplete: str) -> Any:
        ctx.meta[_LISTING] = True
        return super().shell_complete(ctx, incomplete)

    def _is_listing(self, ctx: Any) -> bool:
        return bool(ctx.meta.get(_LISTING))


_LISTING = "computility.listing"


def load(name: str, row: Row) -> Any:
    """The command itself, from its module."""
    found = getattr(import_module(f"control.cli.{row.module}"), row.attribute or name)
    app = found
    if not isinstance(found, typer.Typer):
        app = typer.Typer(add_completion=False, context_settings=CONTEXT)
        app.command(name)(found)
    command = typer.main.get_command(app)
    command.name = name
    return taken_as_typed(command)
