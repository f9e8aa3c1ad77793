"""Amazon Bedrock and Azure OpenAI: entries of their logs."""

from tests.support.shipped_mappings import END_MS, event, mapped


def test_bedrock_log_excludes_the_cache_and_names_models_by_arn() -> None:
    arn = "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.anthropic.claude-v1:0"
    counts = {
        "inputTokenCount": 3,
        "cacheReadInputTokenCount": 2074,
        "cacheWriteInputTokenCount": 1,
    }
    log = {
        "schemaType": "ModelInvocationLog",
        "timestamp": "2026-11-20T10:00:02Z",
        "requestId": "b1",
        "operation": "ConverseStream",
        "modelId": arn,
        "region": "us-east-1",
        "input": counts,
        "output": {"outputTokenCount": 61, "outputBodyJson": {"metrics": {"latencyMs": 249}}},
    }
    assert event("bedrock_invocations", log) == {
        "request_id": "b1",
        "ended_at": END_MS,
        "model": "us.anthropic.claude-v1:0",
        "region": "us-east-1",
        "outcome": "success",
        "stream": True,
        "duration_ms": 249,
        "input_tokens": 2078,
        "cached_input_tokens": 2074,
        "cache_write_tokens": 1,
        "output_tokens": 61,
    }
    for error, outcome in (
        ("ThrottlingException", "rate_limited"),
        ("ModelTimeoutException", "timeout"),
        ("ServiceUnavailableException", "overloaded"),
        ("ModelStreamErrorException", "stream_error"),
        ("ValidationException", "client_error"),
        ("AccessDeniedException", "client_error"),
    ):
        assert event("bedrock_invocations", {**log, "errorCode": error})["outcome"] == outcome


def test_bedrock_embeddings_are_left_out() -> None:
    log = {"timestamp": "2026-11-20T10:00:02Z", "operation": "InvokeModel", "requestId": "b1"}
    for model in ("amazon.titan-embed-text-v2:0", "arn:aws:bedrock:x::y/cohere.rerank-v3-5:0"):
        assert mapped("bedrock_invocations", {**log, "modelId": model}).skipped == 1


def test_azure_diagnostics_in_batches_of_event_hubs() -> None:
    entry = {
        "time": "2026-11-20T10:00:01.88Z",
        "category": "RequestResponse",
        "operationName": "ChatCompletions_Create",
        "location": "eastus",
        "durationMs": "120",
        "resultSignature": "200",
        "correlationId": "c1",
        "properties": '{"streamType": "Streaming", "modelName": "gpt-4o"}',
    }
    limited = {
        **entry,
        "durationMs": -1,
        "resultSignature": "429",
        "correlationId": "c2",
        "properties": {"modelDeploymentName": "d"},
    }
    batch = mapped("azure_openai_diagnostics", {"records": [entry, limited, {"category": "Audit"}]})
    first, second = (row.event for row in batch.rows)
    assert (first["ended_at"], first["duration_ms"], first["stream"]) == (END_MS, 120, True)
    assert (second["outcome"], second["model"]) == ("rate_limited", "d")
    assert "duration_ms" not in second
