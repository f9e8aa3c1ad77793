-- about: OpenTelemetry spans of coding agents
-- format: jsonl
--
-- Flattened OpenTelemetry client spans of coding agents (Exgentic/agent-llm-traces,
-- cdla-permissive-2.0; the flattened copy is in fnstggl/energy2), one span a line.
-- Requests are counted at start_time_iso although the end is known: the five-minute reference
-- counts are by start. Some times have no zone; they are UTC like the others.
-- Spans that failed have duration 0, which was not measured, and 0 tokens.
SELECT line,
       r->>'span_id' AS request_id,
       epoch_ms_of(r->>'start_time_iso') AS ended_at,
       r->>'request_model' AS model,
       r->>'session_id' AS customer_id,
       r->>'benchmark' AS use_case,
       -- the trace has no codes
       CASE WHEN (r->>'is_error')::BOOLEAN THEN 'server_error' ELSE 'success' END AS outcome,
       CASE WHEN NOT (r->>'is_error')::BOOLEAN THEN (r->>'duration_ms')::DOUBLE END AS duration_ms,
       (r->>'input_tokens')::BIGINT AS input_tokens,
       (r->>'output_tokens')::BIGINT AS output_tokens
FROM records
