"""The steps of the demo, in order: each does one thing as a user does it and checks what came of it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count

import openai
from openai import DefaultHttpxClient, OpenAI
from openai.types.fine_tuning import FineTuningJob, FineTuningJobEvent, SupervisedHyperparametersParam
from rich.console import Console

from common.client import Client
from common.errors import ComputilityError, InvalidInput, Unavailable
from common.settings import Settings
from common.tls import control_client, trust_of
from control.console.display import Stage
from control.console.documents.outcomes import apply_manifests
from control.console.tables.usage_table import print_usage
from control.demo import bill, story
from control.demo.background import Platform

QUESTION = "What is a watt?"
JOB_TIMEOUT_SECONDS = 600.0
SERVED_TIMEOUT_SECONDS = 120.0
MAX_ANSWER_TOKENS = 40


class CheckFailed(ComputilityError):
    """Something that the demo asserts does not hold."""


@dataclass
class Scene:
    """What the steps share, and what the current one has used."""

    out: Console
    settings: Settings
    platform: Platform
    model: str
    stop: threading.Event
    served_name: str = ""
    project: str = ""
    endpoint: str = ""
    key: str = ""
    secret: str = ""
    job: FineTuningJob | None = None
    tokens: int = 0
    microcredits: int = 0
    asked: int = 0
    inference_cost: int = 0

    def begin(self) -> None:
        """A new step starts with nothing used."""
        self.tokens = self.microcredits = 0

    def check_not_stopped(self) -> None:
        """Raise when Ctrl-C was pressed."""
        if self.stop.is_set():
            raise ComputilityError("interrupted")

    def control(self) -> Client:
        """Control, as the administrator."""
        return control_client(self.settings, self.platform.key)

    def openai(self) -> OpenAI:
        """The gateway, as a member of the project."""
        url = self.settings.gateway_url
        http = DefaultHttpxClient(verify=trust_of(self.settings, url))
        return OpenAI(base_url=url, api_key=self.secret, max_retries=0, timeout=300, http_client=http)


def build_model(scene: Scene, stage: Stage) -> None:
    manifests = story.example_manifests(scene.model)
    if story.needs_tiny_model(manifests):
        stage.tell("training a tokenizer and a few million weights, up to a minute")
        for warning in story.build_tiny_model(scene.settings):
            stage.say(warning)
        size = sum(path.stat().st_size for path in story.tiny_model_folder(scene.settings).iterdir())
        stage.summary = f"tiny-llama, {size / 1e6:.1f} MB"
    else:
        stage.summary = f"{scene.model} is used instead"


def start(scene: Scene, stage: Stage) -> None:
    scene.platform.start(stage.tell)
    stage.summary = f"base URL {scene.settings.gateway_url}"
    stage.say(f"admin key {scene.platform.key} (shown this once)")


def apply_examples(scene: Scene, stage: Stage) -> None:
    manifests = story.example_manifests(scene.model)
    scene.project, scene.endpoint = story.the_endpoint(manifests)
    with scene.control() as client:
        apply_manifests(client, manifests, scene.out)
        names = {key["metadata"]["name"] for key in client.list_keys()}
        scene.key = next(name for name in (f"demo-{n}" for n in count(1)) if name not in names)
        scene.secret = client.create_key(scene.key, "member", project=scene.project)["secret"]
        ready = story.wait_ready(client, scene.project, scene.endpoint, stage.tell, scene.stop)
    scene.check_not_stopped()
    assert ready is not None
    scene.served_name = ready["status"]["servedName"]
    replica = ready["status"]["replicas"][0]
    stage.summary = f"{scene.endpoint} is Ready on {replica['deviceClass']}"


def chat(scene: Scene, stage: Stage) -> None:
    with scene.openai() as client:
        names = [model.id for model in client.models.list()]
        if scene.served_name not in names:
            raise CheckFailed(f"/v1/models does not list {scene.served_name}: {names}")
        stage.say(f"{scene.served_name}, plain:     {_ask(scene, client, scene.served_name, QUESTION)}")
        stage.say(f"{scene.served_name}, streaming: {_stream(scene, client, scene.served_name, QUESTION)}")
    _settle(scene)


def _ask(scene: Scene, client: OpenAI, model: str, question: str) -> str:
    answer = client.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": question}],
        max_tokens=MAX_ANSWER_TOKENS,
        temperature=0,
    )
    text = answer.choices[0].message.content or ""
    if not text.strip() or answer.usage is None:
        raise CheckFailed(f"{model} gave no text or no usage")
    scene.tokens += answer.usage.total_tokens
    return text.strip()


def _stream(scene: Scene, client: OpenAI, model: str, question: str) -> str:
    parts, used = [], 0
    for chunk in client.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": question}],
        max_tokens=MAX_ANSWER_TOKENS,
        temperature=0,
        stream=True,
        stream_options={"include_usage": True},
    ):
        parts += [choice.delta.content or "" for choice in chunk.choices]
        used = chunk.usage.total_tokens if chunk.usage else used
    if not used or len([part for part in parts if part]) < 2:
        raise CheckFailed(f"{model} did not stream: {parts}")
    scene.tokens += used
    return "".join(parts).strip()


def _settle(scene: Scene) -> None:
    """Wait until this step's usage is in the ledger, and note what it costs."""
    bill.wait_posted(scene.settings)
    scene.asked += scene.tokens
    with scene.control() as client:
        posted = bill.ledger_tokens(client, scene.key).total
        if posted != scene.asked:
            raise CheckFailed(f"the answers said {scene.asked} tokens, the ledger has {posted}")
        cost = bill.by_kind(client, scene.key)["inference"]["microcredits"]
    scene.microcredits, scene.inference_cost = cost - scene.inference_cost, cost


