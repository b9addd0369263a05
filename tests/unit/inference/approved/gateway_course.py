"""A gateway's life over some requests: who asks what, how engines behave, and what comes of it."""

import json
import random
import re
from collections.abc import AsyncIterator
from typing import Any

from prometheus_client import REGISTRY

from common.ids import secret_digest
from common.resources.scaling import EngineRole
from common.wire import Route, RouteKey, RouteReplica, RouteWeights, RoutingTable
from tests.fixtures.fake_engine import FakeEngine
from tests.fixtures.gateway import METRICS_TOKEN, OTHER_SECRET, SECRET
from tests.fixtures.wire import Answer
from tests.unit.inference.gateway.front_scene import Front

ADMIN = "ck-admin"
SECRETS = (*[SECRET] * 24, OTHER_SECRET, "ck-limited", ADMIN, "ck-expired", "ck-unknown", "")
MODELS = (*["tiny"] * 10, *["zoo"] * 4, *["shared"] * 4, "embed", "none")
CHAT, TEXT, EMBED = "/v1/chat/completions", "/v1/completions", "/v1/embeddings"
ROLES: tuple[tuple[EngineRole, ...], ...] = (
    ("",),
    ("", ""),
    ("", "", ""),
    ("prefill", "decode"),
    ("prefill", "decode", "decode"),
    ("prefill", "prefill", "decode"),
    ("prefill", "decode", ""),
    ("prefill",),
)
LIMITS: tuple[dict[str, Any], ...] = (
    {},
    {},
    {},
    {"body_limit_bytes": 300},
    {"max_sequences_per_key": 3},
    {"max_sequences_per_request": 4, "max_inputs_per_request": 2},
    {"answer_bytes_per_tenant": 420},
    {"body_bytes_per_tenant": 250},
)
METRICS_PAGE = """vllm:num_requests_running 3.0
vllm:num_requests_waiting 1.0
vllm:kv_cache_usage_perc 0.97
process_start_time_seconds {started}
"""
PATHS = (
    *("/healthz", "/readyz", "/v1/models", "/v1/models/tiny", "/v1/models/none", "/v1", "/metrics", CHAT),
    *("/v1/files", "/v1/files/moved", "/v1/fine_tuning/jobs/conflict", "/v1/files/../x", "/v1/filesx"),
)
COUNTED = re.compile(r"computility_gateway_(?!routes_age|spool_oldest).*(?<!_created)(?<!_bucket)$")
_TIME = re.compile(r'(?<="created":)\d{10}(?!\d)|(?<=req-)\w{10}(?=\w{16})')
"""When engines answered, and when ids were made, by the clock of this machine."""
TOLD = ("x-request-id", "content-type", "authorization")
DONE = b"data: [DONE]\n\n"


def _error(status: int, message: str) -> tuple[int, dict[str, Any]]:
    return status, {"error": {"message": message, "code": status, "param": None}}


