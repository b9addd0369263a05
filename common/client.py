"""A small client of the control API, for the CLI and for scripts."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote

import httpx

from common.client_orders import OrderClient
from common.client_transport import Document, Documents, query_of
from common.error_bodies import error_from_body

DRAIN_MARGIN_SECONDS = 15.0
PAGE_ITEMS = 1000
"""A list that comes in pages has more where one has so many."""


class Client(OrderClient):
    """What control answers, a method for each question."""

    # Resources

    def apply(self, doc: Mapping[str, Any], dry_run: bool = False) -> Document:
        """Apply one resource; answers ``{"outcome": "created|configured|unchanged", "resource": {…}}``."""
        results: Documents = self._write("POST", "/api/v1/apply", doc, dry_run=dry_run)["results"]
        return results[0]

    def apply_all(self, docs: Sequence[Mapping[str, Any]], dry_run: bool = False) -> Documents:
        """Apply several resources in the order given; all are checked before the first is written."""
        results: Documents = self._write("POST", "/api/v1/apply", list(docs), dry_run=dry_run)["results"]
        return results

    def get(self, plural: str, name: str, project: str | None = None) -> Document:
        """One resource; raises ``NotFound``."""
        return self._read(f"/api/v1/{plural}/{name}", project=project)

    def list(
        self, plural: str, project: str | None = None, labels: Mapping[str, str] | None = None
    ) -> Documents:
        """All visible resources of a kind (of one project, with these labels)."""
        return self.list_at(plural, project, labels)[0]

    def list_at(
        self, plural: str, project: str | None = None, labels: Mapping[str, str] | None = None
    ) -> tuple[Documents, int]:
        """The same with the revision from which a watch goes on without a gap; 0 where control says none."""
        chosen = ",".join(f"{key}={value}" for key, value in (labels or {}).items()) or None
        answer = self._read(f"/api/v1/{plural}", project=project, labels=chosen)
        return answer["items"], int(answer.get("revision", 0))

    def delete(
        self,
        plural: str,
        name: str,
        project: str | None = None,
        *,
        dry_run: bool = False,
        resource_version: int | None = None,
    ) -> Document:
        """Delete and return a resource; ``Conflict`` names what still uses it."""
        return self._write(
            "DELETE",
            f"/api/v1/{plural}/{name}",
            None,
            project=project,
            dry_run=dry_run,
            resource_version=resource_version,
        )

    def watch(
        self,
        kinds: Sequence[str] = (),
        project: str | None = None,
        since: int | None = None,
        *,
        heartbeats: bool = False,
    ) -> Iterator[Document]:
        """Changes as ``{"type": "put|delete", "revision": n, "resource": {…}}``, without end.

        ``kinds`` are kind names; ``since`` is a revision (unset = from now on). With ``heartbeats``
        ``{"type": "heartbeat", "revision": n}`` is given out too, so that a caller wakes when nothing
        changes.
        """
        params = {"kinds": ",".join(kinds) or None, "project": project, "since": since}
        for line in self._stream("/api/v1/watch", params):
            if line.strip():
                change: Document = json.loads(line)
                if heartbeats or change["type"] != "heartbeat":
                    yield change

    def events(
        self,
        kind: str | None = None,
        name: str | None = None,
        project: str | None = None,
        *,
        after: str | None = None,
        limit: int = 100,
    ) -> Documents:
        """Events, oldest first: those after the one with that id, or else the latest."""
        query = {"kind": kind, "name": name, "project": project, "after": after, "limit": limit}
        answer = self._read("/api/v1/events", **query, newest="true" if after is None else None)
        items: Documents = answer["items"]
        return items

    # Workloads, usage, audit

    def explain(self, name: str, project: str | None = None) -> Document:
        """Why a workload is where it is, or what it waits for."""
        return self._read(f"/api/v1/workloads/{name}/explain", project=project)

    def explain_endpoint(self, name: str, project: str | None = None) -> Document:
        """How many engines an endpoint is to have, has, and why."""
        return self._read(f"/api/v1/endpoints/{name}/explain", project=project)

    def revisions(self, name: str, project: str | None = None) -> Documents:
        """The specs that an endpoint has and had, newest first, with who wrote them."""
        items: Documents = self._read(f"/api/v1/endpoints/{name}/revisions", project=project)["items"]
        return items

    def overview(self, limit: int = 10) -> Document:
        """The pool now: devices, nodes, queues and workloads, as far as the key may see them; at most
        ``limit`` nodes and workloads."""
        return self._read("/api/v1/overview", limit=limit)

    def series(
        self, node: str, *, device: str | None = None, window_seconds: int = 3600, step_seconds: int = 0
    ) -> Document:
        """The load of a node's devices (or of that one) lately; as means over steps, or (0) every sample."""
        path = f"/api/v1/nodes/{node}/series"
        return self._read(path, device=device, window_seconds=window_seconds, step_seconds=step_seconds)

    def simulate(self, docs: Sequence[Mapping[str, Any]], *, at_head: bool = False) -> Document:
        """What the scheduler would decide if these Workloads were applied; nothing is written."""
        return self._answer(
            self._send(
                "POST", "/api/v1/simulate", params=query_of({"at_head": at_head or None}), json=list(docs)
            )
        )

    def explain_route(
        self,
        name: str,
        *,
        project: str | None = None,
        request: Mapping[str, Any] | None = None,
        data_class: str | None = None,
    ) -> Document:
        """Whom the Route would ask for a request, and why not the others; nobody is asked."""
        body = {"request": request, "dataClass": data_class}
        where = f"?project={quote(project, safe='')}" if project else ""
        path = f"/api/v1/routes/{quote(name, safe='')}/explain{where}"
        return self._answer(self._send("POST", path, json={k: v for k, v in body.items() if v is not None}))

    def plan(
        self,
        docs: Sequence[Mapping[str, Any]],
        *,
        config: Mapping[str, Any] | None = None,
        devices: Sequence[Mapping[str, Any]] | None = None,
    ) -> Document:
        """What would serve the Endpoints among these documents, and at what cost; nothing is written.
        ``config``: their Model's config.json. ``devices``: in place of the pool's."""
        body = {"documents": list(docs), "config": config, "devices": devices}
        return self._answer(
            self._send("POST", "/api/v1/plan", json={k: v for k, v in body.items() if v is not None})
        )

    def logs(
        self,
        name: str,
        project: str | None = None,
        rank: int = 0,
        follow: bool = False,
        *,
        attempt: int | None = None,
        tail_lines: int | None = None,
        since_seconds: float | None = None,
        timestamps: bool = False,
    ) -> Iterator[str]:
        """The lines that a rank of a workload printed, without line ends."""
        params = {
            "project": project,
            "rank": rank,
            "attempt": attempt,
            "follow": follow,
            "tail_lines": tail_lines,
            "since_seconds": since_seconds,
            "timestamps": timestamps or None,
        }
        return self._stream(f"/api/v1/workloads/{name}/logs", params)

    def issue_invoice(self, tenant: str, month: str, timezone: str = "UTC") -> Document:
        """Bill what the tenant's month, ``2026-03``, has not been billed for yet."""
        body = {"tenant": tenant, "month": month, "timezone": timezone}
        return self._write("POST", "/api/v1/invoices", body)

    def invoices(self, tenant: str | None = None, after: int = 0) -> Documents:
        """Invoices and credit notes that the key may see, without their lines."""
        items: Documents = self._read("/api/v1/invoices", tenant=tenant, after=after)["items"]
        return items

    def invoice(self, number: int) -> Document:
        """An invoice or a credit note."""
        return self._read(f"/api/v1/invoices/{number}")

    def invoice_page(self, number: int, language: str = "en") -> str:
        """The same as a page of HTML."""
        return self._text(f"/api/v1/invoices/{number}", format="html", language=language)

    def focus(self, tenant: str, month: str, timezone: str = "UTC", currency: str = "USD") -> str:
        """A tenant's month as FOCUS 1.2 rows, in CSV."""
        return self._text("/api/v1/focus", tenant=tenant, month=month, timezone=timezone, currency=currency)

    def budget_balances(self, name: str | None = None) -> Document:
        """What budgets have come to; only the one of that ``name``, where it is given."""
        if name is not None:
            return self._read("/api/v1/budget-balances", name=name)
        return {"items": self._whole("/api/v1/budget-balances", lambda one: str(one["name"]))}

    def guardrail_trial(self, name: str, text: str, direction: str) -> Document:
        """What the Guardrail would do to a text."""
        body = {"name": name, "text": text, "direction": direction}
        return self._answer(self._send("POST", "/api/v1/guardrail-trials", json=body))

    def price_dry_run(
        self, docs: Sequence[Mapping[str, Any]], begin: str, end: str | None, tenant: str | None
    ) -> Document:
        """What usage from ``begin`` to before ``end`` (None = now) would have cost with these Prices."""
        body = {"documents": list(docs), "from": begin, "to": end, "tenant": tenant}
        return self._answer(
            self._send(
                "POST", "/api/v1/prices/dry-run", json={k: v for k, v in body.items() if v is not None}
            )
        )

    def reconciliation(self) -> Document:
        """What engines have counted beside the events, window by window."""
        return self._read("/api/v1/reconciliation")

    def usage(self, **params: Any) -> Document:
        """The usage report; parameters as of ``GET /api/v1/usage`` (``from_`` stands for ``from``)."""
        return self._read("/api/v1/usage", **_plain(params))

    def record_outcome(self, outcome: Mapping[str, Any]) -> Document:
        """Record what work brought; parameters as of ``POST /api/v1/outcomes``."""
        return self._write("POST", "/api/v1/outcomes", outcome)

    def withdraw_outcome(self, id_: str, tenant: str | None = None) -> Document:
        """Let an outcome count no more."""
        path = f"/api/v1/outcomes/{quote(id_, safe='')}"
        return self._write("DELETE", path, None, tenant=tenant)

    def outcomes(self, **params: Any) -> Documents:
        """Outcomes, those that were recorded last first; parameters as of ``GET /api/v1/outcomes``."""
        items: Documents = self._read("/api/v1/outcomes", **_plain(params))["items"]
        return items

    def returns(self, **params: Any) -> Document:
        """What work brought beside what it cost; parameters as of ``GET /api/v1/returns``."""
        return self._read("/api/v1/returns", **_plain(params))

    def margins(self, **params: Any) -> Document:
        """What models were charged beside what making it cost; parameters as of ``GET /api/v1/margins``."""
        return self._read("/api/v1/margins", **_plain(params))

    def audit(self, limit: int = 100) -> Documents:
        """The newest entries of the audit log, newest first."""
        items: Documents = self._read("/api/v1/audit", limit=limit)["items"]
        return items

    def limits(self, project: str) -> Document:
        """What a project may hold and what it holds, by limit; and the queues it may use."""
        return self._read(f"/api/v1/projects/{project}/limits")

    def set_aside(self) -> Documents:
        """Stored resources that control does not take any more, with the reason; for platform-admins."""
        items: Documents = self._read("/api/v1/set-aside")["items"]
        return items

    # Keys and who asks

    def create_key(
        self,
        name: str,
        role: str,
        *,
        tenant: str | None = None,
        project: str | None = None,
        models: Sequence[str] = (),
        expires_ms: int | None = None,
        rate_limits: Mapping[str, int] | None = None,
    ) -> Document:
        """Make an API key. ``secret`` in the answer is shown this once. ``rate_limits``: by their names in
        ``spec.rateLimits``."""
        body: Document = {"name": name, "role": role, "models": list(models)}
        if rate_limits:
            body["rateLimits"] = dict(rate_limits)
        optional = {"tenant": tenant, "project": project, "expiresMs": expires_ms}
        body.update({key: value for key, value in optional.items() if value is not None})
        return self._write("POST", "/api/v1/keys", body)

    def list_keys(self) -> Documents:
        """The visible keys, without their secrets."""
        items: Documents = self._read("/api/v1/keys")["items"]
        return items

    def revoke_key(self, name: str, *, made: bool = False) -> Document:
        """Make a key invalid from now on; with ``made`` also all that were made with it."""
        return self._write("DELETE", f"/api/v1/keys/{name}{'?made=true' if made else ''}", None)

    def pause(self, scope: str, name: str, reason: str = "", project: str | None = None) -> Document:
        """Stop a key, project, tenant or model (of that project)."""
        where = f"?project={project}" if project else ""
        return self._write("PUT", f"/api/v1/pauses/{scope}/{name}{where}", {"reason": reason})

    def resume(self, scope: str, name: str, project: str | None = None) -> Document:
        """Let it go on."""
        where = f"?project={project}" if project else ""
        return self._write("DELETE", f"/api/v1/pauses/{scope}/{name}{where}", None)

    def pauses(self) -> Documents:
        """What is paused."""
        names = ("scope", "project", "name")
        return self._whole("/api/v1/pauses", lambda one: "/".join(str(one[n]) for n in names if one[n]))

    def _whole(self, path: str, place_of: Callable[[Document], str]) -> Documents:
        """All items of a list that comes in pages, each after the place of the last one so far."""
        items: Documents = self._read(path)["items"]
        page = items
        while len(page) == PAGE_ITEMS:
            page = self._read(path, after=place_of(page[-1]))["items"]
            items = [*items, *page]
        return items

    def whoami(self) -> Document:
        """Name, role, tenant and project of the key in use."""
        return self._read("/api/v1/whoami")

    def version(self) -> Document:
        """Version of the server and of the API."""
        return self._read("/api/v1/version")

    # Internal: with the instance's token instead of a key

    def bootstrap(self, token: str, *, rotate: bool = False) -> Document:
        """Make the first admin key; ``Conflict`` when one is in force (unless ``rotate``)."""
        return self._write("POST", "/internal/v1/bootstrap", {"rotate": rotate}, token=token)

    def drain(self, token: str, *, timeout_seconds: float = 60.0, dismiss_agents: bool = False) -> Document:
        """Stop all gangs and wait until none runs; answers ``{"drained": bool, "gangs": [uids left]}``.

        ``dismiss_agents``: nothing of the instance is left in Ray then; control is to be stopped next.
        """
        body = {"timeoutSeconds": timeout_seconds, "dismissAgents": dismiss_agents}
        return self._write(
            "POST",
            "/internal/v1/drain",
            body,
            token=token,
            timeout_seconds=timeout_seconds + DRAIN_MARGIN_SECONDS,
        )

    def ready(self) -> Document:
        """The content of ``/readyz``: whether control is ready, and which loop is in what trouble."""
        response = self._send("GET", "/readyz")
        if response.status_code != httpx.codes.SERVICE_UNAVAILABLE:
            return self._answer(response)
        try:
            content = response.json()
        except ValueError:
            content = None
        if not isinstance(content, dict) or "loops" not in content:
            raise error_from_body(response.status_code, response.text)
        return content


def _plain(params: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters by their names in a query: ``from_`` stands for ``from``."""
    return {name.rstrip("_"): value for name, value in params.items()}
