-- Macros for mappings. Each usage_* takes the provider's usage object as JSON and returns a struct:
-- input_tokens includes cached and cache-write tokens, output_tokens includes reasoning tokens, as
-- the event contract wants them. A count that the provider did not send is NULL, not 0.

CREATE MACRO token_usage(input, cached, cache_write, output, reasoning) AS {
    'input_tokens': input::BIGINT, 'cached_input_tokens': cached::BIGINT,
    'cache_write_tokens': cache_write::BIGINT,
    'output_tokens': output::BIGINT, 'reasoning_tokens': reasoning::BIGINT
};

-- NULL for 1.5 too, which a cast alone would round.
CREATE MACRO count_of(t) AS
    CASE WHEN contains(t, '.') AND try_cast(t AS DOUBLE) % 1 <> 0 THEN NULL
         ELSE try_cast(t AS BIGINT) END;

CREATE MACRO count_at(j, path) AS count_of(json_extract_string(j, path));

-- Chat completions, and every provider that copies them: Azure, OpenRouter, Groq, vLLM, SGLang.
CREATE MACRO usage_openai(j) AS token_usage(
    count_at(j, '$.prompt_tokens'),
    coalesce(count_at(j, '$.prompt_tokens_details.cached_tokens'), count_at(j, '$.cached_tokens')),
    coalesce(count_at(j, '$.prompt_tokens_details.cache_write_tokens'),
             count_at(j, '$.prompt_tokens_details.cache_creation_tokens')),
    count_at(j, '$.completion_tokens'),
    coalesce(count_at(j, '$.completion_tokens_details.reasoning_tokens'),
             count_at(j, '$.reasoning_tokens'))
);

-- The Responses API, and Realtime, which writes input_token_details.
CREATE MACRO usage_openai_responses(j) AS token_usage(
    count_at(j, '$.input_tokens'),
    coalesce(count_at(j, '$.input_tokens_details.cached_tokens'),
             count_at(j, '$.input_token_details.cached_tokens')),
    count_at(j, '$.input_tokens_details.cache_write_tokens'),
    count_at(j, '$.output_tokens'),
    count_at(j, '$.output_tokens_details.reasoning_tokens')
);

-- input_tokens excludes the cache here; an absent cache key means 0.
CREATE MACRO usage_anthropic(j) AS token_usage(
    count_at(j, '$.input_tokens') + coalesce(count_at(j, '$.cache_read_input_tokens'), 0)
        + coalesce(count_at(j, '$.cache_creation_input_tokens'), 0),
    coalesce(count_at(j, '$.cache_read_input_tokens'), 0),
    coalesce(count_at(j, '$.cache_creation_input_tokens'), 0),
    count_at(j, '$.output_tokens'),
    count_at(j, '$.output_tokens_details.thinking_tokens')
);

-- The thoughts are not part of the candidates here.
CREATE MACRO usage_gemini(j) AS token_usage(
    count_at(j, '$.promptTokenCount') + coalesce(count_at(j, '$.toolUsePromptTokenCount'), 0),
    count_at(j, '$.cachedContentTokenCount'),
    NULL,
    CASE WHEN coalesce(count_at(j, '$.candidatesTokenCount'), count_at(j, '$.thoughtsTokenCount'))
              IS NOT NULL
         THEN coalesce(count_at(j, '$.candidatesTokenCount'), 0)
              + coalesce(count_at(j, '$.thoughtsTokenCount'), 0) END,
    count_at(j, '$.thoughtsTokenCount')
);

-- Converse. The same counts are repeated under ...InputTokenCount: read one of them.
CREATE MACRO usage_bedrock(j) AS token_usage(
    count_at(j, '$.inputTokens') + coalesce(count_at(j, '$.cacheReadInputTokens'), 0)
        + coalesce(count_at(j, '$.cacheWriteInputTokens'), 0),
    count_at(j, '$.cacheReadInputTokens'),
    count_at(j, '$.cacheWriteInputTokens'),
    count_at(j, '$.outputTokens'),
    NULL
);

