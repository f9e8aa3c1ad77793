"""Why Redis did not run a command, with the fix, in one line."""

from redis.exceptions import (
    AskError,
    AuthenticationError,
    ClusterDownError,
    MovedError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    TryAgainError,
)

from streams.errors import one_line

NO_PERMISSION = (
    "give the user what docs/security.md lists for this process, or set redis.username to the "
    "user of this process"
)
WRONG_LOGIN = "set redis.username and redis.password_file, or put them into redis.url"

# The first class that fits says what to do; a subclass stands before its class.
_FIXES: tuple[tuple[type[RedisError], str], ...] = (
    (NoPermissionError, NO_PERMISSION),
    (AuthenticationError, WRONG_LOGIN),
    (TryAgainError, "a slot is being moved to another node; try again when that is done"),
    (
        MovedError,
        "the server is a node of a cluster, which has moved the key or was not asked as one; if "
        "redis.url begins with redis://, write redis+cluster:// there",
    ),
    (AskError, "a slot is being moved to another node; try again when that is done"),
    (ClusterDownError, "the cluster has no primary for the key; see to its nodes"),
    (
        ReadOnlyError,
        "the server is a replica; set redis.url to the primary, or write redis+sentinel:// there",
    ),
    (OutOfMemoryError, "raise maxmemory of Redis"),
)


def redis_reason(error: BaseException) -> str:
    """Return why a call to Redis failed, and the fix if there is one to name."""
    text = one_line(error) or type(error).__name__
    fix = next((fix for kind, fix in _FIXES if isinstance(error, kind)), None)
    return text if fix is None else f"{text}: {fix}"
