"""One rank of an engine that lies on several nodes: ``python -m inference.engine_rank <flags of vLLM>``.

Rank 0 is the engine's server; the others hold their parts of the model and work for it. Which one this is,
and where rank 0 waits for the others, the node's agent says in the environment.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

from common.environment import take_from_process

VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
"""Taken out of the environment: each rank of ours starts workers that number themselves."""


def rank_arguments(arguments: Sequence[str], place: Mapping[str, str]) -> list[str]:
    """The flags of vLLM for this rank. ``place``: the ``VARIABLES``."""
    flags = ["--nnodes", place["WORLD_SIZE"], "--node-rank", place["RANK"]]
    flags += ["--master-addr", place["MASTER_ADDR"], "--master-port", place["MASTER_PORT"]]
    return [*arguments, *flags, *(["--headless"] if place["RANK"] != "0" else [])]


def main() -> None:
    """What ``vllm serve`` does, which cannot be called by its name in each build."""
    from vllm.entrypoints.cli.serve import ServeSubcommand
    from vllm.entrypoints.launchers.cli_args import make_arg_parser, validate_parsed_serve_args
    from vllm.entrypoints.serve.utils.api_utils import cli_env_setup
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    cli_env_setup()
    parser = make_arg_parser(FlexibleArgumentParser())
    arguments = parser.parse_args(rank_arguments(sys.argv[1:], take_from_process(VARIABLES)))
    validate_parsed_serve_args(arguments)
    ServeSubcommand.cmd(arguments)


if __name__ == "__main__":
    main()
