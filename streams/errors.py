"""Errors of servers in one line.

Pure.
"""


class ServerError(RuntimeError):
    """Kafka or Redis does not answer, or is not set up as we need it."""


def _reason(error: BaseException) -> str:
    return "no answer in time" if isinstance(error, TimeoutError) else one_line(error)


def one_line(text: object) -> str:
    """Text on one line, so that an error stays one line."""
    return " ".join(str(text).split())
