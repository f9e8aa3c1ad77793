-- about: CloudEvents: structured, as OpenMeter and others take them
--
-- `data` is an event of the contract, or has an OpenAI `usage`; id, subject and time of the
-- envelope stand in for request_id, customer_id and ended_at. A metering event without an outcome
-- is one of a success. An id is unique only together with its source. Events that meter the input
-- and the output of a request apart (`type` and `tokens`) are left out: neither is a request.
WITH envelopes AS (
    SELECT line, unnest(payloads(r)) AS e FROM records
), calls AS (
    SELECT line, e,
           -- an object, JSON text, or either in base64
           CASE WHEN e->>'data_base64' IS NOT NULL
                THEN try_cast(TRY(decode(from_base64(e->>'data_base64'))) AS JSON)
                WHEN json_type(e, '$.data') = 'VARCHAR' THEN try_cast(e->>'data' AS JSON)
                ELSE e->'data' END AS d,
           usage_openai(d->'usage') AS u
    FROM envelopes
)
SELECT line,
       coalesce(d->>'request_id', (e->>'source') || '/' || (e->>'id')) AS request_id,
       epoch_ms_of(coalesce(d->>'ended_at', e->>'time')) AS ended_at,
       d->>'model' AS model,
       coalesce(d->>'customer_id', e->>'subject') AS customer_id,
       d->>'region' AS region,
       coalesce(d->>'channel', d->>'provider') AS channel,
       d->>'service_tier' AS service_tier,
       coalesce(d->>'outcome', outcome_of(d->>'status_code', d->>'error'), 'success') AS outcome,
       d->>'status_code' AS status_code,
       d->>'stream' AS stream,
       d->>'ttft_ms' AS ttft_ms,
       coalesce(d->>'duration_ms', d->>'duration') AS duration_ms,
       coalesce(d->>'input_tokens', d->>'prompt_tokens', u.input_tokens::VARCHAR) AS input_tokens,
       coalesce(d->>'cached_input_tokens', u.cached_input_tokens::VARCHAR) AS cached_input_tokens,
       coalesce(d->>'output_tokens', d->>'completion_tokens', u.output_tokens::VARCHAR)
           AS output_tokens,
       coalesce(d->>'reasoning_tokens', u.reasoning_tokens::VARCHAR) AS reasoning_tokens,
       d->>'trace_id' AS trace_id
FROM calls
WHERE coalesce(d->>'tokens', '') = '' OR coalesce(d->>'type', '') NOT IN ('input', 'output')
