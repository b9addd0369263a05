"""What every process of an engine does first: vLLM loads it as a plugin (``vllm.general_plugins``)."""

from __future__ import annotations

import ctypes
import platform
import sys
from functools import partial
from typing import Any

from common.environment import number_of_process
from inference.core.engine_command import JSON_SPACES_VARIABLE, KV_POLL_VARIABLE
from inference.core.json_spaces import with_spaces

_ARCH_PRCTL = 158
_ARCH_REQ_XCOMP_PERM = 0x1023
_XFEATURE_TILE_DATA = 18
_done: set[str] = set()


def prepare() -> None:
    """All of it. Calling it again changes nothing."""
    allow_amx()
    rank_as_written()
    spaces = number_of_process(JSON_SPACES_VARIABLE)
    if spaces and JSON_SPACES_VARIABLE not in _done:
        _done.add(JSON_SPACES_VARIABLE)
        bound_spaces(spaces)
    pause_microseconds = number_of_process(KV_POLL_VARIABLE)
    if pause_microseconds:
        poll_calmly(pause_microseconds)
        use_all_cores()


def allow_amx() -> None:
    """Ask Linux for the tile registers of x86 (AMX), which a process must before its first such instruction
    (arch_prctl(2)). vLLM 0.32 computes attention with them without asking; most engines have oneDNN, which
    does, at work before, but not those with adapters: they died at the first request (SIGILL). Where there is
    none, nothing happens.
    """
    if sys.platform == "linux" and platform.machine() == "x86_64":
        ctypes.CDLL(None, use_errno=True).syscall(_ARCH_PRCTL, _ARCH_REQ_XCOMP_PERM, _XFEATURE_TILE_DATA)


def rank_as_written() -> None:
    """Let an engine on CPUs find the ranks of log probabilities by the function as it is written. vLLM (0.32)
    has it compiled at the first request that asks for them: 4 s on two idle cores, minutes on busy ones, for
    a comparison and a sum, and every other request waits. Elsewhere nothing changes.
    """
    if "vllm.platforms" not in sys.modules:
        return
    from vllm.platforms import current_platform

    if current_platform.is_cpu():
        from vllm.v1.sample.ops import logprobs

        compiled = logprobs.batched_count_greater_than
        written = getattr(compiled, "_torchdynamo_orig_callable", compiled)
        logprobs.batched_count_greater_than = written


def poll_calmly(microseconds: int) -> None:
    """Let NIXL's thread look for progress no more often than this where nothing wakes it. NIXL's Python API
    (1.5) asks for a look without any pause: such a thread takes a core, also while nothing is transferred,
    and where cores are few it takes it from the model. Without NIXL nothing happens.
    """
    try:
        from nixl._bindings import nixlAgentConfig
    except ImportError:
        return
    asked = nixlAgentConfig.pthrDelay
    nixlAgentConfig.pthrDelay = property(
        asked.fget, lambda config, value: asked.fset(config, max(value, microseconds))
    )


def use_all_cores() -> None:
    """Let an engine on CPUs that hands KV caches over compute where there is room. vLLM's connector (0.32)
    binds the thread that runs the model to the last core of each NUMA node, so all such engines of a node
    share that core, whatever the others do. It binds nothing where it is told of no node.
    """
    try:
        from vllm.platforms.cpu import CpuPlatform
    except ImportError:
        return
    CpuPlatform.discover_numa_topology = classmethod(lambda cls: [])  # type: ignore[assignment, method-assign]


def bound_spaces(most: int) -> None:
    """Let engines write at most so many spaces, tabs and line ends in a row between the words of JSON that a
    schema or a tool asks for: some models make them until the token limit. vLLM's own setting (0.32) allows
    none at all, which most models are not trained on, needs one backend by name, so that schemas which that
    one does not know are refused, and does not reach what tools are called with. What `guidance` compiles, to
    which vLLM falls back, has none.
    """
    from vllm.v1.structured_output.backend_guidance import GuidanceBackend
    from vllm.v1.structured_output.backend_xgrammar import XgrammarBackend

    prepare_usual, prepare_other = XgrammarBackend.__post_init__, GuidanceBackend.__post_init__

    def usual(backend: Any) -> None:
        prepare_usual(backend)
        compiler = backend.compiler
        compiler.compile_json_schema = partial(compiler.compile_json_schema, max_whitespace_cnt=most)
        compiler.compile_structural_tag = partial(_compile_tag, compiler.compile_structural_tag, most)

    def other(backend: Any) -> None:
        prepare_other(backend)
        backend.disable_any_whitespace = True

    XgrammarBackend.__post_init__ = usual  # type: ignore[method-assign]
    GuidanceBackend.__post_init__ = other  # type: ignore[method-assign]


def _compile_tag(compile_tag: Any, most: int, tag: object, *rest: object) -> Any:
    """What tools a model may call, and how; the older form of it, a list, stays as it is."""
    return compile_tag(with_spaces(tag, most) if isinstance(tag, str) else tag, *rest)
