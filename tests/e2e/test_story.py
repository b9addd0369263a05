"""The main job with real parts: a real engine, real training, a real ledger, the official client."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai
import pytest
from openai import OpenAI

from control.demo import bill, steps, story
from tests.fixtures.platform import Running
from tests.fixtures.probe import cli, eventually

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]
SAY = "What is a watt?"


def ask(client: OpenAI, model: str, text: str = SAY, **options: Any) -> Any:
    messages: Any = [{"role": "user", "content": text}]
    return client.chat.completions.create(
        model=model, messages=messages, temperature=0, **{"max_tokens": 24, **options}
    )


def streamed(client: OpenAI, model: str, **options: Any) -> tuple[str, Any]:
    """The text, and the usage of the last chunk that has one."""
    parts, usage = [], None
    for chunk in ask(client, model, stream=True, **options):
        parts += [choice.delta.content or "" for choice in chunk.choices]
        usage = chunk.usage or usage
    return "".join(parts), usage


def test_the_machine_is_found_as_a_node_and_the_endpoint_runs_on_it(running_platform: Running) -> None:
    with running_platform.control() as client:
        nodes = client.list("nodes")
        workload = client.get("workloads", f"{running_platform.endpoint}-0", running_platform.project)
        answer = client.explain(f"{running_platform.endpoint}-0", running_platform.project)
        log = "\n".join(
            client.logs(f"{running_platform.endpoint}-0", running_platform.project, tail_lines=400)
        )
    assert [device["healthy"] for device in nodes[0]["status"]["devices"]]
    assert workload["status"]["ranks"][0]["node"] == nodes[0]["metadata"]["name"]
    assert answer["phase"] == "Ready"
    assert log.strip()


def test_models_are_listed(running_platform: Running) -> None:
    with running_platform.openai() as client:
        assert running_platform.model in [model.id for model in client.models.list()]


def test_plain_and_streamed_answers_are_the_same(running_platform: Running) -> None:
    with running_platform.openai() as client:
        plain = ask(client, running_platform.model)
        text, usage = streamed(client, running_platform.model, stream_options={"include_usage": True})
        bare, no_usage = streamed(client, running_platform.model)
    assert plain.choices[0].message.content == text == bare
    assert (plain.usage.prompt_tokens, plain.usage.completion_tokens) == (
        usage.prompt_tokens,
        usage.completion_tokens,
    )
    assert no_usage is None


def test_many_at_once_are_all_answered(running_platform: Running) -> None:
    with running_platform.openai() as client, ThreadPoolExecutor(8) as pool:
        answers = list(
            pool.map(lambda n: ask(client, running_platform.model, f"Tell me about {n}."), range(8))
        )
    assert all(answer.usage.completion_tokens > 0 for answer in answers)


@pytest.mark.parametrize(
    ("error", "change"),
    [
        (openai.NotFoundError, {"model": "no-such-model"}),
        (openai.BadRequestError, {"max_tokens": 1_000_000}),
        (openai.BadRequestError, {"temperature": -1}),
    ],
)
def test_a_wrong_request_raises_the_clients_own_error_class(
    error: type[openai.APIStatusError], change: dict[str, Any], running_platform: Running
) -> None:
    request = {"model": running_platform.model, "messages": [{"role": "user", "content": SAY}], **change}
    with running_platform.openai() as client, pytest.raises(error) as raised:
        client.chat.completions.create(**request)
    assert raised.value.message


def test_a_revoked_key_is_refused(running_platform: Running) -> None:
    with running_platform.control() as control:
        secret = control.create_key("e2e-leaver", "agent", project=running_platform.project)["secret"]
        with running_platform.openai(secret) as client:
            _eventually(client, known=True)
            control.revoke_key("e2e-leaver")
            _eventually(client, known=False)


def _eventually(client: OpenAI, known: bool) -> None:
    """A key is known to the gateway, or not any more, within moments."""
    deadline = time.monotonic() + 10
    while _is_known(client) is not known:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def _is_known(client: OpenAI) -> bool:
    try:
        return bool(client.models.list().data)
    except openai.AuthenticationError:
        return False


def test_files_are_kept_listed_and_deleted(running_platform: Running) -> None:
    with running_platform.openai() as client:
        content = story.DATASET.read_bytes()
        made = client.files.create(file=("support.jsonl", content), purpose="fine-tune")
        assert made.bytes == len(content)
        assert made.id in [item.id for item in client.files.list()]
        assert client.files.content(made.id).read() == content
        assert client.files.delete(made.id).deleted
        with pytest.raises(openai.NotFoundError):
            client.files.retrieve(made.id)


def test_a_bad_training_file_is_refused_naming_its_lines(running_platform: Running) -> None:
    lines = story.DATASET.read_text().splitlines()
    lines[2] = json.dumps({"messages": [{"role": "nobody", "content": "x"}]})
    with running_platform.openai() as client, pytest.raises(openai.BadRequestError) as raised:
        _train_on(client, running_platform.model, "\n".join(lines).encode())
    assert "line 3" in raised.value.message


def _train_on(client: OpenAI, model: str, content: bytes) -> None:
    file = client.files.create(file=("bad.jsonl", content), purpose="fine-tune")
    client.fine_tuning.jobs.create(model=model, training_file=file.id)


def test_a_fine_tuned_model_is_served_and_gives_the_trained_answer(running_platform: Running) -> None:
    question, expected = steps.trained_answer()
    with running_platform.openai() as client:
        with story.DATASET.open("rb") as data:
            file = client.files.create(file=data, purpose="fine-tune")
        hyperparameters: Any = {"n_epochs": 20, "batch_size": 4, "learning_rate_multiplier": 25}
        job = client.fine_tuning.jobs.create(
            model=running_platform.model,
            training_file=file.id,
            seed=7,
            method={"type": "supervised", "supervised": {"hyperparameters": hyperparameters}},
        )
        deadline = time.monotonic() + 400
        while job.status not in ("succeeded", "failed", "cancelled"):
            assert time.monotonic() < deadline, f"still {job.status}"
            time.sleep(1)
            job = client.fine_tuning.jobs.retrieve(job.id)
        assert job.status == "succeeded", job.error
        events = [event.message for event in client.fine_tuning.jobs.list_events(job.id, limit=100)]
        assert any("loss" in message for message in events)
        try_the_first_checkpoint(running_platform, client, job.id)
        tuned = job.fine_tuned_model or ""
        assert tuned in [model.id for model in client.models.list()]
        assert expected in ask(client, tuned, question, max_tokens=40).choices[0].message.content
        assert expected not in ask(client, running_platform.model, question).choices[0].message.content


def try_the_first_checkpoint(platform: Running, client: OpenAI, job: str) -> None:
    """It answers under its name once somebody asks for it; before, the client is told how."""
    first = list(client.fine_tuning.jobs.checkpoints.list(job))[-1]
    name = first.fine_tuned_model_checkpoint
    with pytest.raises(openai.NotFoundError, match=f"finetunes try JOB --step {first.step_number}"):
        ask(client, name)
    where = ("-p", platform.project)
    tried = cli(platform.settings, "finetunes", "try", job, "--step", str(first.step_number), *where)
    assert tried.returncode == 0, tried.stdout + tried.stderr
    assert tried.stdout.splitlines()[-1] == name
    eventually(lambda: _answers(client, name), 20, "the gateway's word of it")
    assert name in [model.id for model in client.models.list()]


def _answers(client: OpenAI, name: str) -> bool:
    """The gateway hears of a new adapter, and then of who holds it, within moments."""
    try:
        return bool(ask(client, name).usage.completion_tokens > 0)
    except (openai.NotFoundError, openai.InternalServerError):
        return False


def test_the_bill_is_what_the_engine_counted(running_platform: Running) -> None:
    bill.wait_posted(running_platform.settings)
    with running_platform.control() as client:
        total = client.usage()["total"]
        by_kind = bill.by_kind(client)
    engine = bill.engine_tokens(running_platform.status(), running_platform.settings)
    assert (total["prompt_tokens"], total["completion_tokens"]) == (engine.prompt, engine.completion)
    assert total["completion_tokens"] > 0
    assert by_kind["device"]["device_seconds"] > 0
    assert total["unpriced_lines"] == 0
