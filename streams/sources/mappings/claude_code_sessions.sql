-- about: Claude Code sessions through a proxy, with cached tokens
-- format: csv
--
-- requests_with_cached_tokens.csv.gz, from the kv-cache-tester traces (callanjfox/kv-cache-tester,
-- Apache-2.0): Claude Code sessions seen by a proxy, with the cached tokens of an infinite cache.
-- t_s is the arrival, from the start of its own conversation; all conversations start together at
-- the base. Requests are counted at their arrival although api_time_s would give the end: the
-- five-minute reference counts are by arrival, and about a tenth of the rows has no api_time_s.
SELECT line,
       (r->>'conversation') || '-' || (r->>'row') AS request_id,
       coalesce(base, epoch_ms(TIMESTAMP '2025-01-01')) + whole_ms((r->>'t_s')::DOUBLE * 1000)
           AS ended_at,
       r->>'model' AS model,
       r->>'conversation' AS customer_id,
       'success' AS outcome, -- the trace has no failures
       r->>'type' = 's' AS stream,
       CASE WHEN r->>'type' = 's' THEN nullif(r->>'ttft_s', '')::DOUBLE * 1000 END AS ttft_ms,
       nullif(r->>'api_time_s', '')::DOUBLE * 1000 AS duration_ms,
       nullif(r->>'input_tokens', '')::BIGINT AS input_tokens,
       nullif(r->>'cached_input_tokens', '')::BIGINT AS cached_input_tokens,
       nullif(r->>'output_tokens', '')::BIGINT AS output_tokens
FROM records
