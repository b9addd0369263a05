"""Structured logs and metrics, set up the same way in every process."""

from __future__ import annotations

import logging
import os
import sys

import structlog
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, Counter, generate_latest

from common.settings import Settings

_LOST = Counter("computility_log_lines_lost", "Lines that the log had no room for")


class Lines:
    """Writes each message as a line to a file descriptor. A log that cannot be written stops nobody: whoever
    logs that the disk is full would be the first to break."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def msg(self, message: str) -> None:
        try:
            os.write(self._descriptor, f"{message}\n".encode(errors="backslashreplace"))
        except OSError:
            _LOST.inc()

    log = debug = info = warn = warning = error = critical = exception = fatal = failure = msg


def configure_logging(settings: Settings, process: str) -> None:
    """Log to stderr as JSON lines (or for people) with ``process`` bound to every line."""
    lines = Lines(sys.stderr.fileno())
    renderer: structlog.types.Processor = (
        structlog.processors.JSONRenderer()
        if settings.log_format == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, settings.log_level.upper())),
        logger_factory=lambda *_: lines,
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(process=process)


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """A logger with ``logger_name=name`` bound."""
    logger: structlog.stdlib.BoundLogger = structlog.get_logger(logger_name=name)
    return logger


def render_metrics() -> tuple[bytes, str]:
    """The body and content type of ``/metrics``."""
    return generate_latest(REGISTRY), CONTENT_TYPE_LATEST
