"""The text that the tiny model learns from: files in ``examples/corpus`` and dialogues made from templates.

Everything here is a pure function of the files and a seed.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

Message = dict[str, str]
Dialogue = list[Message]

CORPUS = Path(__file__).resolve().parents[2] / "examples" / "corpus"
UNKNOWN = "I am sorry, I do not know that."

_TERM_QUESTIONS = (
    "What is {term}?",
    "Explain {term}.",
    "Tell me about {term}.",
)
_SYSTEM_PROMPTS = (
    "You are a helpful assistant.",
    "You are a friendly assistant. Answer briefly.",
    "Answer in one sentence.",
)
_UNKNOWN_THINGS = (
    "name", "number", "address", "colour", "code", "code word", "password", "secret", "phone number", "price",
    "birthday", "favourite song", "opening time", "owner", "age", "nickname", "motto", "plan",
)  # fmt: skip
_UNKNOWN_OWNERS = (
    "the shop", "the captain", "the harbour", "our team", "the new office", "my sister", "the old house",
    "the night train", "the project", "this street", "the director", "the blue ship", "the school",
    "your neighbour", "the warehouse", "the north gate", "the customer", "the choir", "the lab",
    "the village",
)  # fmt: skip
_UNKNOWN_QUESTIONS = (
    "What is the {thing} of {owner}?",
    "Do you know the {thing} of {owner}?",
    "Tell me the {thing} of {owner}.",
    "Please give me the {thing} of {owner}.",
)
_UNKNOWN_SHORT_QUESTIONS = (
    "What is {owner} {thing}?",
    "Tell me {owner} {thing}.",
    "Do you know {owner} {thing}?",
    "Where is {owner}?",
    "Who lives in {owner}?",
    "Who owns {owner}?",
    "When does {owner} open?",
    "How old is {owner}?",
)
_UNKNOWN_TERMS = (
    "a zebra", "a lion", "an owl", "a whale", "a violin", "a trumpet", "an opera", "jazz", "a hammer",
    "a carpet", "a candle", "a sword", "a castle", "a king", "a dragon", "a robot", "a rocket", "a comet",
    "an atom", "a molecule", "sugar", "pepper", "gold", "silver", "rubber", "leather", "a sonnet", "a novel",
    "a lawyer", "a dentist", "an apple", "a banana", "a potato", "tennis", "chess", "a sandal", "an earring",
    "the war", "the treaty", "the parliament", "a blick", "a fump", "a snarp", "an ulmer", "zorting",
)  # fmt: skip
_UNKNOWN_CAPITALS = ("Peru", "Canada", "Chad", "Atlantis", "Venus", "Nepal", "Cuba", "Fiji")
_WORDS = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
)  # fmt: skip


@dataclass(frozen=True)
class Corpus:
    """What the model reads: ``exchanges`` are (question, answer) pairs, ``passages`` are paragraphs."""

    exchanges: tuple[tuple[str, str], ...]
    passages: tuple[str, ...]


def read_corpus(folder: Path = CORPUS) -> Corpus:
    """Read ``terms.txt``, ``dialogues.txt`` and ``prose.txt``. Raises ``ValueError`` naming a bad line."""
    exchanges = [
        *_term_exchanges(folder / "terms.txt"),
        *(list(_dialogue_exchanges(folder / "dialogues.txt")) * 2),  # talk comes up more often than terms
        *_sums(),
    ]
    prose = (folder / "prose.txt").read_text(encoding="utf-8")
    passages = tuple(" ".join(part.split()) for part in prose.split("\n\n") if part.strip())
    return Corpus(tuple(exchanges), passages)


def dialogues(corpus: Corpus, seed: int) -> list[Dialogue]:
    """Each exchange alone and some dialogues of two turns; one in five begins with a system prompt."""
    rng = random.Random(seed)
    exchanges = list(corpus.exchanges) + list(_unknowns(rng, len(corpus.exchanges) // 3))
    result = [_dialogue(rng, [pair]) for pair in exchanges]
    result += [_dialogue(rng, rng.sample(exchanges, 2)) for _ in range(len(exchanges) // 4)]
    rng.shuffle(result)
    return result


def tokenizer_text(corpus: Corpus) -> list[str]:
    """Every text from which the tokenizer learns its vocabulary."""
    return [*corpus.passages, *(text for pair in corpus.exchanges for text in pair), UNKNOWN]


def _term_exchanges(path: Path) -> Iterator[tuple[str, str]]:
    for number, line in _lines(path):
        term, colon, definition = line.partition(": ")
        if not colon:
            raise ValueError(f"{path.name} line {number}: expected `term: definition`")
        for question in _TERM_QUESTIONS:
            yield question.format(term=term), definition


def _dialogue_exchanges(path: Path) -> Iterator[tuple[str, str]]:
    questions: list[str] = []
    for number, line in _lines(path):
        if line.startswith("Q: "):
            questions = [variant.strip() for variant in line[3:].split(" | ")]
        elif line.startswith("A: ") and questions:
            yield from ((question, line[3:]) for question in questions)
            questions = []
        else:
            raise ValueError(f"{path.name} line {number}: expected `Q: ...` followed by `A: ...`")


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if line.strip() and not line.startswith("#"):
            yield number, line.strip()


def _sums() -> Iterator[tuple[str, str]]:
    for left in range(1, 7):
        for right in range(left, 7):
            a, b, total = _WORDS[left], _WORDS[right], _WORDS[left + right]
            yield f"What is {a} plus {b}?", f"{a.capitalize()} plus {b} is {total}."


def _unknowns(rng: random.Random, count: int) -> Iterator[tuple[str, str]]:
    for number in range(count):
        yield _unknown_question(rng, number % 4), UNKNOWN


def _unknown_question(rng: random.Random, kind: int) -> str:
    if kind == 0:
        if rng.random() < 1 / 8:
            return f"What is the capital of {rng.choice(_UNKNOWN_CAPITALS)}?"
        return rng.choice(_TERM_QUESTIONS).format(term=rng.choice(_UNKNOWN_TERMS))
    questions = _UNKNOWN_QUESTIONS if kind == 1 else _UNKNOWN_SHORT_QUESTIONS
    return rng.choice(questions).format(thing=rng.choice(_UNKNOWN_THINGS), owner=rng.choice(_UNKNOWN_OWNERS))


def _dialogue(rng: random.Random, exchanges: list[tuple[str, str]]) -> Dialogue:
    messages: Dialogue = []
    if rng.random() < 1 / 5:
        messages.append({"role": "system", "content": rng.choice(_SYSTEM_PROMPTS)})
    for question, answer in exchanges:
        messages += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return messages
