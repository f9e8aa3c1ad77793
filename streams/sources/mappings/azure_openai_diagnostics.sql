-- about: Azure OpenAI: diagnostic log RequestResponse, from Event Hubs or a storage account
--
-- An Event Hubs record is {"records": [...]}. The log has no tokens and no TTFT: uptime and
-- duration only.
WITH entries AS (
    SELECT line, unnest(payloads(coalesce(r->'records', r))) AS p FROM records
), calls AS (
    SELECT line, p,
           -- JSON text, or an object
           try_cast(p->>'properties' AS JSON) AS properties,
           try_cast(p->>'resultSignature' AS INTEGER) AS status,
           try_cast(p->>'durationMs' AS DOUBLE) AS duration
    FROM entries
    WHERE coalesce(p->>'category', 'RequestResponse') = 'RequestResponse'
)
SELECT line,
       p->>'correlationId' AS request_id,
       epoch_ms_of(p->>'time') + greatest(coalesce(duration, 0), 0) AS ended_at,
       coalesce(properties->>'modelName', properties->>'modelDeploymentName') AS model,
       p->>'location' AS region,
       status_outcome(status) AS outcome,
       status AS status_code,
       CASE WHEN properties->>'streamType' IS NOT NULL
            THEN properties->>'streamType' = 'Streaming' END AS stream,
       -- some entries have a negative duration
       CASE WHEN duration >= 0 THEN duration END AS duration_ms
FROM calls
WHERE regexp_matches(coalesce(p->>'operationName', 'Completions'),
                     '(?i)completion|response|message')