class GatewayCourse:
    """Requests one after the other to a gateway whose engines behave otherwise each time."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.roles = rng.choice(ROLES)
        self.limits = rng.choice(LIMITS)
        self.counted: dict[str, float] = {}

    def table(self, engines: list[FakeEngine]) -> RoutingTable:
        """Models of two tenants on these engines, and keys of all kinds."""
        rng = self.rng
        replicas = tuple(
            RouteReplica(
                id=engine.url.removeprefix("http://"),
                url=engine.url,
                role=role,
                endpoint="acme-bots/chat",
                min_prompt_tokens=rng.choice((0, 20)) if role == "prefill" else 0,
                device_class="nvidia/H100",
                model_identity="acme-bots/weights",
                model_shared=rng.random() < 0.5,
                adapter_slots=rng.choice((0, 2)),
            )
            for engine, role in zip(engines, self.roles, strict=True)
        )
        weights = RouteWeights(prefix=rng.choice((0.0, 1.0)), load=rng.choice((1.0, 2.0)))
        own = {"project": "acme-bots", "tenant": "acme", "replicas": replicas, "routing": weights}
        backend = rng.choice(("tiny", "weights-7"))
        routes = (
            Route(model="tiny", backend_model=backend, base_model="tiny", context_tokens=40, **own),
            Route(model="zoo", backend_model="zoo-1", base_model="tiny", created_ms=1_700_000_000_123, **own),
            Route(model="embed", backend_model="embed", base_model="embed", tasks=("embeddings",), **own),
            Route(
                model="shared",
                backend_model="big",
                base_model="shared",
                shared=True,
                project="lair",
                tenant="evil",
                replicas=replicas[:1],
            ),
        )
        return RoutingTable(version="2", keys=self._keys(), routes=routes)

    def _keys(self) -> tuple[RouteKey, ...]:
        member = {"role": "member", "tenant": "acme", "project": "acme-bots"}
        return (
            RouteKey(digest=secret_digest(SECRET), name="alice", **member),
            RouteKey(digest=secret_digest("ck-limited"), name="bob", models=("zoo",), **member),
            RouteKey(digest=secret_digest("ck-expired"), name="eve", expires_ms=1, **member),
            RouteKey(
                digest=secret_digest(OTHER_SECRET),
                name="mallory",
                role="member",
                tenant="evil",
                project="lair",
            ),
            RouteKey(digest=secret_digest(ADMIN), name="root", role="platform-admin"),
        )

    async def play(self, front: Front, requests: int) -> AsyncIterator[str]:
        """A text of each request, and at the end of what was counted and shipped."""
        await front.stand_still()
        if self.rng.random() < 0.5:
            await front.start_control()
        front.tell(self.table(front.engines))
        self._count()
        for _ in range(requests):
            front.clock.advance(self.rng.choice((0.0, 0.3, 2.0, 20.0)))
            self._behave(front)
            if self.rng.random() < 0.3:
                await front.gateway._upstream.reports.ask(self.rng.choice(front.engines).url)
            answer = await self._request(front)
            await front.gateway._inference._legs.close()
            yield self._told(front, answer)
        yield json.dumps(self._count(), sort_keys=True)
        if not front.control_up:
            await front.start_control()
        taken = front.spooled()
        front.control.refused_ids = {event["id"] for event in taken if self.rng.random() < 0.2}
        front.control.rejected_ids = {event["id"] for event in taken if self.rng.random() < 0.2}
        await front.gateway.shipper.step()
        shipped = [*map(self._event, front.control.events.values())]
        yield _TIME.sub("now", json.dumps([*shipped, len(taken), len(front.spooled())]))

    def _behave(self, front: Front) -> None:
        """How engines do from now on; most of them well."""
        rng = self.rng
        failures = (
            _error(400, "'loc': ('body', 'stop'), 'msg': 'no'"),
            _error(400, "the maximum context length is 40 tokens"),
            _error(401, "Unauthorized"),
            _error(404, "no such model"),
            _error(422, "odd"),
            _error(429, "full"),
            _error(500, "boom"),
            _error(502, "gate"),
            _error(503, "dying"),
        )
        for engine in front.engines:
            engine.healthy, engine.die_after_tokens, engine.fail_with = rng.random() < 0.5, None, None
            engine.cached = rng.choice((0, 1, 50))
            engine.metrics = (
                METRICS_PAGE.format(started=rng.choice((1, 1, 2))) if rng.random() < 0.7 else None
            )
            engine.script, engine.peers = None, front.engines
            accident = rng.random()
            if accident < 0.12:
                engine.die_after_tokens = rng.choice((0, 0, 1))
            elif accident < 0.27:
                engine.fail_with = rng.choice(failures)
            elif accident < 0.32:
                engine.script = [rng.choice(SCRIPTS)]

    async def _request(self, front: Front) -> Answer:
        rng = self.rng
        secret, kind = rng.choice(SECRETS), rng.random()
        if kind < 0.12:
            if rng.random() < 0.3:
                secret = METRICS_TOKEN
            method = rng.choice(("GET", "GET", "POST", "DELETE", "HEAD"))
            return await front.ask(None, rng.choice(PATHS), method, secret)
        path = rng.choice((*[CHAT] * 4, TEXT, TEXT, EMBED))
        headers: dict[str, Any] = (
            {"x_request_id": rng.choice(("mine-1", "with blank"))} if rng.random() < 0.5 else {}
        )
        if rng.random() < 0.05:
            headers |= {"content_type": "text/plain"}
        body: Any = self._body(path)
        if rng.random() < 0.04:
            body = rng.choice((b"{", b'{"model": 1}', b"[]"))
        return await front.ask(body, path, "", secret, **headers)

    def _body(self, path: str) -> dict[str, Any]:
        rng = self.rng
        words = " ".join(["word"] * rng.choice((1, 3, 30)))
        body: dict[str, Any] = {"model": rng.choice(MODELS)}
        if path == CHAT:
            body["messages"] = [{"role": "user", "content": words}]
        elif path == TEXT:
            body["prompt"] = rng.choice((words, [words, "b"]))
        else:
            body["input"] = rng.choice((words, [words, "b"], [words] * 3))
            body["model"] = rng.choice((*["embed"] * 9, "tiny"))
            return body
        body |= {"max_tokens": rng.choice((1, 2, 2, 3, 3, 4, 40, 41))}
        if rng.random() < 0.6:
            body["stream"] = True
            body["stream_options"] = rng.choice(
                ({}, {"include_usage": True}, {"include_usage": True, "continuous_usage_stats": True})
            )
        if rng.random() < 0.2:
            body["n"] = rng.choice((2, 3))
        if rng.random() < 0.3:
            body["user"] = rng.choice(("ann", "ben"))
        if rng.random() < 0.2:
            body |= {"priority": 1, "logprobs": True, "temperature": 0}
        return body

    def _told(self, front: Front, answer: Answer) -> str:
        """What the client and the engines were told, and what is owed."""
        lines = [f"{answer.status} {json.dumps(answer.headers)} {answer.ended}"]
        page = answer.headers.get("content-type", "").startswith("text/plain; version")
        lines.append("a page of metrics" if page else answer.body.decode())
        for engine in front.engines:
            for body, headers in zip(engine.bodies, engine.headers, strict=True):
                named = {name: headers.get(name) for name in TOLD}
                lines.append(f"{engine.url} {json.dumps(body)} {json.dumps(named)}")
            kept = [sorted(engine.kept), engine.fetched, engine.refused_caches, sorted(engine.aborted)]
            lines += [f"{engine.url} {json.dumps(kept)}"] if any(kept) else []
            engine.bodies.clear()
            engine.headers.clear()
        lines += [json.dumps(self._event(event)) for event in front.spooled()[-1:]]
        return _TIME.sub("now", "\n".join(lines))

    @staticmethod
    def _event(event: dict[str, Any]) -> dict[str, Any]:
        return dict(sorted(event.items()))

    def _count(self) -> dict[str, float]:
        """What the gateway has counted since it was asked last."""
        now = {
            f"{sample.name}{json.dumps(sample.labels, sort_keys=True)}": sample.value
            for metric in REGISTRY.collect()
            for sample in metric.samples
            if COUNTED.match(sample.name)
        }
        news = {name: value - self.counted.get(name, 0.0) for name, value in now.items()}
        self.counted = now
        return {name: round(value, 6) for name, value in news.items() if value}


def _part(content: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(content).encode() + b"\n\n"


ONE = _part({"choices": [{"index": 0}], "usage": {"prompt_tokens": 2, "completion_tokens": 1}})
SCRIPTS = (
    b": still here\n\n" + _part({"choices": [{"index": 0, "text": "a"}], "model": "tiny"}) + DONE,
    ONE + DONE,
    ONE,
    _part({"error": {"message": "no", "code": 400}}),
    ONE + _part({"error": {"message": "boom", "code": 500}}),
)
