"""Which parsers an Endpoint's engines get, whatever says so, and what is said of it."""

from typing import Any

import pytest

from common.errors import InvalidInput
from common.resources import Endpoint, Metadata, Model, parse_resource
from common.resources.parsers import ParserChoice
from common.resources.serving import EndpointSpec, ModelSpec
from common.settings import EngineSettings
from inference.engine_workload import engine_workload
from inference.parsers.choose import ModelSigns, reasoning_for, reasoning_of, tools_for, tools_of

HERMES = "{%- if tools %}<tool_call>{name, arguments}</tool_call>{% endif %}"
FLAGS = ["--enable-auto-tool-choice", "--tool-call-parser", "hermes", "--tool-strict-level", "parameter"]


def endpoint(**spec: Any) -> Endpoint:
    made = {"model": "tiny", **spec}
    return Endpoint(metadata=Metadata(name="chat", project="lab"), spec=EndpointSpec.model_validate(made))


def model(tools: str = "hermes", reasoning: str = "", **spec: Any) -> Model:
    made = Model(
        metadata=Metadata(name="tiny", project="lab"),
        spec=ModelSpec.model_validate({"source": "$(HOME_DIR)/models/tiny", **spec}),
    )
    made.status.tools = ParserChoice(parser=tools, reason="because")
    made.status.reasoning = ParserChoice(parser=reasoning, reason="because")
    return made


def command(of: Endpoint, served: Model) -> list[str]:
    return engine_workload(of, served, 0, EngineSettings()).spec.roles[0].command


@pytest.mark.parametrize(
    ("signs", "tools", "why"),
    [
        (ModelSigns("mine", "llama", HERMES), "hermes", "has <tool_call> and arguments"),
        (ModelSigns("mine", "llama", "{% for m in messages %}"), "", "takes no tools"),
        (ModelSigns("Qwen3-0.6B", "qwen3", "{% for m in messages %}"), "", "takes no tools"),
        (ModelSigns("mine", "llama", ""), "", "no chat template"),
        (ModelSigns("mine", "gpt_oss", "{{ tools }}"), "openai", "of type gpt_oss"),
        (ModelSigns("mine", "never_seen", "{{ tools }}"), "", "spec.tools may name one"),
        (ModelSigns("mine", "llama", "{{ tools }} ipython"), "llama3_json", "of type llama"),
        (ModelSigns("org/qwen3-coder", "", "{{ tools }}<tool_call><function="), "qwen3_coder", "has"),
    ],
)
def test_a_template_that_takes_tools_decides(signs: ModelSigns, tools: str, why: str) -> None:
    found = tools_for(signs)
    assert found.parser == tools
    assert why in found.reason


@pytest.mark.parametrize(
    ("signs", "parser"),
    [
        (ModelSigns("mine", "qwen3", "{{ '<think>' }}"), "qwen3"),
        (ModelSigns("qwen3-8b", "qwen3", "{{ messages }}"), ""),
        (ModelSigns("deepseek-r1-distill", "qwen2", "{{ '<think>' }}"), "deepseek_r1"),
        (ModelSigns("mine", "llama", "{{ messages }}"), ""),
        (ModelSigns("qwen3-8b", "qwen3", ""), ""),
    ],
)
def test_a_model_thinks_where_its_template_does(signs: ModelSigns, parser: str) -> None:
    assert reasoning_for(signs).parser == parser


def test_engines_call_tools_by_themselves_and_hold_to_their_schemas() -> None:
    made = command(endpoint(), model(reasoning="qwen3"))
    at = made.index(FLAGS[0])
    assert made[at : at + 7] == [*FLAGS, "--reasoning-parser", "qwen3"]


def test_what_is_said_counts_instead_of_what_suits() -> None:
    made = command(endpoint(tools="off", reasoning="off"), model(reasoning="qwen3"))
    assert not {FLAGS[0], "--tool-call-parser", "--reasoning-parser"} & set(made)
    made = command(endpoint(tools="mistral", reasoning="deepseek_r1"), model())
    assert made[made.index("--tool-call-parser") + 1] == "mistral"
    assert made[made.index("--reasoning-parser") + 1] == "deepseek_r1"


@pytest.mark.parametrize(
    ("args", "parser"),
    [
        (["--tool-call-parser", "mine", "--tool-parser-plugin", "/p.py"], "mine"),
        (["--tool-call-parser=mine"], "mine"),
        (["--tool_call_parser", "mine"], "mine"),
        (["--no-enable-auto-tool-choice"], ""),
        (["--tool-call-parser"], ""),
        (["--enable-auto-tool-choice"], "hermes"),
    ],
)
def test_arguments_of_engines_count_instead_of_auto(args: list[str], parser: str) -> None:
    served = endpoint(engine={"args": args})
    assert tools_of(served, model(), args).parser == parser
    assert command(served, model())[-len(args) :] == args  # vLLM takes what comes last


@pytest.mark.parametrize("args", [["--tool-call-parser", "x"], ["--no_enable_auto_tool_choice"]])
def test_two_places_for_one_thing_are_refused(args: list[str]) -> None:
    for said in ("off", "hermes"):
        with pytest.raises(ValueError, match=f"tools: says {said}, and engine.args name"):
            endpoint(tools=said, engine={"args": args})
    with pytest.raises(ValueError, match=r"reasoning: says qwen3, and engine\.args name"):
        endpoint(
            reasoning="qwen3",
            mode="disaggregated",
            prefill={"devices": {"vendors": ["nvidia"]}, "args": ["--reasoning-parser=x"]},
            decode={"devices": {"vendors": ["nvidia"]}},
        )


def test_embeddings_call_no_tools() -> None:
    served = model(tasks=["embeddings"])
    assert not {FLAGS[0], "--reasoning-parser"} & set(command(endpoint(tools="hermes"), served))
    assert "embeddings" in reasoning_of(endpoint(), served, []).reason


def test_before_its_model_was_looked_at_nothing_is_known() -> None:
    assert tools_of(endpoint(), None, []) == ParserChoice(reason="nothing is known of its Model yet")


@pytest.mark.parametrize(
    ("said", "meant"), [(False, "off"), ("off", "off"), ("auto", "auto"), ("hermes", "hermes")]
)
def test_off_is_off_also_where_yaml_makes_it_false(said: object, meant: str) -> None:
    assert endpoint(tools=said, reasoning="off").spec.tools == meant


@pytest.mark.parametrize("said", ["hermess", True, "", "--x", None])
def test_a_parser_that_is_none_is_refused_by_name(said: object) -> None:
    document = {
        "apiVersion": "computility.io/v1alpha1",
        "kind": "Endpoint",
        "metadata": {"name": "e", "namespace": "p"},
        "spec": {"model": "m", "tools": said},
    }
    with pytest.raises(InvalidInput) as refused:
        parse_resource(document)
    assert refused.value.param == "spec.tools"
    if said == "hermess":
        assert "did you mean hermes?" in str(refused.value)
