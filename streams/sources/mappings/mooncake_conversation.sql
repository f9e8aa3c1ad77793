-- about: Mooncake FAST'25 conversation trace, with cached tokens
-- format: csv
--
-- reference_cached_tokens.csv.gz, from the Mooncake FAST'25 conversation trace
-- (kvcache-ai/Mooncake, Apache-2.0), with the cached tokens of an infinite prefix cache worked out
-- for every row.
-- timestamp_ms is the arrival, from the start of the trace; there is no duration, so it is also
-- `ended_at`. The base is our choice: the trace has no wall-clock time.
SELECT line,
       'mooncake-conversation-' || (r->>'row') AS request_id,
       coalesce(base, epoch_ms(TIMESTAMP '2025-01-01')) + whole_ms((r->>'timestamp_ms')::DOUBLE)
           AS ended_at,
       'kimi' AS model, -- the trace names no model
       'success' AS outcome, -- nor failures
       (r->>'input_tokens')::BIGINT AS input_tokens,
       (r->>'cached_input_tokens')::BIGINT AS cached_input_tokens,
       (r->>'output_tokens')::BIGINT AS output_tokens
FROM records
