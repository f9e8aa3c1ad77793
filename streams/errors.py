"""The errors of Tokenpulse whose message is meant for the person at the terminal.

Pure. The command prints such an error, one line per finding, and exits with status 2; any other
exception is a defect and keeps its traceback.
"""


class TokenpulseError(Exception):
    """Base of all errors that a person can act on: what is wrong, and how to fix it."""


class ConfigError(TokenpulseError):
    """A setting, or a file that an operator wrote, cannot be used."""


class Unavailable(TokenpulseError):
    """Kafka, Redis or another process does not answer, refuses, or lacks what we need."""


class RequestError(TokenpulseError):
    """A request that cannot be answered or carried out as it was given."""


def reason(error: BaseException) -> str:
    """Return why a server did not answer, in one line."""
    return "no answer in time" if isinstance(error, TimeoutError) else one_line(error)


def one_line(text: object) -> str:
    """Return the text with its line breaks and runs of blanks replaced by single blanks."""
    return " ".join(str(text).split())
