"""Spans become events: one for each call, none for the spans around it.

Pure. A reader is made once for a source; a record of spans is then read as a whole, since the spans
of one call may lie in several groups of it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from streams.intake.otlp.batch import (
    BAD_ID,
    BAD_SPAN,
    BAD_TIME,
    NO_REQUEST,
    NO_USAGE,
    OTHER_PROFILE,
    REPEATS_USAGE,
    SAMPLED,
    TOKEN_FIELDS,
    UNKNOWN_SCOPE,
    Event,
    IntakeBatch,
    RejectedSpan,
    drop_tokens,
)
from streams.intake.otlp.endings import (
    CANCELLED_REASONS,
    end_of_error,
    end_of_success,
    end_of_unfinished,
    has_error,
    lacks_ending,
)
from streams.intake.otlp.litellm_proxy import SERVER_NAMES, EarlierRequests, ProxyJoin
from streams.intake.otlp.litellm_usage import add_usage
from streams.intake.otlp.nesting import NestedRequests
from streams.intake.otlp.profile import SpanProfile, Ttft, fits
from streams.intake.otlp.profiles import OPERATION, PROFILES, UNLISTED_SCOPES, select_profiles
from streams.intake.otlp.sampling import SAMPLING_NAMES, is_one_of_a_sample
from streams.intake.otlp.spans import (
    SERVER,
    SPAN_ID_CHARACTERS,
    TRACE_ID_CHARACTERS,
    Attribute,
    Attributes,
    Span,
    SpanGroup,
)
from streams.intake.otlp.values import (
    count,
    finish_reason,
    flag,
    host,
    number,
    parameters,
    status,
    text,
)

Value = TypeVar("Value")

_LABELS = ("model", "channel", "region", "service_tier", "customer_id")
_READERS: dict[str, Callable[[Attribute], object]] = {
    **dict.fromkeys(_LABELS, text),
    "region": host,
    **dict.fromkeys(TOKEN_FIELDS, count),
}
_SERVICE = frozenset({"service.name"})
# Ids of zeros alone are invalid by W3C Trace Context.
_NO_IDS = ("", "0" * TRACE_ID_CHARACTERS, "0" * SPAN_ID_CHARACTERS)


@dataclass(frozen=True)
class _Plan:
    """A profile, ready to read: the lists of attributes of each field with their readers."""

    profile: SpanProfile
    fields: tuple[tuple[str, tuple[str, ...], Callable[[Attribute], object]], ...]
    usage_names: frozenset[str]
    error_names: frozenset[str]  # attributes of the HTTP status and of the class of an error


class _Request(NamedTuple):
    """A span that is a request. `join`: that of LiteLLM's proxy, if its SERVER span counts too."""

    span: Span
    event: Event
    scope: str
    notes: list[str]
    join: ProxyJoin | None


