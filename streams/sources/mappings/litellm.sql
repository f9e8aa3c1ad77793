-- about: LiteLLM: generic_api, object store files, exports of LiteLLM_SpendLogs
--
-- One StandardLoggingPayload or SpendLogs row a record, or a list of them. Set
-- turn_off_message_logging, so that no prompts leave the gateway. Times are float seconds, or UTC
-- text in SpendLogs, whose metadata is JSON text and whose flags are the texts True, False, None.
-- litellm_call_id is shared by the attempts of a request: retries and fallbacks. `id` is the
-- provider's.
WITH payloads AS (
    SELECT line, unnest(payloads(r)) AS p FROM records
), read AS MATERIALIZED (
    -- one pass over a payload, which has 12 kB and more
    SELECT line, json_transform(p, '{
        "litellm_call_id": "VARCHAR", "request_id": "VARCHAR", "id": "VARCHAR",
        "trace_id": "VARCHAR", "session_id": "VARCHAR", "call_type": "VARCHAR",
        "cache_hit": "VARCHAR", "stream": "VARCHAR", "status": "VARCHAR",
        "custom_llm_provider": "VARCHAR", "model": "VARCHAR", "model_group": "VARCHAR",
        "startTime": "VARCHAR", "endTime": "VARCHAR", "completionStartTime": "VARCHAR",
        "prompt_tokens": "VARCHAR", "completion_tokens": "VARCHAR", "metadata": "JSON",
        "team_id": "VARCHAR", "organization_id": "VARCHAR", "end_user": "VARCHAR",
        "error_information": {"error_code": "VARCHAR", "error_class": "VARCHAR",
                              "normalized_error": "VARCHAR"},
        "model_parameters": {"stream": "BOOLEAN"}}') AS p
    FROM payloads
), calls AS MATERIALIZED (
    SELECT line, p,
           -- an object, or its text
           try_cast(p.metadata->>'$' AS JSON) AS metadata,
           metadata->'usage_object' AS usage,
           usage_openai(usage) AS openai,
           coalesce(p.litellm_call_id, p.request_id, p.id) AS call_id,
           epoch_ms_of(p.startTime) AS started,
           epoch_ms_of(p.endTime) AS ended,
           epoch_ms_of(p.completionStartTime) AS first_chunk,
           -- rows of SpendLogs may have none
           coalesce(p.status, metadata->>'status',
                    CASE WHEN p.litellm_call_id IS NULL THEN 'success' END) AS status,
           lower(coalesce(p.cache_hit, '')) = 'true' AS is_cache_hit,
           -- a stream that failed has null; what the client asked for is in its parameters
           coalesce(try_cast(p.stream AS BOOLEAN), p.model_parameters.stream) AS stream,
           coalesce(p.error_information.normalized_error,
                    metadata->>'$.error_information.normalized_error', '') AS error,
           coalesce(p.error_information.error_code,
                    metadata->>'$.error_information.error_code', '') AS error_code,
           coalesce(p.error_information.error_class,
                    metadata->>'$.error_information.error_class', '') AS error_class
    FROM read
    WHERE p.call_type IS NULL
       OR regexp_matches(p.call_type,
              'completion|responses|anthropic_messages|generate_content|pass_through')
), attempts AS (
    SELECT call_id, min(started) AS first_started, max(started) AS last_started
    FROM calls GROUP BY call_id HAVING count(*) > 1
), judged AS (
    SELECT *,
           status <> 'failure' AS is_success,
           -- the proxy logs a client that left as a success with this error
           error_class = 'ClientDisconnected' AS is_left,
           is_success AND NOT is_cache_hit AND NOT is_left AS has_usage,
           coalesce(started < last_started, false) AS has_later_attempt,
           coalesce(started > first_started, false) AS has_earlier_attempt,
           -- without a stream, and on failures, the end is written in place of the first chunk
           CASE WHEN coalesce(stream, first_chunk < ended) AND first_chunk < ended
                THEN first_chunk - started END AS ttft,
           coalesce(try_cast(regexp_extract(error, '^\d{3}') AS INTEGER),
                    try_cast(regexp_extract(error_code, '^\d{3}$') AS INTEGER)) AS code
    FROM calls LEFT JOIN attempts USING (call_id)
)
SELECT line,
       -- attempts of one call have the same id, but each its own start
       call_id || CASE WHEN is_success THEN '' ELSE '/' || started::BIGINT END AS request_id,
       coalesce(p.trace_id, nullif(p.session_id, '')) AS trace_id,
       ended AS ended_at,
       -- the proxy writes openai/gpt-5, the SDK gpt-5
       coalesce(nullif(CASE WHEN starts_with(p.model, p.custom_llm_provider || '/')
                            THEN substr(p.model, length(p.custom_llm_provider) + 2)
                            ELSE p.model END, ''), nullif(p.model_group, '')) AS model,
       p.custom_llm_provider AS channel,
       coalesce(nullif(metadata->>'user_api_key_team_id', ''), nullif(p.team_id, ''),
                nullif(metadata->>'user_api_key_team_alias', ''),
                nullif(metadata->>'user_api_key_org_id', ''), nullif(p.organization_id, ''),
                nullif(metadata->>'user_api_key_hash', ''), nullif(p.end_user, '')) AS customer_id,
       -- known for the attempts of one batch
       CASE WHEN has_later_attempt OR has_earlier_attempt THEN call_id END AS attempt_of,
       CASE WHEN has_later_attempt AND NOT is_success THEN false END AS final,
       CASE WHEN status IS NULL THEN NULL
            WHEN is_left THEN 'cancelled'
            WHEN is_success THEN 'success'
            -- all deployments cool down: the fault of the gateway, not of the customer
            WHEN error LIKE '429_NO_HEALTHY%' THEN 'overloaded'
            WHEN error LIKE '500_PROVIDER_CONNECTION%' OR code IS NULL AND error_class IN
                 ('APIConnectionError', 'MidStreamFallbackError')
                THEN CASE WHEN ttft IS NOT NULL OR error_class = 'MidStreamFallbackError'
                          THEN 'stream_error' ELSE 'server_error' END
            ELSE coalesce(status_outcome(code), error_outcome(error_class), 'server_error')
       END AS outcome,
       CASE WHEN is_left AND ttft IS NULL THEN 'cancelled_before_first'
            WHEN is_left THEN 'cancelled_after_first' END AS ending,
       CASE WHEN NOT is_success THEN code END AS status_code,
       coalesce(stream, ttft IS NOT NULL) AS stream,
       CASE WHEN NOT is_cache_hit THEN ttft END AS ttft_ms,
       ended - started AS duration_ms,
       -- a cache hit repeats the tokens of the first answer, a failure has 0 for all, and those of
       -- a client that left are estimated; for Anthropic the cached tokens have two names, one of
       -- them 0 in some versions
       CASE WHEN has_usage THEN p.prompt_tokens END AS input_tokens,
       CASE WHEN has_usage
            THEN greatest(openai.cached_input_tokens,
                          count_at(usage, '$.cache_read_input_tokens')) END AS cached_input_tokens,
       CASE WHEN has_usage
            THEN greatest(openai.cache_write_tokens,
                          count_at(usage, '$.cache_creation_input_tokens')) END
           AS cache_write_tokens,
       CASE WHEN has_usage THEN p.completion_tokens END AS output_tokens,
       CASE WHEN has_usage THEN openai.reasoning_tokens END AS reasoning_tokens,
       usage->>'service_tier' AS service_tier,
       CASE WHEN is_cache_hit THEN 'response_cache' END AS served_from,
       -- a stream without usage: LiteLLM counts the tokens itself, and only this shows it
       CASE WHEN has_usage AND stream
                 AND json_type(usage, '$.prompt_tokens_details') = 'NULL'
                 AND count_at(usage, '$.completion_tokens_details.text_tokens')
                     = count_of(p.completion_tokens)
            THEN true END AS estimated_tokens
FROM judged
ORDER BY line, started