-- The model invocation log: j has the members `input` and `output`.
CREATE MACRO usage_bedrock_log(j) AS token_usage(
    count_at(j, '$.input.inputTokenCount')
        + coalesce(count_at(j, '$.input.cacheReadInputTokenCount'), 0)
        + coalesce(count_at(j, '$.input.cacheWriteInputTokenCount'), 0),
    count_at(j, '$.input.cacheReadInputTokenCount'),
    count_at(j, '$.input.cacheWriteInputTokenCount'),
    count_at(j, '$.output.outputTokenCount'),
    NULL
);

-- prompt_cache_miss_tokens are no cache writes.
CREATE MACRO usage_deepseek(j) AS token_usage(
    count_at(j, '$.prompt_tokens'),
    coalesce(count_at(j, '$.prompt_cache_hit_tokens'),
             count_at(j, '$.prompt_tokens_details.cached_tokens')),
    NULL,
    count_at(j, '$.completion_tokens'),
    count_at(j, '$.completion_tokens_details.reasoning_tokens')
);

CREATE MACRO usage_mistral(j) AS token_usage(
    count_at(j, '$.prompt_tokens'),
    coalesce(count_at(j, '$.num_cached_tokens'),
             count_at(j, '$.prompt_tokens_details.cached_tokens')),
    NULL,
    count_at(j, '$.completion_tokens'),
    count_at(j, '$.completion_tokens_details.reasoning_tokens')
);

-- Direct xAI counts reasoning outside of the completion; through a router it is inside. The total
-- tells the two apart.
CREATE MACRO usage_xai(j) AS token_usage(
    count_at(j, '$.prompt_tokens'),
    count_at(j, '$.prompt_tokens_details.cached_tokens'),
    NULL,
    count_at(j, '$.completion_tokens')
        + CASE WHEN count_at(j, '$.total_tokens')
                    > count_at(j, '$.prompt_tokens') + count_at(j, '$.completion_tokens')
               THEN coalesce(count_at(j, '$.completion_tokens_details.reasoning_tokens'), 0)
               ELSE 0 END,
    count_at(j, '$.completion_tokens_details.reasoning_tokens')
);

-- Not billed_units, which leave out cached and system tokens.
CREATE MACRO usage_cohere(j) AS token_usage(
    count_at(j, '$.tokens.input_tokens'),
    coalesce(count_at(j, '$.tokens.cached_tokens'), count_at(j, '$.cached_tokens')),
    NULL,
    count_at(j, '$.tokens.output_tokens'),
    NULL
);

-- The outcome of an error's text: a class name, a code, or a message. A status in it decides, but
-- a number in prose is none: `429 Rate limit reached`, and not `429 tokens were used`. The status of
-- a success makes no success of an error: the answer broke after its headers.
CREATE MACRO error_outcome(e) AS CASE
    WHEN e IS NULL OR e = '' THEN NULL
    WHEN regexp_matches(e, '(?i)(error|status) code:? [1-5]\d\d\b')
        THEN replace(status_outcome(
            regexp_extract(e, '(?i)(?:error|status) code:? (\d{3})', 1)::INTEGER),
            'success', 'stream_error')
    WHEN regexp_matches(e, '^([1-3]\d\d$|[45]\d\d($| ?[^ 0-9A-Za-z]| [A-Z]| status code))')
        THEN replace(status_outcome(left(e, 3)::INTEGER), 'success', 'stream_error')
    ELSE error_text_outcome(e)
END;

-- The status decides, unless it is a success with an error: that answer broke after its headers.
-- NULL if neither is given: a mapping must then name the outcome itself.
CREATE MACRO outcome_of(status, error) AS CASE
    WHEN status_outcome(try_cast(status::VARCHAR AS INTEGER)) = 'success' AND error <> ''
        THEN CASE WHEN error_outcome(error) = 'cancelled' THEN 'cancelled' ELSE 'stream_error' END
    ELSE coalesce(status_outcome(try_cast(status::VARCHAR AS INTEGER)), error_outcome(error))
END;

-- Milliseconds without a fraction. 1.001 s is 1000.9999... ms in binary, and must become 1001.
CREATE MACRO whole_ms(x) AS floor(x + 0.0005)::BIGINT;

-- A record may be one payload or a list of them.
CREATE MACRO payloads(j) AS CASE WHEN json_type(j) = 'ARRAY' THEN j::JSON[] ELSE [j] END;
