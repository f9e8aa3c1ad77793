-- about: Amazon Bedrock: model invocation log, from S3 or CloudWatch
--
-- The log has no TTFT, and a duration only for Converse with its bodies logged. Input excludes the
-- cache there, and includes it here. Embeddings and reranking generate nothing and are left out.
WITH calls AS (
    SELECT line, r, usage_bedrock_log(r) AS u,
           coalesce(r->>'errorCode', '') AS error
    FROM records
    WHERE coalesce(r->>'schemaType', 'ModelInvocationLog') = 'ModelInvocationLog'
      AND NOT regexp_matches(coalesce(r->>'modelId', ''), '(?i)embed|rerank')
)
SELECT line,
       r->>'requestId' AS request_id,
       epoch_ms_of(r->>'timestamp') AS ended_at,
       -- an ARN or the id of an inference profile ends in the id of the model
       regexp_extract(r->>'modelId', '[^/]*$') AS model,
       coalesce(r->>'inferenceRegion', r->>'region') AS region,
       CASE WHEN error = '' THEN 'success'
            WHEN error LIKE 'ModelStreamError%' THEN 'stream_error'
            WHEN error LIKE 'ModelNotReady%' THEN 'overloaded'
            WHEN error LIKE 'ResourceNotFound%' THEN 'client_error'
            ELSE error_outcome(error) END AS outcome,
       r->>'operation' LIKE '%Stream' AS stream,
       try_cast(r->>'$.output.outputBodyJson.metrics.latencyMs' AS DOUBLE) AS duration_ms,
       CASE WHEN error = '' THEN u.input_tokens END AS input_tokens,
       CASE WHEN error = '' THEN u.cached_input_tokens END AS cached_input_tokens,
       CASE WHEN error = '' THEN u.cache_write_tokens END AS cache_write_tokens,
       CASE WHEN error = '' THEN u.output_tokens END AS output_tokens
FROM calls
