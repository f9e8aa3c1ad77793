-- about: Langfuse: export of observations as JSON, JSON Lines or CSV
--
-- One observation a record, or an answer of the API with a list of them as `data`. Only generations
-- are calls of a model, and those without an end are not finished. usageDetails has the cached
-- tokens apart from `input`, or within it if input and output are the total; the same for reasoning
-- and `output`.
WITH observations AS (
    SELECT line, unnest(payloads(coalesce(r->'data', r))) AS r FROM records
), calls AS (
    SELECT line, r,
           try_cast(coalesce(r->>'usageDetails', r->>'usage_details', r->>'usage') AS JSON)
               AS usage,
           epoch_ms_of(coalesce(r->>'startTime', r->>'start_time')) AS started,
           epoch_ms_of(coalesce(r->>'endTime', r->>'end_time')) AS ended,
           epoch_ms_of(coalesce(r->>'completionStartTime', r->>'completion_start_time'))
               AS first_token,
           coalesce(count_at(usage, '$.input'), count_at(usage, '$.promptTokens'),
                    count_at(r, '$.promptTokens')) AS input,
           coalesce(count_at(usage, '$.output'), count_at(usage, '$.completionTokens'),
                    count_at(r, '$.completionTokens')) AS output,
           coalesce(count_at(usage, '$.total'), count_at(r, '$.totalTokens')) AS total,
           coalesce(count_at(usage, '$.input_cached_tokens'),
                    count_at(usage, '$.cache_read_input_tokens'),
                    count_at(usage, '$.input_cache_read')) AS cached,
           coalesce(count_at(usage, '$.cache_creation_input_tokens'),
                    count_at(usage, '$.input_cache_creation')) AS written,
           coalesce(count_at(usage, '$.output_reasoning_tokens'),
                    count_at(usage, '$.output_reasoning')) AS reasoning,
           total = input + output AS is_inclusive,
           coalesce(r->>'level', 'DEFAULT') = 'ERROR' AS is_error,
           coalesce(r->>'statusMessage', r->>'status_message', 'error') AS message
    FROM observations
    WHERE upper(r->>'type') = 'GENERATION'
      AND coalesce(r->>'endTime', r->>'end_time', '') <> ''
)
SELECT line,
       r->>'id' AS request_id,
       coalesce(r->>'traceId', r->>'trace_id') AS trace_id,
       ended AS ended_at,
       coalesce(r->>'model', r->>'providedModelName', r->>'provided_model_name') AS model,
       CASE WHEN is_error THEN error_outcome(message) ELSE 'success' END AS outcome,
       first_token IS NOT NULL AS stream,
       first_token - started AS ttft_ms,
       ended - started AS duration_ms,
       CASE WHEN is_inclusive THEN input
            ELSE input + coalesce(cached, 0) + coalesce(written, 0) END AS input_tokens,
       cached AS cached_input_tokens,
       written AS cache_write_tokens,
       CASE WHEN is_inclusive THEN output ELSE output + coalesce(reasoning, 0) END
           AS output_tokens,
       reasoning AS reasoning_tokens
FROM calls
