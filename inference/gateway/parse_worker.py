"""A process that parses large request bodies: ``python -m inference.gateway.parse_worker``.

JSON of millions of values takes seconds and hundreds of megabytes; here it holds up no other request, and
the memory is limited. It reads questions from its input and answers on its output, until the input ends.

A message is a head in JSON and some bytes: ``length of head (4) | length of bytes (8) | head | bytes``.
"""

from __future__ import annotations

import json
import resource
import struct
import sys
from dataclasses import asdict
from typing import Any, BinaryIO

from common.errors import ComputilityError, TooLarge
from common.niceness import give_way_alone
from inference.core.apis.parsing import parse_body
from inference.core.body import BodyLimits

LENGTHS = struct.Struct(">IQ")
MEMORY_BYTES = 1536 * 1024**2
"""Address space of the process: some ten times what the largest allowed body takes."""
_NICENESS = 10


def serve(source: BinaryIO, sink: BinaryIO) -> None:
    """Answer until the source ends."""
    while head := source.read(LENGTHS.size):
        head_size, body_size = LENGTHS.unpack(head)
        question = json.loads(source.read(head_size))
        answer, rest = _answer(question, source.read(body_size))
        content = json.dumps(answer).encode()
        sink.write(LENGTHS.pack(len(content), len(rest)) + content)
        sink.write(rest)
        sink.flush()


def _answer(question: dict[str, Any], raw: bytes) -> tuple[dict[str, Any], bytes]:
    try:
        request = parse_body(question["api"], raw, BodyLimits(**question["limits"]))
    except ComputilityError as error:
        return _told(error), b""
    except MemoryError:
        return _told(TooLarge("the body needs too much memory to be read")), b""
    content = asdict(request)
    return {"request": content}, content.pop("rest")


def _told(error: ComputilityError) -> dict[str, Any]:
    fields = {"message": error.message, "code": error.code, "param": error.param}
    return {"error": fields, "kind": type(error).__name__}


def main() -> int:
    """The exit code."""
    give_way_alone(_NICENESS)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    serve(sys.stdin.buffer, sys.stdout.buffer)
    return 0


if __name__ == "__main__":
    sys.exit(main())
