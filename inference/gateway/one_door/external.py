"""Requests to models that others serve: asked in their API, counted by their usage.

Nothing of a client's head goes there: headers are made anew, with the provider's key.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

from common.data_class import is_within
from common.doors import RouteExternal
from common.errors import ComputilityError, EngineFailed, Forbidden, TooManyRequests
from common.settings import GatewaySettings
from common.telemetry import get_logger
from common.wire import Route, RouteReplica
from inference.core.apis.wires import WIRES
from inference.core.body import InferenceRequest
from inference.core.engine_errors import error_from_engine
from inference.core.one_door.foreign import ForeignEvents, ForeignStream, about_prompt, foreign_answer
from inference.core.one_door.foreign_body import foreign_body
from inference.core.one_door.foreign_messages import ForeignMessages, foreign_message
from inference.core.routing.router import Sent
from inference.core.routing.views import ReplicaView
from inference.gateway.books.bill import Job
from inference.gateway.budgets.worst_case import most_of
from inference.gateway.engines.connection import Malformed, TransportFailed
from inference.gateway.engines.legs import Answering, Begin
from inference.gateway.engines.upstream import (
    JSON_CONTENT,
    ClientWatch,
    EngineCall,
    OnComments,
    StreamBroke,
    drop_comments,
)
from inference.gateway.engines.whole_answer import Hold, WholeAnswer, read_answer, read_error
from inference.gateway.one_door.addresses import ExternalClient
from inference.gateway.one_door.candidates import device_class_of
from inference.gateway.one_door.passage import Passage
from inference.gateway.one_door.provider_keys import ProviderKeys

NOT_ALLOWED = "data_class_not_allowed"
RETRY_AFTER_SECONDS = 5
_ANTHROPIC_VERSION = "2023-06-01"
_LARGE_BYTES = 256 * 1024
_ITS_ERRORS = frozenset({400, 413, 422})
_REQUEST_IDS = (b"x-request-id", b"request-id")
_SANE_ID = re.compile(r"[A-Za-z0-9_.:-]{1,128}")
_log = get_logger("gateway.external")


class ExternalCall(EngineCall):
    """One request to an external model; as that of an engine."""

    def __init__(
        self,
        client: ExternalClient,
        replica: RouteReplica,
        job: Job,
        external: RouteExternal,
        passage: Passage,
        id_: str,
    ) -> None:
        request = job.request
        super().__init__(client, replica, Sent(ReplicaView(replica.url, 0), 0, ""), request, id_)
        self.key = ""
        self._passage, self._model = passage, job.route.backend_model
        self._is_anthropic = external.protocol == "anthropic"
        self._estimates = external.untold_usage == "estimate"
        self._most = _most_tokens(request, job.route.context_tokens)
        self._events = self._events_of(request)
        self._request_asked = request

    async def send(self, body: bytes, on_comments: OnComments, hold: Hold) -> None:
        """As that of an engine."""
        loop = asyncio.get_running_loop()
        began_seconds = loop.time()
        headers = _headers(self.key, self._is_anthropic)
        url = self.replica.url + WIRES[self._request_asked.api].path.removeprefix("/v1")
        response = await self._client.post(url, body, headers)
        self._response, self.status = response, response.status
        self._keep_id(response.headers)
        if self.status != 200:
            self.content = await read_error(response)
        elif self._request_asked.stream:
            self.content = await self._more()  # no signs of life: whoever else may answer is not kept from it
            if not self.content:
                raise Malformed("the provider ended the stream before its first event")
        else:
            self.answer = self._made(await read_answer(response, hold, WIRES[self._request_asked.api].usage))
        self.waited_seconds = loop.time() - began_seconds

    async def chunks(self) -> AsyncIterator[bytes]:
        """The stream as an engine would give it. Raises ``StreamBroke``."""
        data = self.content
        while data:
            yield data
            try:
                data = await self._more()
            except TransportFailed as error:
                self.trouble = "stream_broke"
                raise StreamBroke(str(error) or type(error).__name__) from error

    async def abort(self) -> bool:
        """Nobody can be told to stop: what it has made is read on for its usage, for a while."""
        return True

    async def is_healthy(self) -> bool:
        """Nobody can be asked."""
        return False

    def _events_of(self, request: InferenceRequest) -> ForeignStream:
        prompt = about_prompt(request)
        if self._is_anthropic:
            return ForeignMessages(self._model, prompt, self._estimates, self._most)
        choices = request.choices_per_prompt
        return ForeignEvents(self._model, prompt, self._estimates, choices, request.prompts, self._most)

    async def _more(self) -> bytes:
        """The next events, whole; empty at the end."""
        assert self._response is not None
        while not self._events.ended:
            data = await self._response.readany()
            made = self._events.feed(data) if data else self._events.end()
            if self._events.told:
                self._passage.labels["usage"] = "provider"
            if made or not data:
                return made
        return b""

    def _made(self, answer: WholeAnswer) -> WholeAnswer:
        """The answer as an engine would give it; one that cannot be read has no usage, and is not given."""
        if answer.content is None:
            self._passage.labels |= {"usage": "provider"} if answer.usage is not None else {}
            return answer
        prompt = about_prompt(self._request_asked) if self._estimates else None
        try:
            read = foreign_message if self._is_anthropic else foreign_answer
            content, told = read(answer.content, self._model, prompt, self._most)
        except (ValueError, RecursionError, TypeError, AttributeError):
            return WholeAnswer(answer.content, None)
        if told:
            self._passage.labels["usage"] = "provider"
        return WholeAnswer(content, WIRES[self._request_asked.api].usage(content))

    def _keep_id(self, headers: dict[bytes, bytes]) -> None:
        for name in _REQUEST_IDS:
            told = headers.get(name, b"").decode("latin-1")
            if _SANE_ID.fullmatch(told):
                self._passage.labels["provider_request_id"] = told
                return


class Externals:
    """All external models, as this gateway sees them."""

    def __init__(self, settings: GatewaySettings, folder: Path) -> None:
        self._client = ExternalClient(
            settings.connect_timeout_seconds,
            settings.read_timeout_seconds,
            settings.external_private_addresses,
        )
        self._keys = ProviderKeys(settings.provider_keys_folder or folder)

    async def close(self) -> None:
        """End all connections."""
        await self._client.close()

    async def call(
        self, job: Job, watch: ClientWatch, begin: Begin, on_comments: OnComments = drop_comments
    ) -> Answering:
        """The answered call. Raises ``Forbidden`` where the data may not go there, whoever sent them here."""
        external, passage = job.route.external, job.passage
        if external is None or passage is None or not _may_go(passage, external):
            raise Forbidden(f"data of this request may not go to {job.route.model}", code=NOT_ALLOWED)
        key = self._keys.key_of(external.secret)
        passage.provider = external.provider
        replica = _replica(job.route, external)
        begin(replica)
        body = await _body(job.request, job.route.backend_model)
        call = ExternalCall(self._client, replica, job, external, passage, watch.id)
        call.key, watch.call = key, call
        try:
            await call.send(body, on_comments, watch.hold)
        except TransportFailed as error:
            call.close()
            _log.warning("an external model failed", model=external.name, error=str(error))
            raise EngineFailed(f"{job.route.model} could not be reached, or broke off; try again") from error
        except BaseException:
            call.close()
            raise
        if call.status == 200:
            return Answering(call)
        call.close()
        _log.warning("an external model refuses", model=external.name, status=call.status)
        raise _error(call, job)


def _headers(key: str, is_anthropic: bool) -> dict[str, str]:
    """All that a provider is told beside what the connection asks for."""
    if is_anthropic:
        version = {**JSON_CONTENT, "anthropic-version": _ANTHROPIC_VERSION}
        return {**version, "x-api-key": key} if key else version
    return {**JSON_CONTENT, "Authorization": f"Bearer {key}"} if key else JSON_CONTENT


def _most_tokens(request: InferenceRequest, context_tokens: int | None) -> int:
    """No request uses more: twice what its bytes and the context say, as providers add to prompts, and some
    count what a model thinks beside the tokens that were asked for."""
    return 2 * sum(most_of(replace(request, token_limits=()), context_tokens))


def _may_go(passage: Passage, external: RouteExternal) -> bool:
    """The same question as that of the choice, asked again where the data would go out."""
    regions = passage.regions
    allowed = regions is None or external.region in regions
    return allowed and is_within(passage.data_class, external.data_class)


def _replica(route: Route, external: RouteExternal) -> RouteReplica:
    return RouteReplica(
        id=f"external/{external.name}",
        url=external.url,
        device_class=device_class_of(route),
        model_identity=route.model_identity,
        model_shared=route.shared,
    )


async def _body(request: InferenceRequest, model: str) -> bytes:
    if len(request.rest) > _LARGE_BYTES:
        return await asyncio.to_thread(foreign_body, request, model)
    return foreign_body(request, model)


def _error(call: ExternalCall, job: Job) -> ComputilityError:
    """What a client is told of a provider's refusal: of the request's own faults what it says, of its
    account nothing."""
    if call.status in _ITS_ERRORS:
        return error_from_engine(call.status, call.content, job.request.input_field)
    if call.status == 429:
        message = f"the provider of {job.route.model} takes no more requests now"
        return TooManyRequests(message, retry_after_seconds=RETRY_AFTER_SECONDS)
    return EngineFailed(f"the provider of {job.route.model} failed to answer; try again")
