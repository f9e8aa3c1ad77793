-- about: APISIX ai-proxy: kafka-logger, http-logger and file-logger
--
-- Needs logging.summaries: true in ai-proxy; an entry without llm_summary is no call of a model.
-- One entry a record, or a list of them if batch_max_size > 1. llm_summary.duration is the TTFT.
-- Anthropic's own API excludes the cache from prompt_tokens, and the entry does not name the API:
-- the total shows it, or cached tokens beyond the prompt.
WITH entries AS (
    SELECT line, source, entry.p AS p, entry.place AS place FROM (
        SELECT line, source,
               unnest(list_transform(payloads(r), lambda x, i: {'p': x, 'place': i})) AS entry
        FROM records
    )
), calls AS (
    SELECT *, p->'llm_summary' AS s,
           count_at(s, '$.prompt_tokens') AS prompt,
           count_at(s, '$.completion_tokens') AS completion,
           count_at(s, '$.total_tokens') AS total,
           count_at(s, '$.cache_read_input_tokens') AS cached,
           count_at(s, '$.cache_creation_input_tokens') AS written,
           coalesce(cached, 0) + coalesce(written, 0) AS cache,
           try_cast(p->>'$.response.status' AS INTEGER) AS status,
           s->>'stream' = 'true' AS stream,
           try_cast(s->>'duration' AS DOUBLE) AS first_byte
    FROM entries
    WHERE json_type(p, '$.llm_summary') = 'OBJECT'
)
SELECT line,
       -- set by the request-id plugin; else the place in the log
       coalesce(p->>'$.request.headers.x-request-id', p->>'$.response.headers.x-request-id',
                source || '-' || line || CASE WHEN place > 1 THEN '.' || place ELSE '' END)
           AS request_id,
       epoch_ms_of(p->>'start_time') + coalesce(try_cast(p->>'latency' AS DOUBLE), 0) AS ended_at,
       coalesce(nullif(s->>'model', ''), nullif(s->>'request_model', '')) AS model,
       nullif(s->>'end_user_id', '') AS customer_id,
       status_outcome(status) AS outcome,
       status AS status_code,
       stream,
       -- on an error it is the time to the error's answer, and 0 if there was none
       CASE WHEN stream AND status < 300 AND first_byte > 0 THEN first_byte END AS ttft_ms,
       nullif(try_cast(p->>'latency' AS DOUBLE), 0) AS duration_ms,
       CASE WHEN status < 300
            THEN CASE WHEN cache > 0 AND (total = prompt + completion + cache OR cached > prompt)
                      THEN prompt + cache ELSE prompt END END AS input_tokens,
       CASE WHEN status < 300 THEN cached END AS cached_input_tokens,
       CASE WHEN status < 300 THEN written END AS cache_write_tokens,
       CASE WHEN status < 300 THEN completion END AS output_tokens,
       CASE WHEN status < 300 THEN count_at(s, '$.reasoning_tokens') END AS reasoning_tokens
FROM calls
