"""Make a tiny Llama chat model on this machine, without any model hub.

The model has its own tokenizer and about two million weights and is trained for up to a minute on text that
ships with the project. Steps and seed decide the weights; ``--seconds`` only bounds the time. It gives
plausible short answers and nothing more: it is there to try the real path (engine, LoRA training, adapters,
bills) on a bare machine.
"""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from finetune.tiny_model.calls import Chat, call_dialogues, object_dialogues, read_calls, text_of
from finetune.tiny_model.fit import FitResult, Row, answer_row, fit, plain_row
from finetune.tiny_model.text import CORPUS, Dialogue, dialogues, read_corpus
from finetune.tiny_model.tokenizer import build_tokenizer

RECIPE_FILE = "tiny_model.json"
_VERSION = 3
CALL_DIALOGUES, OBJECT_DIALOGUES = 270, 120
"""Beside about 1,100 without tools."""
LIMIT_SECONDS = 60.0
_COMPLETE = (
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
)


@dataclass(frozen=True)
class Recipe:
    """Everything that decides which weights come out. The default takes about 40 seconds on two CPU cores."""

    steps: int = 220
    seed: int = 0
    vocab_size: int = 1536
    hidden_size: int = 256
    layers: int = 2
    heads: int = 4
    kv_heads: int = 4
    intermediate_size: int = 704
    context_tokens: int = 2048

    def digest(self) -> str:
        """Hex SHA-256 over the recipe, the code that follows it and the text it uses."""
        state = hashlib.sha256(json.dumps([_VERSION, asdict(self)], sort_keys=True).encode())
        here = Path(__file__).parent
        for path in [*sorted(here.glob("*.py")), *sorted(CORPUS.glob("*.txt"))]:
            state.update(path.name.encode() + b"\0" + path.read_bytes())
        return state.hexdigest()


def build_tiny_model(
    out: Path,
    recipe: Recipe | None = None,
    limit_seconds: float = LIMIT_SECONDS,
    threads: int = 2,
    progress: bool = True,
) -> bool:
    """Make the model of ``recipe`` at ``out``; ``False`` when it is there already.

    Training ends after ``limit_seconds`` even when steps are left: then a warning goes to standard error, the
    weights depend on this machine's speed, and the next call builds the model again. The folder is complete
    or not there at all. A folder that holds something else is refused with ``FileExistsError``; an older tiny
    model is replaced.
    """
    recipe = recipe or Recipe()
    if is_complete(out, recipe) and not is_cut_short(out):
        return False
    if out.exists() and any(out.iterdir()) and not (out / RECIPE_FILE).exists():
        raise FileExistsError(f"{out} holds something that is not a tiny model; choose another folder")
    out.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        trained = _build(work, recipe, limit_seconds, threads, progress)
        _replace(work, out)
    except OSError:
        if not is_complete(out, recipe):  # another builder of the same recipe may have been faster
            raise
    finally:
        shutil.rmtree(work, ignore_errors=True)
    if trained.cut_short:
        print(
            f"warning: the machine was too slow or busy: the model was trained for {trained.steps} of"
            f" {recipe.steps} steps in {limit_seconds:g} s and answers worse; delete {out} to build it again",
            file=sys.stderr,
        )
    return True


def is_complete(out: Path, recipe: Recipe) -> bool:
    """Whether ``out`` holds the finished model of exactly this recipe."""
    try:
        stored = json.loads((out / RECIPE_FILE).read_text())
    except (OSError, ValueError):
        return False
    return stored.get("digest") == recipe.digest() and all((out / name).is_file() for name in _COMPLETE)


def is_cut_short(out: Path) -> bool:
    """Whether the tiny model in ``out`` lacks steps of its recipe because time ran out."""
    return bool(json.loads((out / RECIPE_FILE).read_text())["training"]["cut_short"])


def _build(work: Path, recipe: Recipe, limit_seconds: float, threads: int, progress: bool) -> FitResult:
    torch.manual_seed(recipe.seed)
    corpus = read_corpus()
    rng = random.Random(recipe.seed)
    calls = read_calls(CORPUS)
    called = list(call_dialogues(calls, list(corpus.exchanges), rng, CALL_DIALOGUES))
    objects = list(object_dialogues(calls, rng, OBJECT_DIALOGUES))
    more_text = [text for chat in (*(chat for chat, _ in called), *objects) for text in text_of(chat)]
    tokenizer = build_tokenizer(corpus, recipe.vocab_size, recipe.context_tokens, more_text)
    model = LlamaForCausalLM(_config(recipe, tokenizer))
    chats = [_chat_row(tokenizer, dialogue) for dialogue in (*dialogues(corpus, recipe.seed), *objects)]
    chats += [_chat_row(tokenizer, chat, tools) for chat, tools in called]
    passages = [plain_row(tokenizer(text + tokenizer.eos_token)["input_ids"]) for text in corpus.passages]
    result = fit(model, chats, passages, recipe.steps, limit_seconds, recipe.seed, threads, progress)
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        do_sample=True,
        temperature=0.2,
    )
    model.save_pretrained(work)
    tokenizer.save_pretrained(work)
    record = {"digest": recipe.digest(), "recipe": asdict(recipe), "training": asdict(result)}
    (work / RECIPE_FILE).write_text(json.dumps(record, indent=2) + "\n")
    work.chmod(0o755)
    return result


def _chat_row(
    tokenizer: PreTrainedTokenizerFast, dialogue: Dialogue | Chat, tools: list[dict[str, Any]] | None = None
) -> Row:
    """A dialogue of which only the answers are learned."""
    encoded = tokenizer.apply_chat_template(
        dialogue, tools=tools, return_dict=True, return_assistant_tokens_mask=True
    )
    return answer_row(encoded["input_ids"], encoded["assistant_masks"])


def _config(recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=recipe.hidden_size,
        intermediate_size=recipe.intermediate_size,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        num_key_value_heads=recipe.kv_heads,
        max_position_embeddings=recipe.context_tokens,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def _replace(work: Path, out: Path) -> None:
    """Move ``work`` to ``out``, in place of an older model."""
    if out.exists():
        old = Path(tempfile.mkdtemp(prefix=f".{out.name}-old-", dir=out.parent))
        out.rename(old / "model")
        shutil.rmtree(old, ignore_errors=True)
    work.rename(out)
