-- Values whose type is not known: numbers and flags that a file writes as text, codes, nulls. Their
-- results are JSON, which the reader converts to the field or reports.

-- In the place of a field or of ended_at: reports `found x; fix`.
CREATE MACRO unusable(x, fix) AS json_object('unusable', x, 'fix', fix);

CREATE MACRO missing(r, name) AS unusable(
    json_keys(r), 'no ''' || name || ''' among these; correct it, or set optional: true'
);

CREATE MACRO is_null(j) AS coalesce(json_type(j), 'NULL') = 'NULL';

CREATE MACRO is_empty(j) AS is_null(j) OR j->>'$' = '';

-- NULL for a number, a flag, an object or a list.
CREATE MACRO text_of(j) AS CASE WHEN json_type(j) = 'VARCHAR' THEN j->>'$' END;

-- 1 for true and 0 for false; NULL for text.
CREATE MACRO amount_of(j) AS CASE json_type(j)
    WHEN 'BOOLEAN' THEN (j->>'$')::BOOLEAN::INTEGER::DOUBLE
    WHEN 'VARCHAR' THEN NULL
    ELSE try_cast(j->>'$' AS DOUBLE)
END;

-- 429, 429.0 and "429" have the same code, and so have true and "true". NULL for null and ''.
CREATE MACRO code_of(j) AS CASE json_type(j)
    WHEN 'NULL' THEN NULL
    WHEN 'VARCHAR' THEN nullif(j->>'$', '')
    WHEN 'DOUBLE' THEN CASE
        WHEN regexp_full_match(j->>'$', '-?\d+') THEN j->>'$'
        WHEN amount_of(j) = floor(amount_of(j))
            THEN coalesce(try_cast(amount_of(j) AS HUGEINT)::VARCHAR, j->>'$')
        ELSE j->>'$'
    END
    ELSE j->>'$'
END;

-- DuckDB alone reads 1_000 as a number.
CREATE MACRO number_text(j) AS CASE json_type(j)
    WHEN 'BOOLEAN' THEN NULL
    WHEN 'VARCHAR'
        THEN regexp_extract(j->>'$', '^\s*([+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?)\s*$', 1)
    ELSE j->>'$'
END;

-- A number, or a text of one; NULL for anything else. Larger ones are no count and no time.
CREATE MACRO number_of(j) AS CASE
    WHEN abs(try_cast(number_text(j) AS DOUBLE)) < 1e24 THEN try_cast(number_text(j) AS DOUBLE)
END;

-- Nanoseconds since 1970 have more digits than a DOUBLE: whole numbers are divided in two parts.
CREATE MACRO number_divided(j, divisor) AS CASE
    WHEN abs(number_of(j)) >= 9007199254740992 AND regexp_full_match(number_text(j), '[+-]?\d+')
        THEN (try_cast(number_text(j) AS HUGEINT) // divisor)::DOUBLE
             + (try_cast(number_text(j) AS HUGEINT) % divisor)::DOUBLE / divisor
    ELSE number_of(j) / divisor
END;

CREATE MACRO not_below_0(ms) AS CASE
    WHEN ms < 0 THEN unusable(ms, 'correct the columns: the result is below 0') ELSE to_json(ms)
END;

-- A duration, given `ms`, the same number in milliseconds. What is no duration stays as it is.
CREATE MACRO duration_of(j, ms) AS CASE WHEN number_of(j) >= 0 THEN to_json(ms) ELSE j END;

-- A time since 1970, given `ms`, the same number in milliseconds.
CREATE MACRO epoch_time(j, ms) AS CASE
    WHEN number_of(j) IS NULL THEN unusable(j, 'write a number, or make it null')
    WHEN NOT is_of_century(ms) AND unit_of_epoch(number_of(j)) IS NOT NULL
        THEN unusable(j, 'these look like ' || unit_of_epoch(number_of(j)))
    ELSE to_json(ms)
END;

CREATE MACRO relative_time(j, ms) AS CASE
    WHEN number_of(j) IS NULL THEN unusable(j, 'write a number, or make it null') ELSE to_json(ms)
END;

-- RFC 3339 text, or text of a pattern of Python's strptime; `zone`: for text without one.
CREATE MACRO text_time(j, zone, pattern) AS parse_time(j::VARCHAR, zone, pattern)::JSON;

-- JSON null of JSON null, else NULL.
CREATE MACRO null_of(j) AS CASE WHEN json_type(j) = 'NULL' THEN 'null'::JSON END;
