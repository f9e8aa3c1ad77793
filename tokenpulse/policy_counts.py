"""The requests of the last 24 hours in the state, to show what an objective of a policy matches."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

from exporters.formatting import counted
from exporters.reference.customers import tokens_with
from slo.engine.matched import count_matches
from slo.policy.policy import Objective, Policy
from streams.config.settings import Settings
from streams.errors import ConfigError, TokenpulseError
from streams.query.report import Question, ReportData, query
from tokenpulse.redis_call import run_with_redis

_DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class PolicyCounts:
    """The state of a day, or the reason why there is none."""

    settings: Settings
    answer: ReportData | None
    problem: str  # one line; empty if there is an answer

    @classmethod
    def read(cls, settings: Settings) -> Self:
        """Read the state of the last 24 hours."""
        kafka, now_s = settings.kafka, int(time.time())
        question = Question(from_s=now_s - _DAY_S)
        try:
            answer = run_with_redis(
                settings, lambda client: query(client, kafka.group, kafka.topic, question)
            )
        except TokenpulseError as error:
            return cls(settings, None, str(error).splitlines()[0])
        return cls(settings, answer, "")

    def describe(self, policy: Policy, objective: Objective) -> Iterator[str]:
        """Yield how many requests an objective matches; no line without a state."""
        if self.answer is None:
            return
        answer, settings = self.answer, self.settings

        try:
            matches = count_matches(
                policy,
                objective,
                answer.steps,
                answer.range.step_s,
                answer.series,
                answer.customers,
                tokens_with(settings, answer.tokens),
                settings.latency.apart_tiers,
            )
        except ConfigError as error:
            # Tokens of customers need the key of the workers.
            yield f"last 24 h: unknown, as {error}"
            return
        text = f"last 24 h: {counted(matches.requests, 'request')}"
        if objective.scope.per:
            text += f" of {counted(matches.names, objective.scope.per)}"
        if matches.probes:
            text += f" and {counted(matches.probes, 'synthetic check')}"
        if matches.counted is not None:
            text += f"; {matches.counted:,} count, {matches.bad:,} of them bad"
        yield text if matches.requests or matches.probes else f"{text}; check the scope"
