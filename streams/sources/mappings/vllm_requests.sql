-- about: vLLM: request log, as a log shipper or a JSON formatter writes it
-- format: jsonl
--
-- One line of the log a record, as `message` or `log`, with its time. Start vLLM with
-- --enable-log-requests --enable-log-outputs --max-log-len 0: the last keeps the answers out of the
-- log. The log says how a request ended, and neither its tokens nor its times. Lines of received
-- requests are left out: a request that is received later ends with a line of its own.
WITH lines AS (
    SELECT line, source, timestamp, r,
           coalesce(r->>'message', r->>'log', r->>'msg', r->>'MESSAGE') AS text
    FROM records
), ends AS (
    -- anchored: an answer may hold any text. (APIServer pid=7) INFO 11-20 10:00:02 [logger.py:49]
    SELECT *,
           regexp_extract(text,
               '^(?:\([^()]*\) )?(?:[A-Z]+ [\d:. -]+\[[^\]]*\] )?'
               || '(Generated response|Request) (\S+?)(?:( \([a-z ]+\))?:| (aborted|failed.*))',
               ['kind', 'id', 'stream', 'failure'], 's') AS e
    FROM lines
    WHERE contains(text, 'Generated response ') OR contains(text, 'Request ')
), finished AS (
    SELECT *,
           e.kind = 'Generated response' AS is_answer,
           CASE WHEN is_answer THEN regexp_extract(text, 'finish_reason: (\w+)\s*$', 1) END AS reason
    FROM ends
    -- with --enable-log-deltas a stream has a line for each of its parts
    WHERE e.id <> '' AND e.stream <> ' (streaming delta)' AND (is_answer OR e.failure <> '')
)
SELECT line,
       e.id AS request_id,
       coalesce(epoch_ms_of(coalesce(r->>'time', r->>'timestamp', r->>'@timestamp', r->>'ts',
                                     r->>'date', replace(r->>'asctime', ',', '.'))),
                timestamp) AS ended_at,
       -- a topic is named with its partition
       coalesce(r->>'model', CASE WHEN timestamp IS NULL THEN source
                                  ELSE regexp_replace(source, '-\d+$', '') END) AS model,
       CASE WHEN is_answer
            THEN CASE reason WHEN 'abort' THEN 'cancelled' WHEN 'error' THEN 'server_error'
                             ELSE 'success' END
            WHEN e.failure LIKE 'aborted%' THEN 'cancelled'
            WHEN e.failure LIKE 'failed (bad request)%' OR e.failure LIKE 'failed (input error)%'
                THEN 'client_error'
            ELSE 'server_error' END AS outcome,
       CASE WHEN is_answer THEN e.stream = ' (streaming complete)' END AS stream
FROM finished
