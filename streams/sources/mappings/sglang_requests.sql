-- about: SGLang: request log (--log-requests-format json), metrics files
-- format: jsonl
--
-- Start SGLang with --log-requests --log-requests-level 0 --log-requests-format json and
-- --enable-metrics, which adds first_token_latency; or with --export-metrics-to-file-dir. Latencies
-- and times are in seconds. Lines of received requests are left out.
WITH outputs AS (
    -- the requests of one batch may be a list
    SELECT line, source, timestamp, r, unnest(payloads(coalesce(r->'out', r))) AS out FROM records
), calls AS (
    SELECT line, r,
           -- a topic is named with its partition
           CASE WHEN timestamp IS NULL THEN source
                ELSE regexp_replace(source, '-\d+$', '') END AS source,
           coalesce(out->'meta_info', out) AS m,
           coalesce(r->'obj', try_cast(r->>'request_parameters' AS JSON)) AS request,
           m->>'$.finish_reason.type' AS finish,
           try_cast(m->>'$.finish_reason.status_code' AS INTEGER) AS status,
           try_cast(m->>'e2e_latency' AS DOUBLE) * 1000 AS duration
    FROM outputs
    WHERE coalesce(r->>'event', 'request.finished') = 'request.finished'
      -- lines of other gateways have times and tokens of the same names, and other outcomes
      AND coalesce(r->>'event', r->>'request_parameters', out->>'meta_info',
                   out->>'e2e_latency') IS NOT NULL
)
SELECT line,
       coalesce(m->>'id', r->>'rid') AS request_id,
       coalesce(epoch_ms_of(m->>'request_finished_ts'),
                epoch_ms_of(m->>'request_received_ts') + duration,
                epoch_ms_of(r->>'timestamp')) AS ended_at,
       coalesce(request->>'model', request->>'served_model_name', source) AS model,
       CASE WHEN finish = 'abort'
            -- the server aborts with a status: 400 too long, 503 queue full
            THEN CASE WHEN status >= 400 THEN status_outcome(status) ELSE 'cancelled' END
            ELSE 'success' END AS outcome,
       coalesce(try_cast(request->>'stream' AS BOOLEAN), false) AS stream,
       try_cast(m->>'first_token_latency' AS DOUBLE) * 1000 AS ttft_ms,
       duration AS duration_ms,
       count_at(m, '$.prompt_tokens') AS input_tokens,
       count_at(m, '$.cached_tokens') AS cached_input_tokens,
       count_at(m, '$.completion_tokens') AS output_tokens,
       count_at(m, '$.reasoning_tokens') AS reasoning_tokens
FROM calls
