-- about: vLLM under rising load, per-request client logs
-- format: json
--
-- detail_log_scale*_prompt500.json (liao4s/BurstGPT_test, MIT): one vLLM server under rising load,
-- as its client saw it; an object whose values are the requests, in the order in which they ended.
-- record_time is the end, on a monotonic clock that starts anywhere; the base is our choice, and
-- the first row lies on it. Requests are counted at their arrival, record_time - total_chunk_time,
-- because the five-minute reference counts are by that. out_len counts characters, so it is not
-- output_tokens, and there is no time per output token.
WITH calls AS (
    SELECT *,
           (r->>'record_time')::DOUBLE * 1000 - (r->>'total_chunk_time')::DOUBLE * 1000 AS arrival,
           (first->>'record_time')::DOUBLE * 1000 - (first->>'total_chunk_time')::DOUBLE * 1000
               AS first_arrival
    FROM records
)
SELECT line,
       'vllm-' || source || '-' || (r->>'event_id') AS request_id,
       coalesce(base, epoch_ms(TIMESTAMP '2024-01-01')) + whole_ms(arrival - first_arrival)
           AS ended_at,
       'vllm-burstgpt' AS model, -- the logs name no model
       'success' AS outcome, -- nor failures
       (r->>'first_chunk_time')::DOUBLE * 1000 AS ttft_ms,
       (r->>'total_chunk_time')::DOUBLE * 1000 AS duration_ms,
       (r->>'in_len')::BIGINT AS input_tokens
FROM calls
