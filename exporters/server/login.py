"""Checks logins, and slows down guesses of passwords.

A wrong password costs its client (an address) a growing wait before the answer, and a client has
only a few such waits at a time. A password that was right once passes without any of this, so that
neither Prometheus nor a reader of the board waits for the guesses of another client, even at the
same address.
"""

import asyncio
import base64
import hashlib
import hmac
import secrets
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field

import bcrypt

# Bcrypt is slow on purpose: guesses may take one processor, not all of them.
GUESSES_AT_A_TIME = 1
# Of one client, unanswered.
GUESSES_WAITING = 8
FREE_GUESSES = 5
PENALTY_STEP_S, PENALTY_MOST_S = 0.25, 2.0  # below the timeout of a scrape
FORGOTTEN_AFTER_S = 600.0
MOST_CLIENTS = 10_000


class TooManyGuesses(Exception):
    """A client has too many logins waiting that were not yet right once."""


@dataclass(slots=True)
class _Guesser:
    """The wrong logins of one client."""

    turn: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(1))
    waiting: int = 0
    wrong: int = 0
    last_s: float = field(default_factory=time.monotonic)

    def penalty_s(self) -> float:
        return min(PENALTY_MOST_S, max(0, self.wrong - FREE_GUESSES) * PENALTY_STEP_S)


class Guard:
    """Checks passwords; a password that was right is known again without bcrypt."""

    def __init__(self, users: Mapping[str, str]) -> None:
        self._users = {name: text.encode() for name, text in users.items()}
        # One hash of each cost in use: every check computes one of each, so that its time tells
        # neither whether a name exists nor whose it is.
        self._costs = {_cost(text): text for text in self._users.values()}
        self._key = secrets.token_bytes(32)
        self._known: dict[str, bytes] = {}  # name -> keyed hash of its password
        self._turn = asyncio.Semaphore(GUESSES_AT_A_TIME)
        self._guessers: OrderedDict[str, _Guesser] = OrderedDict()

    async def admits(self, authorization: str | None, client: str = "") -> bool:
        """Return whether an Authorization header has a user's name and password.

        `client`: its address. Raises TooManyGuesses.
        """
        login = _login(authorization or "")
        if login is None:
            return False
        name, password = login
        # bcrypt takes a tenth of a second, too long for every scrape; a keyed hash of a password
        # that was right is kept in memory only.
        seen = hmac.digest(self._key, password, hashlib.sha256)
        known = self._known.get(name)
        if known is not None and hmac.compare_digest(known, seen):
            return True
        guesser = self._guesser(client)
        if guesser.waiting >= GUESSES_WAITING:
            raise TooManyGuesses
        guesser.waiting += 1
        try:
            # Of each client one at a time, so that clients take turns.
            async with guesser.turn, self._turn:
                is_right = await asyncio.to_thread(self._is_right, name, password)
            if is_right:
                self._known[name] = seen
            else:
                guesser.wrong += 1
                guesser.last_s = time.monotonic()
                await asyncio.sleep(guesser.penalty_s())
        finally:
            guesser.waiting -= 1
        return is_right

    def _guesser(self, client: str) -> _Guesser:
        now_s = time.monotonic()
        guesser = self._guessers.setdefault(client, _Guesser())
        self._guessers.move_to_end(client)
        if now_s - guesser.last_s > FORGOTTEN_AFTER_S:
            guesser.wrong, guesser.last_s = 0, now_s
        if len(self._guessers) > MOST_CLIENTS:
            self._guessers.popitem(last=False)
        return guesser

    def _is_right(self, name: str, password: bytes) -> bool:
        own = self._users.get(name)
        own_cost = None if own is None else _cost(own)
        is_right = False
        for cost, other in self._costs.items():
            against = own if own is not None and cost == own_cost else other
            try:
                is_same = bcrypt.checkpw(password, against)
            except ValueError:  # longer than bcrypt can tell apart
                return False
            is_right |= is_same and against is own
        return is_right


def _cost(text: bytes) -> bytes:
    """Return the cost of a bcrypt hash, `$2b$10$...`."""
    return text.split(b"$")[2]


def _login(header: str) -> tuple[str, bytes] | None:
    """Return name and password of a Basic Authorization header (RFC 7617)."""
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        name, colon, password = base64.b64decode(encoded.strip(), validate=True).partition(b":")
        # A user without a colon has no password.
        return (name.decode(), password) if colon else None
    except ValueError:
        return None
