-- about: LLMPerf leaderboard, one file per provider and model
-- format: json
--
-- raw_data/individual/*.json of the LLMPerf leaderboard (ray-project/llmperf-leaderboard,
-- Apache-2.0): one run of a benchmark client against a hosted model, named by the file.
-- The file has no times. Rows are one second apart from a base of our choice; they are exact as to
-- how many and how fast, not as to when.
WITH calls AS (
    SELECT line, source, base, r, (r->>'error_code')::INTEGER AS code,
           -- rows that failed before an answer have 0 as their times, which was not measured
           code IS NULL OR code = -100 AS answered
    FROM records
)
SELECT line,
       'llmperf-' || source || '-' || line AS request_id,
       coalesce(base, epoch_ms(TIMESTAMP '2024-01-01')) + (line - 1) * 1000 AS ended_at,
       source AS model,
       CASE WHEN code IS NULL THEN 'success'
            WHEN code = -100 THEN 'stream_error' -- "Output too few tokens": cut off
            WHEN code = -1 THEN 'server_error' -- the client saw no HTTP status
            ELSE status_outcome(code) END AS outcome,
       CASE WHEN answered THEN (r->>'ttft_s')::DOUBLE * 1000 END AS ttft_ms,
       CASE WHEN answered THEN (r->>'end_to_end_latency_s')::DOUBLE * 1000 END AS duration_ms,
       (r->>'number_input_tokens')::BIGINT AS input_tokens,
       (r->>'number_output_tokens')::BIGINT AS output_tokens
FROM calls