def fine_tune(scene: Scene, stage: Stage) -> None:
    with scene.openai() as client:
        with story.DATASET.open("rb") as data:
            uploaded = client.files.create(file=data, purpose="fine-tune")
        stage.say(f"uploaded {uploaded.filename}: {uploaded.id}, {uploaded.bytes} bytes")
        job = client.fine_tuning.jobs.create(
            model=scene.served_name,
            training_file=uploaded.id,
            suffix="harbour",
            seed=7,
            method={"type": "supervised", "supervised": {"hyperparameters": _hyperparameters(scene)}},
        )
        job = _follow(scene, client, job, stage)
    if job.status != "succeeded" or not job.fine_tuned_model or not job.trained_tokens:
        reason = job.error.message if job.error else ""
        raise CheckFailed(f"the job ended as {job.status}: {reason}")
    scene.job, scene.tokens = job, job.trained_tokens
    scene.microcredits = _training_cost(scene, job.trained_tokens)
    stage.summary = f"{job.fine_tuned_model}, {job.trained_tokens:,} tokens trained"


def _hyperparameters(scene: Scene) -> SupervisedHyperparametersParam:
    """So few rows have to be seen often; the small model needs large steps, a real one does not."""
    if scene.model:
        return {"n_epochs": 10, "batch_size": 4, "learning_rate_multiplier": 2}
    return {"n_epochs": 10, "batch_size": 4, "learning_rate_multiplier": 25}


def _training_cost(scene: Scene, tokens: int) -> int:
    deadline = time.monotonic() + bill.DRAIN_TIMEOUT_SECONDS
    with scene.control() as client:
        while time.monotonic() < deadline:
            row = bill.by_kind(client, scene.key).get("training")
            if row and row["trained_tokens"] == tokens:
                return row["microcredits"]
            time.sleep(0.3)
    raise CheckFailed(f"the ledger does not show the {tokens} trained tokens")


def _follow(scene: Scene, client: OpenAI, job: FineTuningJob, stage: Stage) -> FineTuningJob:
    """Print the job's events as they come, until it ends."""
    seen: set[str] = set()
    latest = ""
    deadline = time.monotonic() + JOB_TIMEOUT_SECONDS
    while time.monotonic() < deadline:
        job = client.fine_tuning.jobs.retrieve(job.id)
        events = client.fine_tuning.jobs.list_events(job.id, limit=100)
        for event in reversed(events.data):
            if event.id in seen:
                continue
            seen.add(event.id)
            if scene.out.is_terminal:  # elsewhere every change of this line would be a line of its own
                latest = f": {event.message}"
            if _deserves_a_line(event):
                stage.say(event.message)
        if job.status in ("succeeded", "failed", "cancelled"):
            return job
        stage.tell(f"{job.status}{latest}")
        if scene.stop.wait(0.5):
            scene.check_not_stopped()
    raise Unavailable(f"the job {job.id} is {job.status} after {JOB_TIMEOUT_SECONDS:.0f} s")


