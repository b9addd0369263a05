"""The control process itself: flooded by strangers, killed in the middle of uploads, on a full disk."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from common.vocabulary import NAME_CHARACTERS
from tests.fixtures.control_process import ControlProcess, running_control
from tests.fixtures.disk import fill_disk, make_room

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

MIB = 1024**2
PURPOSE = {"purpose": "fine-tune"}
UPLOAD_BYTES = 8 * MIB
HEALTHY_SECONDS = 5.0
"""An answer may take so long on a machine that does much else."""


@pytest.fixture
async def control(tmp_path: Path) -> AsyncIterator[ControlProcess]:
    async with running_control(tmp_path) as made:
        yield made


def model(name: str, **metadata: Any) -> dict[str, Any]:
    return {
        "apiVersion": "computility.io/v1alpha1",
        "kind": "Model",
        "metadata": {"name": name, "project": "search", **metadata},
        "spec": {"source": "org/tiny"},
    }


# Strangers


async def flood(control: ControlProcess, head: bytes, part: bytes, pause_seconds: float, until: float) -> int:
    """Send the head and then the part again and again, on new connections when one is ended; how many."""
    connections = 0
    while time.monotonic() < until:
        connections += 1
        reader, writer = await asyncio.open_connection("127.0.0.1", control.settings.control.port)
        try:
            writer.write(head)
            while time.monotonic() < until and not reader.at_eof():
                writer.write(part)
                await asyncio.wait_for(writer.drain(), 1)
                await asyncio.sleep(pause_seconds)
        except (OSError, TimeoutError):
            pass
        finally:
            writer.transport.abort()
    return connections


async def test_floods_of_headers_and_slow_bodies_leave_control_small_and_answering(
    control: ControlProcess,
) -> None:
    upload = b"POST /v1/files HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n" % control.member.encode()
    kinds = [
        (b"GET /healthz HTTP/1.1\r\n", b"X: " + b"a" * 65536, 0.0),
        (b"GET /healthz HTTP/1.1\r\n", b"X: a\r\n" * 4000, 0.0),
        (b"GET /" + b"a" * 65536, b"a" * 65536, 0.0),
        (b"GET /healthz HTTP/1.1\r\n", b"X", 0.05),
        (b"", b"", 0.05),
        (b"POST /api/v1/apply HTTP/1.1\r\nHost: x\r\nContent-Length: 4000000\r\n\r\n", b"[", 0.05),
        (upload + b"Content-Length: 400000000\r\n\r\n", b"x", 0.05),
        (upload + b"Transfer-Encoding: chunked\r\n\r\n", b"10000\r\n" + b"x" * 65536 + b"\r\n", 0.05),
    ]
    before = control.rss_bytes
    until = time.monotonic() + 6
    floods = [asyncio.create_task(flood(control, *kind, until)) for kind in kinds for _ in range(12)]
    waits, largest = [], 0
    async with control.client() as client:
        while time.monotonic() < until:
            began = time.monotonic()
            assert (await client.get("/healthz")).status_code == 200
            waits.append(time.monotonic() - began)
            largest = max(largest, control.rss_bytes)
            await asyncio.sleep(0.05)
        await asyncio.gather(*floods)
        assert (await client.post("/api/v1/apply", json=model("after"))).status_code == 200
    assert sorted(waits)[len(waits) // 2] < HEALTHY_SECONDS / 5
    assert max(waits) < HEALTHY_SECONDS
    assert largest - before < 100 * MIB


# Uploads


def files_in(control: ControlProcess, *, marks: bool = False) -> list[Path]:
    folder = control.settings.home / "files"
    return [p for p in folder.rglob("*") if p.is_file() and (marks or p.parent.name != "unsettled")]


async def upload(control: ControlProcess, content: bytes) -> httpx.Response:
    async with control.client() as client:
        return await client.post("/v1/files", data=PURPOSE, files={"file": ("a.jsonl", content)})


async def listed(control: ControlProcess) -> list[dict[str, Any]]:
    async with control.client() as client:
        files: list[dict[str, Any]] = (await client.get("/v1/files")).json()["data"]
        for file in files:
            content = (await client.get(f"/v1/files/{file['id']}/content")).content
            assert len(content) == file["bytes"], "no file is half"
        return files


async def test_a_control_killed_while_files_arrive_leaves_whole_files_and_no_other_bytes(
    control: ControlProcess,
) -> None:
    for number in range(4):
        content = bytes([number]) * UPLOAD_BYTES
        uploads = [asyncio.create_task(upload(control, content + bytes([n]))) for n in range(6)]
        done = 0
        while done < min(number, 3):  # earlier and later in what they do
            await asyncio.sleep(0.002)
            done = sum(task.done() for task in uploads)
        if number == 0:
            await asyncio.sleep(0.05)
        control.kill()
        answers = await asyncio.gather(*uploads, return_exceptions=True)
        await control.start()
        files = await listed(control)
        told = {a.json()["id"] for a in answers if isinstance(a, httpx.Response) and a.status_code == 200}
        assert told <= {file["id"] for file in files}, "what was answered is kept"
        assert len(files_in(control, marks=True)) == len(files)
        async with control.client() as client:
            for file in files:
                assert (await client.delete(f"/v1/files/{file['id']}")).status_code == 200
        assert files_in(control, marks=True) == []


async def test_an_upload_whose_sender_is_killed_leaves_nothing(control: ControlProcess) -> None:
    """As it is when the gateway that passes it on is killed."""
    for sent in (10, 1000, UPLOAD_BYTES // 2):
        _, writer = await asyncio.open_connection("127.0.0.1", control.settings.control.port)
        head = (
            f"POST /v1/files HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {control.member}\r\n"
            f"Content-Type: multipart/form-data; boundary=b\r\nContent-Length: {UPLOAD_BYTES}\r\n\r\n"
        )
        form = (
            b'--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nfine-tune\r\n'
            b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
        )
        writer.write(head.encode() + (form + b"x" * sent)[:sent])
        await writer.drain()
        await asyncio.sleep(0.1)
        writer.transport.abort()
    assert (await upload(control, b"whole")).status_code == 200
    assert [file["bytes"] for file in await listed(control)] == [5]
    assert len(files_in(control, marks=True)) == 1


# Checks of training files


async def tunable(control: ControlProcess, content: bytes) -> str:
    """The id of an uploaded file, with a model to train on it."""
    async with control.client(control.key) as client:
        assert (await client.post("/api/v1/apply", json=model("tiny"))).status_code == 200
    answer = await upload(control, content)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["id"])


async def train(control: ControlProcess, file: str) -> httpx.Response:
    async with control.client() as client:
        body = {"model": "tiny", "training_file": file}
        return await client.post("/v1/fine_tuning/jobs", json=body)


async def test_a_dozen_jobs_on_a_large_bad_file_hold_up_nobody(control: ControlProcess) -> None:
    row = b'{"messages": [{"role": "user", "content": "Hi?"}, {"role": "assistant", "content": "Hello."}]}\n'
    file = await tunable(control, row * (20 * MIB // len(row)) + b"{bad\n")
    before, largest = control.rss_bytes, 0
    waits: list[float] = []
    jobs = [asyncio.create_task(train(control, file)) for _ in range(12)]
    async with control.client() as client:
        while not all(job.done() for job in jobs) or len(waits) < 5:
            began = time.monotonic()
            assert (await client.get("/readyz")).status_code == 200
            assert (await client.post("/api/v1/apply", json=model("other"))).status_code == 200
            waits.append(time.monotonic() - began)
            largest = max(largest, control.rss_bytes)
            await asyncio.sleep(0.05)
    answers = [job.result() for job in jobs]
    assert {answer.status_code for answer in answers} <= {400, 429}
    assert any("is not JSON" in answer.text for answer in answers)
    assert max(waits) < HEALTHY_SECONDS
    assert largest - before < 100 * MIB


@pytest.mark.parametrize(
    ("line", "size_bytes"),
    [(b"\n", 16 * MIB), (b" \r\n", 16 * MIB), (b"{}\n", MIB)],
    ids=["newlines", "blanks", "bad rows"],
)
async def test_a_file_of_lines_that_say_nothing_takes_no_memory_of_control(
    control: ControlProcess, line: bytes, size_bytes: int
) -> None:
    file = await tunable(control, line * (size_bytes // len(line)))
    before, largest = control.rss_bytes, 0
    job = asyncio.create_task(train(control, file))
    while not job.done():
        largest = max(largest, control.rss_bytes)
        await asyncio.sleep(0.02)
    assert job.result().status_code == 400
    assert largest - before < 100 * MIB


# A full disk


async def usage(control: ControlProcess, *numbers: int) -> httpx.Response:
    events = [
        {
            "id": f"use-{number}",
            "kind": "inference",
            "tenant": "acme",
            "project": "search",
            "key": "member",
            "model": "tiny",
            "base_model": "tiny",
            "model_identity": "search/tiny",
            "started_ms": 1,
            "ended_ms": 1_700_000_000_000 + number,
            "quantities": {"completion_tokens": number},
        }
        for number in numbers
    ]
    async with control.client(control.settings.internal_token) as client:
        return await client.post("/internal/v1/usage-events", json={"events": events})


async def test_on_a_full_disk_nothing_is_lost_and_all_goes_on_when_there_is_room(
    control: ControlProcess,
) -> None:
    assert (await usage(control, 1, 2)).status_code == 200
    kept = await upload(control, b"kept")
    assert kept.status_code == 200
    fill_disk(control.pid)
    refused = [
        await usage(control, 3),
        await upload(control, b"x" * 2 * MIB),
        await upload(control, b"small"),
    ]
    async with control.client() as client:
        refused.append(await client.post("/api/v1/apply", json=model("m")))
        for answer in refused:
            assert answer.status_code == 503, answer.text
            error = answer.json()["error"]
            assert error["code"] in ("no_room", "database_unavailable")
            assert str(control.settings.home) not in answer.text
            assert answer.headers["retry-after"]
        assert (await client.get("/healthz")).status_code == 200
        assert (await client.get("/api/v1/models")).json()["items"] == []
        assert [file["id"] for file in await listed(control)] == [kept.json()["id"]]
        assert len(files_in(control)) == 1
        make_room(control.pid)
        assert (await usage(control, 1, 2, 3)).json() | {"rejected": []} == {
            "accepted": 1,
            "duplicates": 2,
            "rejected": [],
        }
        assert (await client.post("/api/v1/apply", json=model("m"))).status_code == 200
        assert (await upload(control, b"x" * 2 * MIB)).status_code == 200
        async with asyncio.timeout(60):
            while not (ready := (await client.get("/readyz")).json())["ready"]:
                await asyncio.sleep(0.2)
        assert ready["store"] == "ok"
    assert len(files_in(control, marks=True)) == len(await listed(control)) == 2


async def test_a_control_killed_on_a_full_disk_has_all_that_it_told_of(control: ControlProcess) -> None:
    names = []
    async with control.client() as client:
        fill_disk(control.pid, 2 * MIB)
        for number in range(400):
            name = f"m{number}"[:NAME_CHARACTERS]
            answer = await client.post("/api/v1/apply", json=model(name, annotations={"note": "x" * 60_000}))
            if answer.status_code != 200:
                assert answer.json()["error"]["code"] == "database_unavailable", answer.text
                break
            names.append(name)
    assert 0 < len(names) < 400
    control.kill()
    await control.start()
    async with control.client() as client:
        found = (await client.get("/api/v1/models")).json()["items"]
        assert sorted(one["metadata"]["name"] for one in found) == sorted(names)
        assert (await client.post("/api/v1/apply", json=model("new"))).status_code == 200
