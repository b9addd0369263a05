"""What a hostile member does: each attack is one small function, all in one table."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from bench.hostile import documents
from bench.hostile.world import HOSTILE, HOSTILE_PROJECT, MARKER, TRAINING_ROW, VICTIM, VICTIM_PROJECT, Target

SLOW_SECONDS = 20.0
ANSWER_SECONDS = 60.0
FLOOD_BYTES = 64 * 1024**2
HUGE_OBJECTS = 4_000_000
MAX_FILES = 20


@dataclass
class Attacker:
    """One session with all keys of the hostile tenant, and what came back."""

    target: Target
    session: aiohttp.ClientSession
    dice: random.Random
    answers: Counter[str] = field(default_factory=Counter)
    server_errors: Counter[str] = field(default_factory=Counter)
    foreign_names: Counter[str] = field(default_factory=Counter)
    files: list[str] = field(default_factory=list)

    async def send(
        self, attack: str, method: str, url: str, key: str | None, *, scan: bool = True, **options: Any
    ) -> tuple[int, bytes]:
        """Status and body of an answer; 0 where the connection ended without one.

        ``scan`` looks for names of the other tenant in it; left out where the request named them itself.
        """
        headers = {**options.pop("headers", {}), **({"Authorization": f"Bearer {key}"} if key else {})}
        try:
            async with self.session.request(method, url, headers=headers, **options) as response:
                body = await response.read()
                status = response.status
        except (aiohttp.ClientError, TimeoutError, ConnectionError):
            status, body = 0, b""
        self._note(attack, method, url, status, body, scan)
        return status, body

    def _note(self, attack: str, method: str, url: str, status: int, body: bytes, scan: bool) -> None:
        self.answers[f"{attack} {status or 'cut'}"] += 1
        if status >= 500 and status not in (503,):
            self.server_errors[f"{method} {urlsplit(url).path[:60]} {status}: {body[:160]!r}"] += 1
        if scan and MARKER.encode() in body:
            self.foreign_names[f"{method} {urlsplit(url).path[:60]}"] += 1


async def write_manifests(me: Attacker) -> None:
    """A handful of documents, half of them spoiled."""
    batch = []
    for _ in range(me.dice.randint(1, 3)):
        make = me.dice.choice((documents.endpoint, documents.model, documents.of_another_kind))
        document = make(me.dice, HOSTILE_PROJECT)
        batch.append(documents.spoiled(me.dice, document) if me.dice.random() < 0.5 else document)
    key = me.dice.choice((me.target.member, me.target.admin))
    await _apply(me, "manifests", key, batch)


async def write_large_manifests(me: Attacker) -> None:
    """A megabyte in one document."""
    await _apply(me, "large", me.target.member, [documents.large(me.dice, HOSTILE_PROJECT)])


async def write_many(me: Attacker) -> None:
    """A hundred Models at once, and away with them."""
    names = [f"many-{number}" for number in range(100)]
    batch = [
        {**documents.model(me.dice, HOSTILE_PROJECT), "metadata": {"name": name, "project": HOSTILE_PROJECT}}
        for name in names
    ]
    for document in batch:
        document["spec"] = {"source": "nobody/none"}
    await _apply(me, "many", me.target.member, batch)
    for name in names:
        url = f"{me.target.control}/api/v1/models/{name}"
        await me.send("many", "DELETE", url, me.target.member, params={"project": HOSTILE_PROJECT})


async def _apply(me: Attacker, attack: str, key: str, batch: list[Any]) -> None:
    try:
        body = json.dumps(batch).encode("utf-8", "surrogatepass")
    except ValueError:  # a number with more digits than Python writes
        return
    url = f"{me.target.control}/api/v1/apply"
    await me.send(attack, "POST", url, key, data=body, headers={"Content-Type": "application/json"})


async def make_keys(me: Attacker) -> None:
    """Keys with odd names and too many rights; one that works is used."""
    body: dict[str, Any] = {
        "name": me.dice.choice(("free\n", f"key-{me.dice.randrange(50)}", *documents.ODD_TEXTS)),
        "role": me.dice.choice(("agent", "member", "tenant-admin", "platform-admin")),
        "project": me.dice.choice((HOSTILE_PROJECT, VICTIM_PROJECT)),
        "tenant": me.dice.choice((HOSTILE, VICTIM)),
    }
    drop = me.dice.choice(("project", "tenant"))
    del body[drop]
    foreign = any(MARKER in str(value) for value in body.values())
    url = f"{me.target.control}/api/v1/keys"
    status, answer = await me.send("keys", "POST", url, me.target.admin, scan=not foreign, json=body)
    if status == 201:
        secret = json.loads(answer).get("secret", "")
        await asyncio.sleep(0.5)
        await _chat(me, "keys", secret, {"max_tokens": 4})
        await me.send("keys", "DELETE", f"{url}/{json.loads(answer)['name']}", me.target.admin)


async def upload_files(me: Attacker) -> None:
    """Files of newlines, of one long line, of half rows, with odd names; the oldest are deleted again."""
    row = json.dumps(TRAINING_ROW).encode()
    content = me.dice.choice(
        (
            b"\n" * me.dice.choice((1_000, 20_000_000)),
            b"x" * 10_000_000,
            b"\n".join([row] * 20_000) + b"\n{",
            b"\r".join([row] * 12),
            b"",
        )
    )
    name = me.dice.choice((b"data.jsonl", b"a%0D%0Ab", b"../../x", b"\x1b[2J.jsonl", b'"; x="'))
    purpose = me.dice.choice((b"fine-tune", b"batch", b"x"))
    body = (
        b'--edge\r\nContent-Disposition: form-data; name="purpose"\r\n\r\n' + purpose + b"\r\n--edge\r\n"
        b'Content-Disposition: form-data; name="file"; filename="'
        + name
        + b'"\r\n\r\n'
        + content
        + b"\r\n--edge--\r\n"
    )
    url = f"{me.target.gateway}/v1/files"
    headers = {"Content-Type": "multipart/form-data; boundary=edge"}
    status, answer = await me.send("files", "POST", url, me.target.member, data=body, headers=headers)
    if status == 200:
        me.files.append(json.loads(answer)["id"])
    while len(me.files) > MAX_FILES:
        await me.send("files", "DELETE", f"{url}/{me.files.pop(0)}", me.target.member)


async def make_jobs(me: Attacker) -> None:
    """A dozen jobs at once on one file."""
    if not me.files:
        return
    body = {
        "model": me.target.model,
        "training_file": me.dice.choice(me.files),
        "suffix": me.dice.choice((None, "zoo\n", "ok", "x" * 100)),
    }
    url = f"{me.target.gateway}/v1/fine_tuning/jobs"
    answers = await asyncio.gather(
        *(me.send("jobs", "POST", url, me.target.member, json=body) for _ in range(12))
    )
    for status, answer in answers:
        if status == 200:
            await me.send("jobs", "POST", f"{url}/{json.loads(answer)['id']}/cancel", me.target.member)


async def post_huge_bodies(me: Attacker) -> None:
    """Megabytes of JSON for a model that is not there, of one that is, or nested deeply."""
    inner = me.dice.choice(
        (
            "[" + ",".join(["{}"] * HUGE_OBJECTS) + "]",
            "[" * 100_000 + "]" * 100_000,
            "{" + ",".join(f'"{number}":0' for number in range(500_000)) + "}",
        )
    )
    name = me.dice.choice(("no-such-model", me.target.model))
    url = f"{me.target.gateway}/v1/chat/completions"
    headers = {"Content-Type": "application/json"}
    body = f'{{"model":"{name}","messages":{inner}}}'
    await me.send("huge", "POST", url, me.target.agent, data=body, headers=headers)


async def chat_oddly(me: Attacker) -> None:
    """Requests with wrong or costly parts."""
    odd: tuple[Mapping[str, Any], ...] = (
        {"n": 4},
        {"n": 1_000_000},
        {"stop": ["a", "b", "c", "d", "e"]},
        {"stop": ["\ud800"]},
        {"bad_words": ["\ud800"]},
        {"messages": [{"role": "user", "content": None}]},
        {"messages": [{"role": "user", "content": "x" * 200_000}]},
        {"messages": []},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"$ref": "#"}}}},
        {"temperature": -1},
        {"max_tokens": 10**30},
        {"logit_bias": {"x": 1}},
        {"stream": "yes"},
    )
    await _chat(me, "chat", me.target.agent, {"max_tokens": 8, **me.dice.choice(odd)})


async def chat_and_leave(me: Attacker) -> None:
    """Chats, plain and streamed, whose client goes away."""
    body = {"max_tokens": 64, "stream": me.dice.random() < 0.5}
    with suppress(TimeoutError):
        async with asyncio.timeout(me.dice.uniform(0.05, 0.6)):
            await _chat(me, "leave", me.target.agent, body)


async def _chat(me: Attacker, attack: str, key: str, more: Mapping[str, Any]) -> None:
    body = {"model": me.target.model, "messages": [{"role": "user", "content": "Who pays?"}], **more}
    url = f"{me.target.gateway}/v1/chat/completions"
    await me.send(attack, "POST", url, key, json=body)


async def be_slow(me: Attacker) -> None:
    """Connections that say nothing, half a header, or half a body."""
    url = urlsplit(me.dice.choice((me.target.control, me.target.gateway)))
    begin = me.dice.choice(
        (
            b"",
            b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow: ",
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{",
        )
    )
    with suppress(OSError, TimeoutError):
        reader, writer = await asyncio.open_connection(url.hostname, url.port)
        try:
            async with asyncio.timeout(SLOW_SECONDS):
                writer.write(begin)
                await reader.read()
        finally:
            writer.close()
    me.answers["slow held"] += 1


async def flood_headers(me: Attacker) -> None:
    """A header without end."""
    url = urlsplit(me.dice.choice((me.target.control, me.target.gateway)))
    with suppress(OSError, TimeoutError):
        _, writer = await asyncio.open_connection(url.hostname, url.port)
        try:
            async with asyncio.timeout(SLOW_SECONDS):
                writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Flood: ")
                for _ in range(FLOOD_BYTES // 65536):
                    writer.write(b"a" * 65536)
                    await writer.drain()
        finally:
            writer.close()
    me.answers["flood sent"] += 1


async def watch_much(me: Attacker) -> None:
    """Twenty watches for a while."""

    async def watch() -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(10):
                url = f"{me.target.control}/api/v1/watch"
                await me.send("watch", "GET", url, me.target.member, params={"since": "0"})

    await asyncio.gather(*(watch() for _ in range(20)))


async def look_around(me: Attacker) -> None:
    """Every list, the events, the log of a workload; and things of others by their names."""
    lists = ("tenants", "projects", "queues", "models", "endpoints", "adapters", "workloads", "prices")
    paths = [f"/api/v1/{plural}" for plural in (*lists, "files", "finetunes")]
    paths += ["/api/v1/events?limit=1000", "/api/v1/usage?group_by=model", "/api/v1/keys", "/api/v1/overview"]
    key = me.dice.choice((me.target.member, me.target.admin, me.target.agent, None))
    await me.send("look", "GET", me.target.control + me.dice.choice(paths), key)
    for base in (me.target.control, me.target.gateway):
        await me.send("look", "GET", f"{base}/metrics", key)
    await me.send("look", "GET", f"{me.target.gateway}/v1/models", me.target.agent)
    guess = me.dice.choice((f"endpoints/{MARKER}-endpoint", f"models/{MARKER}-model"))
    url = f"{me.target.control}/api/v1/{guess}?project={VICTIM_PROJECT}"
    status, _ = await me.send("guess", "GET", url, key, scan=False)
    if status == 200:
        me.foreign_names[guess] += 1


async def knock(me: Attacker) -> None:
    """Fifty requests with keys that are none."""
    paths = ("/api/v1/models", "/v1/files", "/v1/chat/completions")
    base = me.dice.choice((me.target.control, me.target.gateway))
    method, path = me.dice.choice(("GET", "POST")), me.dice.choice(paths)
    await asyncio.gather(
        *(me.send("knock", method, base + path, f"ck-{number}") for number in range(50)),
    )


Attack = Callable[[Attacker], Awaitable[None]]

ATTACKS: Mapping[Attack, tuple[int, float]] = {
    # attack: (how many do it at once, mean pause in seconds)
    write_manifests: (2, 0.3),
    write_large_manifests: (1, 5.0),
    write_many: (1, 20.0),
    make_keys: (1, 2.0),
    upload_files: (1, 8.0),
    make_jobs: (1, 15.0),
    post_huge_bodies: (1, 10.0),
    chat_oddly: (1, 1.0),
    chat_and_leave: (1, 2.0),
    be_slow: (30, 1.0),
    flood_headers: (2, 10.0),
    watch_much: (1, 10.0),
    look_around: (1, 0.5),
    knock: (1, 3.0),
}
"""Everything that is tried all the time. Pauses keep the attackers' own work small on a machine that they
share with the platform."""
