"""The API server of Kubernetes as the operator writes to it. Watching is kopf's."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import kopf

from common.errors import Conflict, Forbidden, InvalidInput, NotFound, SetupError, Unavailable
from common.resources.meta import API_VERSION
from operators.documents import Key, key_of

Body = dict[str, Any]
MANAGER = "computility-operator"
PAGE = "50"
"""Custom resources in one answer: each may have 1.5 MB."""
RENEW_SECONDS = 1.0
"""Credentials that are refused again are not read more often."""
_DRY = {"dryRun": "All"}
_ERRORS = {403: Forbidden, 404: NotFound, 409: Conflict, 422: InvalidInput}


class Kube:
    """``login`` gives the connection; it is asked again where the server refuses the token, which is renewed
    on disk. ``may_write`` is asked before each write. Methods raise errors of ``common.errors``."""

    def __init__(
        self, login: Callable[[], kopf.ConnectionInfo], may_write: Callable[[], bool] = lambda: True
    ) -> None:
        self._login, self._may_write = login, may_write
        self._http: httpx.AsyncClient | None = None
        self._retired: httpx.AsyncClient | None = None
        self._renewing = asyncio.Lock()
        self._renewed_seconds = float("-inf")

    async def close(self) -> None:
        """Release the connections."""
        for client in (self._http, self._retired):
            if client is not None:
                await client.aclose()

    async def get(self, path: str) -> Body:
        """What lies at the path; raises ``NotFound``."""
        return await self._ask("GET", path)

    async def each(self, path: str, **query: str) -> AsyncIterator[Body]:
        """All that lies there, read in pages that are small however large each of it is."""
        after = ""
        while True:
            page = await self._ask(
                "GET", path, params={"limit": PAGE, **query, **({"continue": after} if after else {})}
            )
            for item in page["items"]:
                yield item
            after = page["metadata"].get("continue", "")
            if not after:
                return

    async def create(self, path: str, body: Mapping[str, Any], *, dry_run: bool = False) -> Body:
        """Make it; raises ``Conflict`` where it is there. ``dry_run``: only what would be the answer."""
        return await self._ask("POST", path, json=body, params=_DRY if dry_run else {})

    async def replace(self, path: str, body: Mapping[str, Any]) -> Body:
        """Write all of it; raises ``Conflict`` where it changed meanwhile."""
        return await self._ask("PUT", path, json=body)

    async def delete(self, path: str, uid: str = "") -> None:
        """Delete it (only the one with that uid)."""
        body = {"preconditions": {"uid": uid}} if uid else None
        await self._ask("DELETE", path, json=body)

    async def merge(self, path: str, patch: Mapping[str, Any], *, dry_run: bool = False) -> Body:
        """Merge a patch into it. ``dry_run``: only what would be the answer."""
        return await self._patch(path, patch, "application/merge-patch+json", **(_DRY if dry_run else {}))

    async def patch(self, path: str, steps: Sequence[Mapping[str, Any]]) -> Body:
        """Do the steps of a JSON patch, all or none; raises ``InvalidInput`` where a test fails."""
        return await self._patch(path, steps, "application/json-patch+json", fieldManager=MANAGER)

    async def set_finalizers(self, body: Mapping[str, Any], finalizers: list[str]) -> Body:
        """The custom resource with these; raises ``Conflict`` where it changed meanwhile."""
        metadata = body["metadata"]
        patch = {"metadata": {"finalizers": finalizers, "resourceVersion": metadata["resourceVersion"]}}
        return await self.merge(path_of(key_of(body)), patch)

    async def apply_status(self, body: Mapping[str, Any], status: Mapping[str, Any]) -> Body:
        """The custom resource with this status, which is ours alone."""
        metadata = body["metadata"]
        identity = {name: metadata[name] for name in ("name", "namespace", "uid") if name in metadata}
        wanted = {"apiVersion": API_VERSION, "kind": body["kind"], "metadata": identity, "status": status}
        path = f"{path_of(key_of(body))}/status"
        return await self._patch(
            path, wanted, "application/apply-patch+yaml", fieldManager=MANAGER, force="true"
        )

    async def _patch(self, path: str, patch: Any, kind: str, **query: str) -> Body:
        headers = {"Content-Type": kind}
        return await self._ask("PATCH", path, params=query, content=json.dumps(patch), headers=headers)

    async def _ask(self, method: str, path: str, **options: Any) -> Body:
        if method != "GET" and not self._may_write():
            raise Unavailable("Kubernetes: this operator leads no longer, and writes nothing")
        client = self._http or await self._renewed(None)
        response = await _send(client, method, path, **options)
        if response.status_code == httpx.codes.UNAUTHORIZED:
            response = await _send(await self._renewed(client), method, path, **options)
        if response.is_error:
            raise _error(response)
        try:
            content: Body = response.json()
        except ValueError as error:
            raise Unavailable("Kubernetes: the answer is no JSON") from error
        return content

    async def _renewed(self, refused: httpx.AsyncClient | None) -> httpx.AsyncClient:
        """A client with the credentials of now. Whoever was refused together gets the same one; what is on
        its way with the former one comes to its end, unless that takes until the next renewal."""
        async with self._renewing:
            now = asyncio.get_running_loop().time()
            if self._http is not None and (
                self._http is not refused or now - self._renewed_seconds < RENEW_SECONDS
            ):
                return self._http
            try:
                fresh = client_of(self._login())
            except (SetupError, OSError, ValueError) as error:
                if self._http is None:
                    raise
                raise Unavailable(f"Kubernetes: the credentials cannot be read: {error}") from error
            former, self._retired, self._http = self._retired, self._http, fresh
            if refused is not None:
                self._renewed_seconds = now
        if former is not None:
            await former.aclose()
        return fresh


async def _send(client: httpx.AsyncClient, method: str, path: str, **options: Any) -> httpx.Response:
    try:
        return await client.request(method, path, **options)
    except (httpx.HTTPError, httpx.InvalidURL, RuntimeError) as error:
        raise Unavailable(f"Kubernetes: the API server does not answer: {error!r}") from error


def _error(response: httpx.Response) -> Exception:
    try:
        message = str(response.json()["message"])
    except (ValueError, KeyError, TypeError):
        message = response.text[:300]
    kind = _ERRORS.get(response.status_code, Unavailable)
    return kind(f"Kubernetes: {message}")


def path_of(key: Key) -> str:
    """Where a custom resource lies."""
    space = f"/namespaces/{quote(key.namespace)}" if key.namespace else ""
    return f"/apis/{API_VERSION}{space}/{key.plural}/{quote(key.name)}"


def core_path(namespace: str, plural: str, name: str = "") -> str:
    """Where something of the core group lies."""
    return f"/api/v1/namespaces/{quote(namespace)}/{plural}" + (f"/{quote(name)}" if name else "")


def client_of(info: kopf.ConnectionInfo) -> httpx.AsyncClient:
    """A client with the credentials that kopf found."""
    headers = {"Authorization": f"{info.scheme or 'Bearer'} {info.token}"} if info.token else {}
    return httpx.AsyncClient(
        base_url=info.server,
        headers=headers,
        verify=_trust(info),
        timeout=httpx.Timeout(30.0, connect=5.0),
        trust_env=False,
        limits=httpx.Limits(max_connections=32, max_keepalive_connections=16),
    )


def _trust(info: kopf.ConnectionInfo) -> ssl.SSLContext | bool:
    if info.server.startswith("http:"):
        return False
    context = ssl.create_default_context(
        cafile=str(info.ca_path) if info.ca_path else None, cadata=_text(info.ca_data)
    )
    if info.insecure:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    certificate = info.certificate_path, info.private_key_path
    if info.certificate_data:
        with tempfile.TemporaryDirectory() as folder:
            pair = Path(folder) / "pem"
            pair.touch(0o600)
            pair.write_text(f"{_text(info.certificate_data)}\n{_text(info.private_key_data)}")
            context.load_cert_chain(pair)
    elif certificate[0]:
        context.load_cert_chain(str(certificate[0]), str(certificate[1]) if certificate[1] else None)
    return context


def _text(data: str | bytes | None) -> str | None:
    """PEM, of what may be PEM in base 64 as kubeconfigs have it."""
    if data is None:
        return None
    text = data.decode() if isinstance(data, bytes) else data
    return text if "-----BEGIN" in text else base64.b64decode(text).decode()