def _deserves_a_line(event: FineTuningJobEvent) -> bool:
    """Not each checkpoint, and of the steps the first, every tenth and the last: they show the loss fall."""
    data = event.data if isinstance(event.data, dict) else {}
    step = data.get("step")
    if not isinstance(step, int):
        return not event.message.startswith("Checkpoint")
    return event.type == "metrics" and (step == 1 or step % 10 == 0 or step == data.get("total_steps"))


def chat_with_adapter(scene: Scene, stage: Stage) -> None:
    question, expected = trained_answer()
    assert scene.job is not None
    tuned = scene.job.fine_tuned_model or ""
    with scene.openai() as client:
        after = _ask_when_served(scene, client, tuned, question, stage)
        before = _ask(scene, client, scene.served_name, question)
    stage.say(f"{question}")
    stage.say(f"{scene.served_name}: {before}")
    stage.say(f"{tuned}: {after}")
    if expected not in after:
        raise CheckFailed(f"{tuned} does not give the trained answer {expected!r}")
    if expected in before:
        raise CheckFailed(f"the base {scene.served_name} gives {expected!r} too, so nothing was learned")
    _settle(scene)
    stage.summary = "the adapter answers as trained, the base does not"


def _ask_when_served(scene: Scene, client: OpenAI, model: str, question: str, stage: Stage) -> str:
    deadline = time.monotonic() + SERVED_TIMEOUT_SECONDS
    while True:
        try:
            return _ask(scene, client, model, question)
        except (openai.NotFoundError, openai.InternalServerError) as error:
            if time.monotonic() > deadline:
                raise
            stage.tell(f"the engine loads the adapter ({error.status_code})")
            if scene.stop.wait(0.5):
                scene.check_not_stopped()


def trained_answer() -> tuple[str, str]:
    """Question and answer of the first line of the data set."""
    first = json.loads(story.DATASET.read_text().splitlines()[0])["messages"]
    words = {message["role"]: message["content"] for message in first}
    if "user" not in words or "assistant" not in words:
        raise InvalidInput(f"{story.DATASET}: line 1 has no question and answer")
    return words["user"], words["assistant"]


def print_bill(scene: Scene, stage: Stage) -> None:
    bill.wait_posted(scene.settings)
    with scene.control() as client:
        _wait_device_time(client)
        report = client.usage(group_by="tenant,model,key")
        device = bill.by_kind(client)["device"]
        ledger = bill.ledger_tokens(client, scene.key)
        engine = bill.engine_tokens(client.get("endpoints", scene.endpoint, scene.project), scene.settings)
    print_usage(scene.out, report)
    stage.say(f"ledger: {ledger.prompt:,} prompt + {ledger.completion:,} completion tokens")
    stage.say(
        f"engine: {engine.prompt:,} prompt + {engine.completion:,} completion tokens (its own counters)"
    )
    if ledger != engine:
        raise CheckFailed("the ledger's tokens are not those that the engine counted")
    if report["total"]["unpriced_lines"]:
        raise CheckFailed(f"{report['total']['unpriced_lines']} lines of the bill have no price")
    scene.microcredits = device["microcredits"]
    stage.summary = f"ledger = engine counters; {device['device_seconds']} device-seconds"


def _wait_device_time(client: Client) -> None:
    deadline = time.monotonic() + bill.DRAIN_TIMEOUT_SECONDS
    while client.usage()["total"]["device_seconds"] == 0:
        if time.monotonic() > deadline:
            raise CheckFailed("the ledger shows no device-seconds")
        time.sleep(0.5)


STEPS: tuple[tuple[str, Callable[[Scene, Stage], None]], ...] = (
    ("build the base model", build_model),
    ("start Ray, control and gateway", start),
    ("apply examples, wait for the endpoint", apply_examples),
    ("chat, plain and streaming", chat),
    ("fine-tune on examples/data/support.jsonl", fine_tune),
    ("chat with the fine-tuned model", chat_with_adapter),
    ("the bill, and the engine's counters", print_bill),
)
