"""Control as the operator asks it: at one of its addresses, with the operator's key, and with the rights of
whom it acts for.

Every method raises an error of ``common.errors``: the one that control says, or ``Unavailable`` when it
cannot be reached.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

import httpx

from common.error_bodies import error_from_body
from common.errors import Unavailable
from common.ids import new_id
from operators.control.together import Together

Document = dict[str, Any]
ACT_AS = "Computility-Act-As"
SILENCE_SECONDS = 25.0
"""Of a stream that has a heartbeat every 10 s."""
_BROKEN = (httpx.HTTPError, httpx.InvalidURL, RuntimeError)
"""What a client raises whose server, or which itself, is away; the last are streams and closed clients."""


class ControlLink:
    """``key`` is asked for the key before each request, so that another one is taken up;
    ``may_write`` before each write."""

    def __init__(
        self,
        urls: Sequence[str],
        key: Callable[[], str],
        *,
        verify: ssl.SSLContext | bool = True,
        timeout_seconds: float = 30.0,
        transport: httpx.AsyncBaseTransport | None = None,
        may_write: Callable[[], bool] = lambda: True,
    ) -> None:
        self._urls = [url.rstrip("/") for url in urls]
        self._key, self._may_write = key, may_write
        self._together = Together(self._apply_all)
        self._http = httpx.AsyncClient(
            timeout=httpx.Timeout(timeout_seconds, connect=5.0),
            verify=verify,
            transport=transport,
            trust_env=False,
            limits=httpx.Limits(max_connections=64, max_keepalive_connections=16),
        )

    async def close(self) -> None:
        """Release the connections."""
        await self._http.aclose()

    async def apply(
        self, document: Mapping[str, Any], acts_as: str | None = None, *, dry_run: bool = False
    ) -> Document:
        """Apply one resource; answers ``{"outcome": "created|configured|unchanged", "resource": {…}}``."""
        if not dry_run:
            return await self._together.apply(document, acts_as)
        answer = await self._write(
            "POST", "/api/v1/apply", acts_as, params={"dryRun": "true"}, json=dict(document)
        )
        results: list[Document] = answer["results"]
        return results[0]

    async def _apply_all(self, documents: Sequence[Mapping[str, Any]], acts_as: str | None) -> list[Document]:
        content = documents[0] if len(documents) == 1 else list(documents)
        answer = await self._write("POST", "/api/v1/apply", acts_as, json=content)
        results: list[Document] = answer["results"]
        return results

    async def list_all(self, plural: str) -> tuple[list[Document], int]:
        """All of a kind, and the revision from which on changes are to be watched."""
        answer = await self._ask("GET", f"/api/v1/{plural}")
        return answer["items"], answer["revision"]

    async def get(self, plural: str, name: str, project: str = "") -> Document:
        """One resource; raises ``NotFound``."""
        return await self._ask("GET", f"/api/v1/{plural}/{name}", params=_in(project))

    async def delete(
        self,
        plural: str,
        name: str,
        project: str = "",
        acts_as: str | None = None,
        *,
        resource_version: int = 0,
        dry_run: bool = False,
    ) -> None:
        """Delete a resource; ``Conflict`` names what still uses it, ``NotFound`` when it is gone."""
        query = {**_in(project), "resourceVersion": str(resource_version)}
        if dry_run:
            query["dryRun"] = "true"
        await self._write("DELETE", f"/api/v1/{plural}/{name}", acts_as, params=query)

    async def watch(self, kinds: Sequence[str], since: int) -> AsyncIterator[Document]:
        """Changes after the revision, heartbeats between them, as ``common.client`` has them. A stream that
        is silent for too long ends with ``Unavailable``."""
        query = {"kinds": ",".join(kinds), "since": str(since)}
        patience = httpx.Timeout(SILENCE_SECONDS, connect=5.0)
        url = self._urls[0]
        try:
            ask = self._http.stream(
                "GET", f"{url}/api/v1/watch", params=query, headers=self._headers(None), timeout=patience
            )
            async with ask as response:
                if response.is_error:
                    await response.aread()
                    raise error_from_body(response.status_code, response.text)
                async for line in response.aiter_lines():
                    if line.strip():
                        yield json.loads(line)
        except _BROKEN as error:
            raise self._unreachable(url, error) from error
        except ValueError as error:
            raise Unavailable(f"{url} does not answer as control does") from error

    async def events(self, after: str | None, limit: int = 500) -> list[Document]:
        """What happened after the event of that id (None = from the oldest on), oldest first."""
        query = {"limit": str(limit), **({"after": after} if after else {})}
        answer = await self._ask("GET", "/api/v1/events", params=query)
        items: list[Document] = answer["items"]
        return items

    async def own_key(self) -> str:
        """The name of the operator's own key."""
        return str((await self._ask("GET", "/api/v1/whoami"))["key"])

    async def make_key(self, wanted: Mapping[str, Any], acts_as: str) -> Document:
        """Make an API key; ``secret`` in the answer is shown this once."""
        return await self._write("POST", "/api/v1/keys", acts_as, json=dict(wanted))

    async def revoke_key(self, name: str) -> None:
        """Make a key invalid from now on."""
        await self._write("DELETE", f"/api/v1/keys/{name}", None)

    async def upload(self, name: str, content: bytes, project: str, acts_as: str | None, once: str) -> str:
        """Upload a training file, once for each ``once``; its id."""
        answer = await self._write(
            "POST",
            "/v1/files",
            acts_as,
            once=once,
            project=project,
            data={"purpose": "fine-tune"},
            files={"file": (name, content)},
        )
        return str(answer["id"])

    async def delete_file(self, file_id: str, project: str, acts_as: str | None) -> None:
        """Delete an uploaded file."""
        await self._write("DELETE", f"/v1/files/{quote(file_id, safe='')}", acts_as, project=project)

    async def create_job(
        self, body: Mapping[str, Any], project: str, acts_as: str | None, once: str
    ) -> Document:
        """Make a fine-tune job, once for each ``once``."""
        return await self._write(
            "POST", "/v1/fine_tuning/jobs", acts_as, once=once, project=project, json=dict(body)
        )

    async def cancel_job(self, job: str, project: str, acts_as: str | None) -> None:
        """Cancel a job; ``Conflict`` or ``InvalidInput`` when it has ended."""
        await self._write("POST", f"/v1/fine_tuning/jobs/{job}/cancel", acts_as, project=project)

    async def _write(
        self,
        method: str,
        path: str,
        acts_as: str | None,
        *,
        once: str | None = None,
        project: str = "",
        **options: Any,
    ) -> Document:
        """A write with an Idempotency-Key, so that it may be sent again when its answer got lost."""
        headers = {"Idempotency-Key": once or new_id("idem")}
        if project:
            headers["OpenAI-Project"] = project
        try:
            return await self._ask(method, path, acts_as, headers, **options)
        except Unavailable as error:
            if not isinstance(error.__cause__, httpx.ReadError | httpx.RemoteProtocolError):
                raise
            return await self._ask(method, path, acts_as, headers, **options)

    async def _ask(
        self,
        method: str,
        path: str,
        acts_as: str | None = None,
        headers: Mapping[str, str] | None = None,
        **options: Any,
    ) -> Document:
        if method != "GET" and not self._may_write():
            raise Unavailable("this operator leads no longer, and writes nothing")
        told = {**self._headers(acts_as), **(headers or {})}
        url = self._urls[0]
        try:
            response = await self._http.request(method, f"{url}{path}", headers=told, **options)
        except _BROKEN as error:
            raise self._unreachable(url, error) from error
        if response.is_error:
            raise error_from_body(response.status_code, response.text)
        try:
            content: Document = response.json()
        except ValueError as error:
            raise Unavailable(f"{url} does not answer as control does") from error
        return content

    def _headers(self, acts_as: str | None) -> dict[str, str]:
        headers = {"Authorization": f"Bearer {self._key()}"}
        return {**headers, ACT_AS: acts_as} if acts_as else headers

    def _unreachable(self, url: str, error: Exception) -> Unavailable:
        """The error, after which the next address is asked."""
        if url == self._urls[0]:
            self._urls.append(self._urls.pop(0))
        return Unavailable(f"cannot reach control at {url} ({str(error) or type(error).__name__})")


def _in(project: str) -> dict[str, str]:
    return {"project": project} if project else {}
