"""Asks the brokers which operations they allow this user, so that nothing must be tried out.

Brokers before Kafka 2.3, and those that list no operations, deny nothing here: the operation itself
then fails.
"""

import asyncio
from collections.abc import Collection

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import (
    GroupAuthorizationFailedError,
    IncompatibleBrokerVersion,
    KafkaError,
)
from aiokafka.protocol.admin import DescribeGroupsResponse_v3
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import Array, Boolean, Int16, Int32, Schema, String

from streams.security.permissions import Permission, Resource

UNKNOWN = -(2**31)  # the broker lists no operations
COORDINATOR_TRIES, RETRY_S = 20, 0.1
TOPIC_DENIED, GROUP_DENIED = 29, 30  # error codes of Kafka's protocol


async def denied_permissions(
    admin: AIOKafkaAdminClient, permissions: Collection[Permission]
) -> list[Permission]:
    """Return those of `permissions` that a broker denies. Raises KafkaError."""
    topics = sorted({one.name for one in permissions if one.resource is Resource.TOPIC})
    allowed = {(Resource.TOPIC, name): bits for name, bits in await _topics(admin, topics)}
    for name in {one.name for one in permissions if one.resource is Resource.GROUP}:
        allowed[Resource.GROUP, name] = await _group(admin, name)
    return [
        one
        for one in permissions
        if (bits := allowed.get((one.resource, one.name), UNKNOWN)) != UNKNOWN
        and not bits >> one.operation & 1
    ]


async def _topics(admin: AIOKafkaAdminClient, topics: list[str]) -> list[tuple[str, int]]:
    """Return the names of topics with the operations that are allowed on them, as bits."""
    try:
        answer = await admin._send_request(_TopicOperations(topics))
    except (NotImplementedError, IncompatibleBrokerVersion):
        return []
    return [
        (name, 0 if error == TOPIC_DENIED else bits) for error, name, _, _, bits in answer.topics
    ]


async def _group(admin: AIOKafkaAdminClient, group: str) -> int:
    """Return the operations that are allowed on a consumer group, as bits."""
    for _ in range(COORDINATOR_TRIES):
        try:
            node = await admin.find_coordinator(group)
            answer = await admin._send_request(_GroupOperations(group), node)
        except GroupAuthorizationFailedError:
            return 0
        except (NotImplementedError, IncompatibleBrokerVersion):
            return UNKNOWN
        except KafkaError as error:
            if not error.retriable:
                raise
        else:
            [(code, *_, bits)] = answer.groups
            if code == GROUP_DENIED:
                return 0
            if not code:
                return int(bits)
        # A new cluster has no coordinators before the first one is asked for.
        await asyncio.sleep(RETRY_S)
    return UNKNOWN


# -- requests that aiokafka lacks, or whose answer it misreads -------------------------------------


class _MetadataResponse(Response):  # type: ignore[misc]
    API_KEY = 3
    API_VERSION = 8
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            Array(
                ("node_id", Int32),
                ("host", String("utf-8")),
                ("port", Int32),
                ("rack", String("utf-8")),
            ),
        ),
        ("cluster_id", String("utf-8")),
        ("controller_id", Int32),
        (
            "topics",
            Array(
                ("error_code", Int16),
                ("topic", String("utf-8")),
                ("is_internal", Boolean),
                (
                    "partitions",
                    Array(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", Array(Int32)),
                        ("isr", Array(Int32)),
                        ("offline_replicas", Array(Int32)),
                    ),
                ),
                ("authorized_operations", Int32),
            ),
        ),
        ("cluster_authorized_operations", Int32),
    )


class _MetadataRequest(RequestStruct):  # type: ignore[misc]
    API_KEY = 3
    API_VERSION = 8
    RESPONSE_TYPE = _MetadataResponse
    SCHEMA = Schema(
        ("topics", Array(String("utf-8"))),
        ("allow_auto_topic_creation", Boolean),
        ("include_cluster_authorized_operations", Boolean),
        ("include_topic_authorized_operations", Boolean),
    )


class _TopicOperations(Request[_MetadataRequest]):  # type: ignore[misc]
    API_KEY = 3

    def __init__(self, topics: list[str]) -> None:
        self._topics = topics

    def build(self, request_struct_class: type[_MetadataRequest]) -> _MetadataRequest:
        return request_struct_class(self._topics, False, False, True)


class _DescribeGroupsRequest(RequestStruct):  # type: ignore[misc]
    API_KEY = 15
    API_VERSION = 3
    RESPONSE_TYPE = DescribeGroupsResponse_v3
    SCHEMA = Schema(("groups", Array(String("utf-8"))), ("include_authorized_operations", Boolean))


class _GroupOperations(Request[_DescribeGroupsRequest]):  # type: ignore[misc]
    API_KEY = 15

    def __init__(self, group: str) -> None:
        self._group = group

    def build(self, request_struct_class: type[_DescribeGroupsRequest]) -> _DescribeGroupsRequest:
        return request_struct_class([self._group], True)
