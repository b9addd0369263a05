"""Words by which a text tries to give a model other orders: a heuristic, which can be got round."""

from __future__ import annotations

import re
from collections.abc import Iterator

from inference.guardrails.detecting import Detector

_S = r"[\s,]{1,8}"
_ORDERS = r"(?:instructions?|prompts?|rules|guidelines|directions|orders|messages|context)"
_BEFORE = r"(?:previous|prior|above|preceding|earlier|foregoing|original|system|initial)"
_DROP = rf"(?:ignore|disregard|forget|override|bypass|skip){_S}"
_ALL = rf"(?:(?:all|any|every|of|the|your|my|these|those){_S}){{0,4}}"
_SHOW = rf"(?:reveal|print|show|repeat|output|tell{_S}me){_S}(?:(?:me|us|all|of|the|your){_S}){{1,4}}"
_HIDDEN = rf"(?:(?:hidden|secret|initial|original){_S}){{0,2}}"
_PHRASES = (
    rf"{_DROP}{_ALL}(?:{_BEFORE}{_S}){{1,2}}{_ORDERS}",
    rf"{_DROP}(?:(?:all|any|the|of){_S}){{0,3}}(?:your|these|those){_S}{_ORDERS}",
    rf"{_SHOW}{_HIDDEN}(?:system|developer){_S}(?:prompt|message|instructions?)",
    rf"you{_S}are{_S}(?:now{_S})?(?:in{_S})?(?:dan|developer{_S}mode|jailbroken|unrestricted)\b",
    rf"(?:enter|enable|activate|switch{_S}to){_S}(?:developer|debug|god|dan|jailbreak){_S}mode",
    rf"new{_S}(?:system{_S})?(?:instructions?|orders)\s{{0,4}}:",
    r"忽略掉?(?:所有|以上|之前|前面|上述|先前)的?(?:所有|全部)?的?(?:指令|指示|提示|规则|要求|内容)",
    r"<\|(?:im_start|im_end|system|user|assistant|endoftext|eot_id|start_header_id)\|>",
    r"<</?SYS>>",
    r"\[/?INST\]",
)
_ANY = re.compile(rf"(?<![A-Za-z])(?=({'|'.join(_PHRASES)}))", re.IGNORECASE)
_LONGEST = 160
"""No phrase is longer: each of its parts is bounded."""
_SIGNS = (
    *("ignore", "disregard", "forget", "override", "bypass", "skip"),
    *("reveal", "print", "show", "repeat", "output", "tell", "new"),
    *("dan", "developer", "jailbroken", "unrestricted", "enter", "enable", "activate", "switch"),
    *("忽略", "<|", "<<", "</sys", "[inst]", "[/inst]"),
)
"""Words that requests do not have as names of members."""


def injections(text: str) -> Iterator[tuple[int, int]]:
    """The phrases in a text."""
    for found in _ANY.finditer(text):
        yield found.span(1)


def injection_detector() -> Detector:
    return Detector("injection", "[REMOVED]", injections, _LONGEST, _SIGNS, around=2)
