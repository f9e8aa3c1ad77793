-- about: Envoy AI Gateway: access log as JSON
-- format: jsonl
--
-- The field names are those of the gateway's example; the operator chooses them. Add
-- response_duration (%COMMON_DURATION(DS_RX_BEG:US_RX_BODY_BEG:ms)%) for the TTFT of streams, and an
-- llmRequestCosts entry of type CachedInputToken as gen_ai.usage.cached_input_tokens.
-- MATERIALIZED: without it the WHERE below would read each line once more.
WITH lines AS MATERIALIZED (
    -- one pass over a line; a text such as "-" is no number and becomes NULL
    SELECT line, json_transform(r, '{
        "x-request-id": "VARCHAR", "start_time": "VARCHAR", "duration": "DOUBLE",
        "response_duration": "DOUBLE", "response_code": "INTEGER", "response_flags": "VARCHAR",
        "response_content_type": "VARCHAR", "path": "VARCHAR", "x-envoy-origin-path": "VARCHAR",
        "gen_ai.request.model": "VARCHAR", "gen_ai.request.model_override": "VARCHAR",
        "gen_ai.response.model": "VARCHAR", "gen_ai.provider.name": "VARCHAR",
        "gen_ai.request.stream": "BOOLEAN", "gen_ai.usage.input_tokens": "BIGINT",
        "gen_ai.usage.cached_input_tokens": "BIGINT",
        "gen_ai.usage.cache_read.input_tokens": "BIGINT",
        "gen_ai.usage.output_tokens": "BIGINT", "gen_ai.usage.reasoning_tokens": "BIGINT"}') AS p
    FROM records
), calls AS (
    SELECT line, p,
           coalesce(nullif(p."gen_ai.response.model", '-'),
                    nullif(p."gen_ai.request.model_override", '-'),
                    nullif(p."gen_ai.request.model", '-')) AS model,
           nullif(p."gen_ai.provider.name", '-') AS provider,
           coalesce(p."x-envoy-origin-path", p.path, '') AS path,
           p.response_code AS code,
           -- UF,URX -> ' UF URX '
           ' ' || replace(coalesce(p.response_flags, '-'), ',', ' ') || ' ' AS flags
    FROM lines
)
SELECT line,
       nullif(p."x-request-id", '-') AS request_id,
       epoch_ms_of(p.start_time) + coalesce(p.duration, 0) AS ended_at,
       model,
       -- the provider is a path: namespace/backend/route/...
       CASE WHEN provider LIKE '%/%/route/%' THEN split_part(provider, '/', 2) ELSE provider END
           AS channel,
       CASE WHEN flags LIKE '% DC %' THEN 'cancelled'
            WHEN flags LIKE '% UT %' OR flags LIKE '% SI %' OR flags LIKE '% DT %' THEN 'timeout'
            -- 0 without a client that left: the upstream sent no answer
            WHEN code = 0 THEN 'server_error'
            WHEN code BETWEEN 200 AND 299
                 AND regexp_matches(flags, ' (UPE|UC|UF|UR|LR|DPE) ') THEN 'stream_error'
            ELSE status_outcome(code) END AS outcome,
       nullif(code, 0) AS status_code,
       coalesce(p."gen_ai.request.stream", p.response_content_type LIKE 'text/event-stream%')
           AS stream,
       p.response_duration AS ttft_ms,
       p.duration AS duration_ms,
       p."gen_ai.usage.input_tokens" AS input_tokens,
       coalesce(p."gen_ai.usage.cached_input_tokens", p."gen_ai.usage.cache_read.input_tokens")
           AS cached_input_tokens,
       p."gen_ai.usage.output_tokens" AS output_tokens,
       p."gen_ai.usage.reasoning_tokens" AS reasoning_tokens
FROM calls
-- other routes of the same listener have no model and no path of the API
WHERE model IS NOT NULL OR path LIKE '%/v1/%'
