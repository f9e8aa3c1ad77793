-- about: Azure LLM inference trace 2023, conversation
-- format: csv
--
-- AzureLLMInferenceTrace_conv.csv (Azure/AzurePublicDataset, CC-BY-4.0): one chat service.
-- TIMESTAMP is the arrival, in UTC; there is no duration, so it is also `ended_at`.
SELECT line,
       'azure-llm-2023-' || line AS request_id,
       epoch_ms_of(r->>'TIMESTAMP') AS ended_at,
       'azure-llm-conv' AS model, -- the trace names no model
       'success' AS outcome, -- nor failures
       (r->>'ContextTokens')::BIGINT AS input_tokens,
       (r->>'GeneratedTokens')::BIGINT AS output_tokens
FROM records
