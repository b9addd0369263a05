"""The validating webhook: what control says of a document before Kubernetes keeps it.

What cannot be judged yet passes, and its status tells: whatever a document refers to may be on its way. When
control has no opinion in time, a setting says whether the document passes with a warning.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from aiohttp import web
from prometheus_client import Counter

from common.clock import Clock
from common.errors import (
    ComputilityError,
    InvalidInput,
    NotFound,
    SetupError,
    TooManyRequests,
    Unauthenticated,
    Unavailable,
)
from common.settings import Settings
from common.settings.address import AddressSettings
from common.telemetry import get_logger
from common.tls import LOOK_SECONDS, ServerTls
from common.units import MIB
from operators.control.link import ControlLink
from operators.core.reconcile import mark_of
from operators.documents import (
    NOWHERE,
    Place,
    document_for,
    is_leaving,
    is_orphaned,
    key_of,
    manifest_of,
    mark_for,
    place_of,
)
from operators.kube.client import Kube

PLACE_SECONDS = 5.0
MAX_BODY_BYTES = 3 * MIB + MIB // 8
"""Two objects, as large as Kubernetes keeps them (1.5 MiB), and what the API server says about them."""
MOST_AT_ONCE = 16
"""Reviews that are read and judged at a time; others wait, and are told to come again after too long."""
READ_SECONDS = 2.0
MAX_WARNING_CHARACTERS = 240
SYSTEM = "system:serviceaccount:kube-system:"
REVIEWS = Counter("computility_operator_reviews", "Documents judged by the webhook", ("operation", "verdict"))
_log = get_logger("operator.webhook")
_AWAY = (Unavailable, TooManyRequests, Unauthenticated)


@dataclass(frozen=True)
class Verdict:
    """``refusal`` is empty where the document may pass; ``causes`` are paths with what is wrong there."""

    refusal: str = ""
    causes: tuple[tuple[str, str], ...] = ()
    warning: str = ""


PASSES = Verdict()


class Webhook:
    """Judges what the API server asks about."""

    def __init__(self, kube: Kube, link: ControlLink, settings: Settings, clock: Clock) -> None:
        self._kube, self._link, self._clock = kube, link, clock
        self._seconds = settings.operator.webhook_seconds
        self._refuses = settings.operator.webhook_unavailable == "refuse"
        self._places: dict[str, tuple[float, Place]] = {}
        self._cluster = ""

    async def review(self, review: Mapping[str, Any]) -> dict[str, Any]:
        """The answer to an AdmissionReview."""
        request = review["request"]
        try:
            async with asyncio.timeout(self._seconds):
                verdict = await self._judge(request)
        except (*_AWAY, TimeoutError) as error:
            message = f"control has no opinion now: {error or 'it takes too long'}"
            verdict = Verdict(refusal=message) if self._refuses else Verdict(warning=message)
        told = "refused" if verdict.refusal else "warned" if verdict.warning else "passed"
        REVIEWS.labels(request["operation"], told).inc()
        return {
            "apiVersion": "admission.k8s.io/v1",
            "kind": "AdmissionReview",
            "response": _response(request["uid"], verdict),
        }

    async def _judge(self, request: Mapping[str, Any]) -> Verdict:
        new, old = request.get("object"), request.get("oldObject")
        if request["operation"] == "DELETE":
            # Who empties a namespace asks again and again; the finalizer sees to the order.
            if old is None or str(request.get("userInfo", {}).get("username", "")).startswith(SYSTEM):
                return PASSES
            return await self._judge_delete(old)
        if new is None or is_leaving(new) or (old is not None and _says_the_same(new, old)):
            return PASSES
        try:
            return await self._judge_write(new, old)
        except (InvalidInput, NotFound) as error:
            awaited = isinstance(error, NotFound) or (
                bool(error.problems) and all(p.code == "not_found" for p in error.problems)
            )
            return Verdict(warning=f"not yet: {error.message}") if awaited else _refusal(error)
        except _AWAY:
            raise
        except ComputilityError as error:
            return _refusal(error)

    async def _judge_write(self, new: Mapping[str, Any], old: Mapping[str, Any] | None) -> Verdict:
        key = key_of(new)
        if manifest_of(new, old) is not None:
            return PASSES
        place = await self._place(key.namespace)
        document = document_for(new, place, mark_for(await self._identity(), key))
        if key.kind != "Node":
            await self._link.apply(document, place.acts_as, dry_run=True)
        return PASSES

    async def _judge_delete(self, old: Mapping[str, Any]) -> Verdict:
        key = key_of(old)
        if key.kind in ("ApiKey", "FineTune", "Node") or is_leaving(old) or is_orphaned(old):
            return PASSES
        place = await self._place(key.namespace)
        project = place.project
        try:
            seen = await self._link.get(key.plural, key.name, project)
            if mark_of(seen) == mark_for(await self._identity(), key):
                await self._link.delete(key.plural, key.name, project, place.acts_as, dry_run=True)
        except NotFound:
            return PASSES
        except _AWAY:
            raise
        except ComputilityError as error:
            return _refusal(error)
        return PASSES

    async def _place(self, namespace: str) -> Place:
        if not namespace:
            return NOWHERE
        now = self._clock.monotonic_seconds()
        since, place = self._places.get(namespace, (-PLACE_SECONDS, NOWHERE))
        if now - since >= PLACE_SECONDS:
            place = place_of(await self._kube.get(f"/api/v1/namespaces/{quote(namespace)}"))
            self._places = {
                name: (at, p) for name, (at, p) in self._places.items() if now - at < PLACE_SECONDS
            }
            self._places[namespace] = (now, place)
        return place

    async def _identity(self) -> str:
        if not self._cluster:
            system = await self._kube.get("/api/v1/namespaces/kube-system")
            self._cluster = system["metadata"]["uid"]
        return self._cluster


def _says_the_same(new: Mapping[str, Any], old: Mapping[str, Any]) -> bool:
    """Whether all that goes to control is unchanged: finalizers and annotations do not."""
    mine, theirs = new["metadata"], old["metadata"]
    return new.get("spec") == old.get("spec") and mine.get("labels") == theirs.get("labels")


def _refusal(error: ComputilityError) -> Verdict:
    causes = tuple((problem.path, problem.message) for problem in error.problems)
    if not causes and error.param:
        causes = ((error.param, error.message.removeprefix(f"{error.param}: ")),)
    return Verdict(refusal=error.message, causes=causes)


def _response(uid: str, verdict: Verdict) -> dict[str, Any]:
    response: dict[str, Any] = {"uid": uid, "allowed": not verdict.refusal}
    if verdict.warning:
        response["warnings"] = [verdict.warning[:MAX_WARNING_CHARACTERS]]
    if verdict.refusal:
        causes = [
            {"reason": "FieldValueInvalid", "field": path, "message": message}
            for path, message in verdict.causes
        ]
        response["status"] = {
            "status": "Failure",
            "reason": "Invalid",
            "code": 422,
            "message": verdict.refusal,
            "details": {"causes": causes},
        }
    return response


class Door:
    """Lets so many reviews in at a time, and reads no more of each than one can have."""

    def __init__(self, webhook: Webhook, seconds: float, most: int = MOST_AT_ONCE) -> None:
        self._webhook, self._seconds = webhook, seconds
        self._places = asyncio.Semaphore(most)

    async def validate(self, request: web.Request) -> web.Response:
        """The answer to the request of an API server."""
        if (request.content_length or 0) > MAX_BODY_BYTES:
            return web.Response(status=413, text="larger than any AdmissionReview")
        try:
            async with asyncio.timeout(self._seconds):
                await self._places.acquire()
        except TimeoutError:
            return web.Response(status=503, text="too many reviews at once")
        try:
            return await self._answer(request)
        finally:
            self._places.release()

    async def _answer(self, request: web.Request) -> web.Response:
        try:
            async with asyncio.timeout(READ_SECONDS):
                review = await request.json()
            str(review["request"]["uid"]), str(review["request"]["operation"])
        except (ValueError, KeyError, TypeError, RecursionError):
            return web.Response(status=400, text="this takes an AdmissionReview")
        except TimeoutError:
            return web.Response(status=408, text="the AdmissionReview does not come to its end")
        return web.json_response(await self._webhook.review(review))


def ask_for_certificates(context: ssl.SSLContext, ca_file: str) -> None:
    """Have whoever connects show a certificate of the authority. Raises ``SetupError``."""
    try:
        context.load_verify_locations(cafile=ca_file)
    except OSError as error:  # ssl.SSLError too
        path = "operator.webhook_client_ca_file"
        raise SetupError(f"{path}: {error}", param=path) from error
    context.verify_mode = ssl.CERT_REQUIRED


async def serve_webhook(webhook: Webhook, settings: Settings) -> web.AppRunner:
    """Serve until the runner is cleaned up; certificates that change are taken up. Raises ``SetupError``."""
    wanted = settings.operator
    folder = Path(wanted.webhook_folder)
    address = AddressSettings(
        host=wanted.webhook_host,
        port=wanted.webhook_port,
        tls_certificate_file=str(folder / "tls.crt"),
        tls_key_file=str(folder / "tls.key"),
    )
    tls = ServerTls(address)
    if wanted.webhook_client_ca_file and tls.context is not None:
        ask_for_certificates(tls.context, wanted.webhook_client_ca_file)

    async def renew(_: web.Application) -> Any:
        task = asyncio.create_task(_look(tls))
        yield
        task.cancel()

    app = web.Application(client_max_size=MAX_BODY_BYTES)
    app.cleanup_ctx.append(renew)
    app.add_routes([web.post("/validate", Door(webhook, wanted.webhook_seconds).validate)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, address.host, address.port, ssl_context=tls.context).start()
    _log.info("the webhook listens", url=f"{address.base_url}/validate")
    return runner


async def _look(tls: ServerTls) -> None:
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        tls.look()
