"""Log lines of the processes that run for long: for people, or one JSON object a line."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import Any, Literal, TypeVar

import click

from trellis.output import colourless

F = TypeVar("F", bound=Callable[..., Any])
Format = Literal["text", "json", "merged"]

LEVELS = ("debug", "info", "warning", "error")


def log_options(function: F) -> F:
    """`--log-format` and `--log-level`."""
    function = click.option(
        "--log-level", type=click.Choice(LEVELS), default="info", show_default=True, help="The least that is logged."
    )(function)
    return click.option(
        "--log-format", type=click.Choice(["text", "json"]), default="text", show_default=True, help="How it is logged."
    )(function)


class _Known(logging.Filter):
    """Keeps back what asyncio says of every TLS connection that ends, which means nothing."""

    def filter(self, record: logging.LogRecord) -> bool:
        return "eof_received() has no effect when using ssl" not in record.getMessage()


_KNOWN = _Known()


def configure(format: Format, level: str, *, to_lattice: bool = False) -> None:
    """Send every log line of this process to stderr; those of a host or a manager in it also `to_lattice`.

    `merged` lines go to stdout, where `trellis up` speaks, too; what actors and providers say is always among them.
    """
    import structlog

    least = getattr(logging, level.upper())
    logging.getLogger("asyncio").addFilter(_KNOWN)
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.StackInfoRenderer(),
    ]
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stderr)]
    if to_lattice:
        from lattice.journal import ToJournal, to_journal

        shared.append(to_journal)
        handlers.append(ToJournal())
    structlog.configure(
        processors=[*shared, *_rendering(format, least)],
        wrapper_class=structlog.make_filtering_bound_logger(min(least, logging.INFO) if format == "merged" else least),
        logger_factory=structlog.PrintLoggerFactory(sys.stdout if format == "merged" else sys.stderr),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(
        level=max(least, logging.WARNING), handlers=handlers, format="%(levelname)s %(name)s %(message)s"
    )


def _rendering(format: Format, least: int) -> list[Any]:
    """What makes a line of a log's facts."""
    import structlog

    if format == "json":
        return [
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.dict_tracebacks,
            structlog.processors.JSONRenderer(default=str),
        ]
    if format == "merged":
        from trellis.live.terminal import renderer

        return [
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
            structlog.processors.format_exc_info,
            renderer(least),
        ]
    return [
        structlog.processors.TimeStamper(fmt="%H:%M:%S.%f", utc=False),
        # locals in tracebacks would show what a log must not hold
        structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty() and not colourless(),
            exception_formatter=structlog.dev.plain_traceback,
            pad_event_to=24,
        ),
    ]