class RequestReader:
    """Reads the records of one source: which profiles it has, and which attribute is a customer."""

    def __init__(
        self,
        profiles: Sequence[SpanProfile] | None = None,
        customer_attributes: Sequence[str] = (),
    ) -> None:
        """`customer_attributes`: of spans, in the order in which they are tried."""
        customer = tuple(customer_attributes)
        self._plans = [_plan(item, customer) for item in profiles or select_profiles()]
        self._unlisted = [_plan(UNLISTED_SCOPES, customer)]
        self.attribute_names = frozenset[str]().union(
            *(_attribute_names(plan) for plan in self._plans + self._unlisted),
            SERVER_NAMES,
            SAMPLING_NAMES,
        )
        self._by_scope: dict[str, list[_Plan]] = {}
        self._servers = tuple(scope for plan in self._plans for scope in plan.profile.servers)
        self._is_auto = len(self._plans) > 1
        self._earlier = EarlierRequests()
        self._nested = NestedRequests()

    def read(self, groups: Sequence[SpanGroup]) -> IntakeBatch:
        """Return the events of one record, with the counts of its skipped and rejected spans."""
        batch = IntakeBatch()
        # A profile yields only to spans that count: a source may name it alone.
        scopes = {group.scope for group in groups}
        counted = {scope for scope in scopes if self._plans_of(scope)}
        # An application of its own may have FastAPI spans too; beside LiteLLM they are the proxy's.
        has_proxy = self._servers and self._has_proxy(groups, scopes)
        join = ProxyJoin(batch, self._earlier) if has_proxy else None
        requests: list[_Request] = []
        for group in groups:
            plans = self._plans_of(group.scope)
            plans = [plan for plan in plans if not _yields(plan, group.scope, counted)]
            if self._is_auto and group.scope not in counted and group.has(OPERATION):
                plans = self._unlisted
            is_server = join is not None and fits(group.scope, self._servers)
            if plans or is_server or group.is_damaged:
                requests += self._read_group(group, plans, join if is_server else None, batch)
            else:
                batch.skipped[self._scope_reason(group.scope), group.scope] += group.size
                batch.spans += group.size
        self._add_requests(requests, groups, batch)
        if join is not None:
            join.finish()
        return batch

    def _add_requests(
        self, requests: Sequence[_Request], groups: Sequence[SpanGroup], batch: IntakeBatch
    ) -> None:
        spans = {event["request_id"]: span for span, event, *_ in requests}
        repeated = self._nested.find(spans, groups)
        for span, event, scope, notes, join in requests:
            if event["request_id"] in repeated:
                batch.skipped[REPEATS_USAGE, scope] += 1
                continue
            batch.events.append(event)
            for note in notes:
                batch.notes[note, scope] += 1
            if join is not None:
                join.add_request(span, event)

    def _plans_of(self, scope: str) -> list[_Plan]:
        plans = self._by_scope.get(scope)
        if plans is None:
            taking = [plan for plan in self._plans if plan.profile.takes(scope)]
            # The first profile has the scope, so that no span gives two events.
            # Profiles share a scope only if they name it alike: those of LiteLLM.
            plans = [plan for plan in taking if plan.profile.scopes == taking[0].profile.scopes]
            if len(self._by_scope) < 1000:  # scopes are names of senders: not without a limit
                self._by_scope[scope] = plans
        return plans

    def _has_proxy(self, groups: Sequence[SpanGroup], scopes: set[str]) -> bool:
        if not self._is_auto or "litellm" in scopes:
            return True
        return any("litellm" in str(group.resource(_SERVICE)).lower() for group in groups)

    def _scope_reason(self, scope: str) -> str:
        if self._plans_of(scope):
            return REPEATS_USAGE
        return OTHER_PROFILE if any(item.takes(scope) for item in PROFILES) else UNKNOWN_SCOPE

    def _read_group(
        self, group: SpanGroup, plans: list[_Plan], join: ProxyJoin | None, batch: IntakeBatch
    ) -> list[_Request]:
        requests, scope = list[_Request](), group.scope
        resource: Attributes | None = None
        for span in group.spans(self.attribute_names):
            position = batch.spans
            batch.spans += 1
            if span is None:
                detail = "the span is not built as OTLP defines it"
                batch.rejected.append(RejectedSpan(BAD_SPAN, detail, position, scope, {}))
                continue
            if join is not None:
                join.add_span(span)
                if span.kind == SERVER and join.add_server(span, scope):
                    continue
            for plan in plans:
                if plan.profile.is_request(span):
                    break
            else:
                repeats = any(not plan.usage_names.isdisjoint(span.attributes) for plan in plans)
                reason = REPEATS_USAGE if repeats else NO_REQUEST
                batch.skipped[UNKNOWN_SCOPE if plans is self._unlisted else reason, scope] += 1
                continue
            if resource is None:  # read once a group, and not for groups without requests
                resource = group.resource(self.attribute_names)
            event = self._event(span, plan, resource, notes := list[str]())
            fault = _fault(span, plan.profile)
            if fault is None:
                joined = join if plan.profile.servers else None
                requests.append(_Request(span, event, scope, notes, joined))
            else:
                batch.rejected.append(RejectedSpan(*fault, position, scope, event))
        return requests

    def _event(self, span: Span, plan: _Plan, resource: Attributes, notes: list[str]) -> Event:
        """Return the event of a span; add to `notes` why it counts less surely than usual."""
        profile = plan.profile
        attributes = span.attributes
        event: Event = {
            "request_id": f"{span.trace_id}/{span.span_id}",
            "ended_at": span.end_ns // 1_000_000,
            "trace_id": span.trace_id,
        }
        for name, keys, read in plan.fields:
            # The first alias that has a meaning wins: `error.code` may be a text without one.
            for key in keys:
                if key in attributes:
                    value = read(attributes[key])
                    if value is not None:
                        event[name] = value
                        break
        self._add_defaults(event, profile, resource)
        _add_times(event, span, profile)
        _add_stream(event, span, profile)
        if profile.usage_text:
            add_usage(event, attributes.get(profile.usage_text))
        self._add_end(event, span, plan, notes)
        _settle_tokens(event, profile)
        if _first(attributes, profile.fields.get("from_cache", ()), flag):
            event["served_from"] = "response_cache"
        if is_one_of_a_sample(span):
            notes.append(SAMPLED)
        if event["outcome"] == "success" and "input_tokens" not in event:
            notes.append(NO_USAGE)
        return event

    def _add_defaults(self, event: Event, profile: SpanProfile, resource: Attributes) -> None:
        """Add model and region of the resource, if the span has none."""
        for name, keys in profile.resource.items():
            # The resource's region is where the call was made; an address is only a hint.
            if name == "region" or name not in event:
                value = _first(resource, keys, text)
                if value is not None:
                    event[name] = value

    def _add_end(self, event: Event, span: Span, plan: _Plan, notes: list[str]) -> None:
        """Add outcome, error class and ending."""
        profile = plan.profile
        fields, attributes = profile.fields, span.attributes
        status_code = kind = None
        if not plan.error_names.isdisjoint(attributes):  # few spans have one
            status_code = _first(attributes, fields["status_code"], status)
            kind = _first(attributes, fields["error_type"], text)
        reason = _first(attributes, fields["finish"], finish_reason)
        if reason not in CANCELLED_REASONS and has_error(span, status_code, kind):
            # LiteLLM's callback `otel` has no TTFT, but counts the tokens that came.
            saw_token = "ttft_ms" in event or event.get("output_tokens", 0) > 0
            end = end_of_error(span, status_code, kind, saw_token)
        elif lacks_ending(span, profile.cut, event.get("stream"), reason):
            end = end_of_unfinished()
        else:
            end = end_of_success(reason)
        event["outcome"] = end.outcome
        if end.error_class is not None:
            event["error_class"] = end.error_class
        if end.ending is not None:
            event["ending"] = end.ending
        if end.note is not None:
            notes.append(end.note)


