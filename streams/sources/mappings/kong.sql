-- about: Kong AI proxy: kafka-log (Enterprise), http-log and file-log
--
-- Needs config.logging.log_statistics: true. Enterprise has ai.proxy, the open-source gateway
-- ai.ai-proxy without TTFT, cached tokens and mode, and 0 for counts that it does not have.
-- One entry a record, or a list of them, as http-log sends a queue.
WITH entries AS (
    SELECT line, unnest(payloads(r)) AS r FROM records
), calls AS (
    SELECT line, r,
           coalesce(r->'$.ai.proxy', r->'$.ai.ai-proxy', r->'$.ai.ai-proxy-advanced') AS ai,
           ai->'usage' AS usage,
           usage_openai(usage) AS u,
           ai->>'$.meta.request_mode' AS mode,
           try_cast(r->>'$.response.status' AS INTEGER) AS status,
           try_cast(r->>'$.latencies.request' AS DOUBLE) AS duration,
           lower(coalesce(ai->>'$.cache.cache_status', '')) = 'hit' AS is_cache_hit
    FROM entries
)
SELECT line,
       r->>'$.request.id' AS request_id,
       epoch_ms_of(r->>'started_at') + coalesce(duration, 0) AS ended_at,
       coalesce(nullif(ai->>'$.meta.response_model', ''), ai->>'$.meta.request_model') AS model,
       ai->>'$.meta.provider_name' AS channel,
       r->>'$.consumer.username' AS customer_id,
       status_outcome(status) AS outcome,
       status AS status_code,
       CASE WHEN mode IS NOT NULL THEN mode = 'stream' END AS stream,
       CASE WHEN coalesce(mode, 'stream') = 'stream' AND status < 300 AND NOT is_cache_hit
            THEN nullif(try_cast(usage->>'time_to_first_token' AS DOUBLE), 0) END AS ttft_ms,
       duration AS duration_ms,
       -- versions before 3.10 document the singular names
       CASE WHEN status < 300 AND NOT is_cache_hit
            THEN nullif(coalesce(u.input_tokens, count_at(usage, '$.prompt_token')), 0) END
           AS input_tokens,
       CASE WHEN status < 300 AND NOT is_cache_hit THEN u.cached_input_tokens END
           AS cached_input_tokens,
       CASE WHEN status < 300 AND NOT is_cache_hit
            THEN nullif(coalesce(u.output_tokens, count_at(usage, '$.completion_token')), 0) END
           AS output_tokens,
       CASE WHEN status < 300 AND NOT is_cache_hit THEN u.reasoning_tokens END AS reasoning_tokens,
       CASE WHEN is_cache_hit THEN 'response_cache' END AS served_from
FROM calls
-- a request that another plugin rejected, or that met no provider, has an empty `ai`
WHERE ai IS NOT NULL OR (json_type(r, '$.ai') = 'OBJECT' AND status >= 400)
