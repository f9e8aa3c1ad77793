"""Sets up the log of a process: on standard error, in the format of `logs.format`."""

import logging
import sys
import threading
from types import TracebackType

from streams.config.settings import Logs
from streams.logs.formats import JsonFormatter, TextFormatter
from streams.logs.repetition import RepetitionHandler

log = logging.getLogger(__name__)


def set_up_logs(settings: Logs) -> None:
    """Write the records of all libraries and of Python's warnings in the format of the settings.

    Call it once, before the process starts its work.
    """
    stream = logging.StreamHandler(sys.stderr)
    stream.setFormatter(JsonFormatter() if settings.format == "json" else TextFormatter())
    handler = RepetitionHandler(stream)
    handler.start()
    # Replaces handlers that a library has installed.
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.captureWarnings(True)
    # Python would print the traceback without time, level and format.
    threading.excepthook = _log_end_of_thread
    sys.excepthook = _log_end_of_process


def _log_end_of_thread(error: threading.ExceptHookArgs) -> None:
    name = error.thread.name if error.thread is not None else "a thread"
    value = error.exc_value or error.exc_type()
    log.error("%s ended with %r", name, value, exc_info=value)


def _log_end_of_process(
    kind: type[BaseException], value: BaseException, trace: TracebackType | None
) -> None:
    log.critical("the process ends with %r", value, exc_info=(kind, value, trace))