def _plan(profile: SpanProfile, customer: tuple[str, ...]) -> _Plan:
    fields = {**profile.fields, "customer_id": customer}
    usage = (key for name in TOKEN_FIELDS for key in profile.fields.get(name, ()))
    return _Plan(
        profile,
        tuple((name, fields[name], read) for name, read in _READERS.items() if fields.get(name)),
        frozenset(usage),
        frozenset((*fields["status_code"], *fields["error_type"])),
    )


def _attribute_names(plan: _Plan) -> set[str]:
    """Return all attributes of spans and resources that the profile reads."""
    profile = plan.profile
    names = {key for keys in profile.fields.values() for key in keys}
    names.update(key for _, keys, _ in plan.fields for key in keys)
    names.update(key for keys in profile.resource.values() for key in keys)
    names.update(source.attribute for source in profile.ttft)
    names.update((*profile.requires, *profile.allows, profile.parameters, profile.usage_text))
    names.update(name for choice in profile.needs for name in choice)
    names.update(source.attribute for source in (profile.duration,) if source is not None)
    return names


def _yields(plan: _Plan, own: str, scopes: set[str]) -> bool:
    """Return whether the record holds a scope whose spans those of the scope `own` repeat."""
    return any(
        fits(own, (pattern,)) and any(fits(scope, others) for scope in scopes)
        for pattern, others in plan.profile.yields_to.items()
    )


