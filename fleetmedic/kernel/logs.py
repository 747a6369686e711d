"""Configure logging: one event per line on stderr, as coloured text on a terminal, otherwise as JSON."""

from __future__ import annotations

import logging
import os
import sys
from typing import TextIO, cast

import structlog

from fleetmedic.kernel.errors import UserError
from fleetmedic.kernel.lossy import Lossy

LEVELS = ("debug", "info", "warning", "error", "critical")


class _StructuredHandler(logging.Handler):
    """Converts the messages of libraries, which use the standard logging, to events."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = record.getMessage()
        except Exception:  # noqa: BLE001 - the arguments of a library do not fit its message
            text = str(record.msg)
        structlog.get_logger().log(
            min(record.levelno // 10 * 10, logging.CRITICAL),
            "library_message",
            logger=record.name,
            text=text,
            exc_info=record.exc_info or None,
        )


def configure_logs(level: str = "info", *, json: bool | None = None) -> None:
    """Configure structlog and the standard logging for this process.

    `json` selects the format; None means text on a terminal, otherwise JSON. Raises UserError for
    an unknown level.
    """
    if level.lower() not in LEVELS:
        raise UserError(f"log level: expected one of {', '.join(LEVELS)}, got {level[:20]!r}.")
    as_json = not sys.stderr.isatty() if json is None else json
    colours = sys.stderr.isatty() and "NO_COLOR" not in os.environ
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer(sort_keys=False)
        if as_json
        else structlog.dev.ConsoleRenderer(colors=colours)
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level.upper())),
        logger_factory=structlog.PrintLoggerFactory(cast(TextIO, Lossy(sys.stderr))),
        cache_logger_on_first_use=True,
    )
    root = logging.getLogger()
    others = [one for one in root.handlers if not isinstance(one, _StructuredHandler)]
    root.handlers[:] = [*others, _StructuredHandler(logging.WARNING)]
