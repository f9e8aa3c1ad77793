"""A network between a worker and Redis in which single commands and replies go astray.

It reads both directions as the Redis protocol (RESP 2 and 3), so that a rule can say "the reply to
the next flush is lost". Whatever is not ruled passes unchanged, in order.
"""

import asyncio
import contextlib
import threading
from collections import Counter, deque
from enum import Enum, auto

from tests.support.redis_servers import redis_url
from tests.support.worker_process import Cable
from tokenpulse.local.embedded import HOST

ONE_LINE, SIZED, COLLECTED = b"+-:_#,(", b"$!=", {b"*": 1, b"~": 1, b">": 1, b"%": 2, b"|": 2}
RULE_S = 30  # for a command to come by


class Fate(Enum):
    """What becomes of a command."""

    HELD = auto()  # it arrives when the rule is released, even if its sender has gone meanwhile
    REPLY_HELD = auto()  # it takes effect; its reply arrives when the rule is released
    REPLY_LOST = auto()  # it takes effect; the connection breaks in place of a reply
    TWICE = auto()  # it arrives twice; the second reply is swallowed


class Rule:
    """One command's fate. `replies` are what Redis said to it, raw, also where nobody heard."""

    def __init__(self, name: str, fate: Fate, loop: asyncio.AbstractEventLoop) -> None:
        self.name, self.fate = name, fate
        self.replies: list[bytes] = []
        self._loop, self.released = loop, asyncio.Event()
        self._met, self._answered = threading.Event(), threading.Event()

    def release(self) -> None:
        """Let what is held pass."""
        self._loop.call_soon_threadsafe(self.released.set)

    def meet(self) -> None:
        """The command came by."""
        self._met.set()

    def answer(self, reply: bytes) -> None:
        """Redis answered it."""
        self.replies.append(reply)
        if len(self.replies) == 1 + (self.fate is Fate.TWICE):
            self._answered.set()

    async def met(self) -> None:
        """Return when the command has come by."""
        assert await asyncio.to_thread(self._met.wait, RULE_S), f"no {self.name} came by"

    async def answered(self) -> None:
        """Return when Redis has answered it, each time it was sent."""
        assert await asyncio.to_thread(self._answered.wait, RULE_S), f"{self.name}: no answer"


class RedisProxy(Cable):
    """`cut`, `hold` (accept, and never answer) and `mend` as for any cable, and rules.

    `seen` counts commands by name, CLAIM and FLUSH for our two scripts. `delay_s` holds back every
    command by so much.
    """

    def __init__(self, port: int) -> None:
        super().__init__(port)
        self.seen: Counter[str] = Counter()
        self.delay_s = 0.0
        self._rules: list[Rule] = []

    @property
    def url(self) -> str:
        """Database 0 by this way."""
        return redis_url(self.port)

    def next(self, name: str, fate: Fate) -> Rule:
        """Rule what becomes of the next command of this name that no other rule waits for."""
        rule = Rule(name, fate, self._loop)
        self._rules.append(rule)
        return rule

    def _rule_for(self, name: str) -> Rule | None:
        for rule in self._rules:
            if rule.name == name:
                self._rules.remove(rule)
                rule.meet()
                return rule
        return None

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection(HOST, self._to)
        except OSError:  # the server is away, and the proxy as good as not there
            writer.transport.abort()
            return
        self._pairs |= {writer, far_writer}
        # What to do with each reply to come; the second reply of a command is not the client's.
        due: deque[tuple[Rule | None, bool]] = deque()
        await asyncio.gather(
            self._commands(reader, far_writer, due), self._replies(far_reader, writer, due)
        )
        far_writer.close()

    async def _commands(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        due: deque[tuple[Rule | None, bool]],
    ) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                raw = await _value(reader)
                await self._passing.wait()
                await asyncio.sleep(self.delay_s)
                name = _name(raw)
                self.seen[name] += 1
                rule = self._rule_for(name)
                if rule is not None and rule.fate is Fate.HELD:
                    await rule.released.wait()
                due.append((rule, True))
                writer.write(raw)
                if rule is not None and rule.fate is Fate.TWICE:
                    due.append((rule, False))
                    writer.write(raw)
                await writer.drain()
        with contextlib.suppress(OSError):
            writer.write_eof()  # Redis still answers what it has got

    async def _replies(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        due: deque[tuple[Rule | None, bool]],
    ) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                raw = await _value(reader)
                await self._passing.wait()
                rule, wanted = (None, True) if raw.startswith(b">") else due.popleft()
                if rule is not None:
                    rule.answer(raw)
                    if rule.fate is Fate.REPLY_HELD:
                        await rule.released.wait()
                    if rule.fate is Fate.REPLY_LOST:
                        writer.transport.abort()
                if wanted and not writer.is_closing():
                    writer.write(raw)
                    await writer.drain()
        writer.close()


async def _value(reader: asyncio.StreamReader) -> bytes:
    """The bytes of one whole value of the protocol."""
    line = await reader.readuntil(b"\r\n")
    kind = line[:1]
    if kind in ONE_LINE:
        return line
    size = int(line[1:])
    if kind in SIZED:
        return line if size < 0 else line + await reader.readexactly(size + 2)
    parts = size * COLLECTED[kind] + (kind == b"|")  # attributes stand before what they describe
    return b"".join([line, *[await _value(reader) for _ in range(parts)]])


def _name(command: bytes) -> str:
    """A command's name; those of our scripts differ in the number of arguments."""
    count, _, name, *_ = command.split(b"\r\n", 3)
    if name.upper() != b"EVALSHA":
        return name.decode().upper()
    # EVALSHA, digest, 1, key, token: a flush has more
    return "CLAIM" if int(count[1:]) == 5 else "FLUSH"