def _fault(span: Span, profile: SpanProfile) -> tuple[str, str] | None:
    """Return reason and detail if the request cannot be identified or placed in time."""
    if span.trace_id in _NO_IDS or span.span_id in _NO_IDS:
        return BAD_ID, "trace id or span id is missing or all zero"
    lengths = (len(span.trace_id), len(span.span_id))
    if lengths != (TRACE_ID_CHARACTERS, SPAN_ID_CHARACTERS) and not profile.takes_any_id:
        return BAD_ID, f"ids of {lengths[0]} and {lengths[1]} characters; need 32 and 16"
    if not 0 < span.start_ns <= span.end_ns:
        return BAD_TIME, f"need 0 < start <= end, got {span.start_ns} and {span.end_ns} ns"
    return None


def _first(
    attributes: Attributes, names: tuple[str, ...], read: Callable[[Attribute], Value | None]
) -> Value | None:
    """Return the first of the attributes that has a meaning."""
    for name in names:
        if name in attributes:
            value = read(attributes[name])
            if value is not None:
                return value
    return None


def _add_times(event: Event, span: Span, profile: SpanProfile) -> None:
    duration_ms = None
    if profile.duration is not None:
        duration_ms = _measured_ms(span, profile.duration)
    if duration_ms is None:
        duration_ms = (span.end_ns - span.start_ns) / 1e6
    event["duration_ms"] = duration_ms
    for source in profile.ttft:
        ttft_ms = _measured_ms(span, source)
        if ttft_ms is not None:
            event["ttft_ms"] = ttft_ms
            return


def _measured_ms(span: Span, source: Ttft) -> float | None:
    if source.event:
        moment = span.events.get(source.event)
        # A writer that leaves out the event's time leaves it 0.
        if moment is None or moment.time_ns < span.start_ns:
            return None
        return (moment.time_ns - span.start_ns) / 1e6
    value = number(span.attributes.get(source.attribute))
    return None if value is None else value * source.ms


def _add_stream(event: Event, span: Span, profile: SpanProfile) -> None:
    """Add the flag of the span; without one a TTFT shows a stream, else the profile's usual."""
    stream = _first(span.attributes, profile.fields.get("stream", ()), flag)
    if profile.parameters:
        sent = parameters(span.attributes.get(profile.parameters))
        stream = sent.stream if stream is None else stream
        if sent.model and "model" not in event:
            event["model"] = sent.model
    if stream is None:
        stream = True if "ttft_ms" in event else profile.stream
    if stream is not None:
        event["stream"] = stream


def _settle_tokens(event: Event, profile: SpanProfile) -> None:
    """Drop invented tokens, and make input and output inclusive if the total shows they are not."""
    if profile.invents_usage and event["outcome"] != "success":
        drop_tokens(event)
        return
    # Two faults are usual: input without cached tokens, and output without reasoning. The total
    # tells which numbers a producer added up.
    total = event.get("total_tokens")
    sent, received = event.get("input_tokens"), event.get("output_tokens")
    if total is None or sent is None or received is None or sent + received == total:
        return
    cached = event.get("cached_input_tokens", 0) + event.get("cache_write_tokens", 0)
    reasoning = event.get("reasoning_tokens", 0)
    if sent + cached + received == total:
        event["input_tokens"] = sent + cached
    elif sent + received + reasoning == total:
        event["output_tokens"] = received + reasoning
