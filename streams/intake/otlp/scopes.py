"""Patterns of instrumentation scopes. Pure: plain data."""

OPENLLMETRY_SCOPES = tuple(
    f"opentelemetry.instrumentation.{library}"
    for library in (
        *("openai", "openai.v0", "openai.v1", "anthropic", "bedrock", "cohere", "groq"),
        *("mistralai", "ollama", "replicate", "sagemaker", "together", "vertexai", "watsonx"),
        *("google_generativeai", "alephalpha", "writer"),
    )
)
ANTHROPIC_SDK = "com.anthropic.sdk.*"
OPENINFERENCE_SCOPES = (
    *(
        f"openinference.instrumentation.{library}"
        for library in (
            *("openai", "anthropic", "bedrock", "vertexai", "google_genai", "mistralai"),
            *("groq", "litellm", "portkey"),
        )
    ),
    "@arizeai/openinference-instrumentation-openai",
    "@arizeai/openinference-instrumentation-anthropic",
    "@arizeai/openinference-instrumentation-bedrock",
)
SEMCONV_SCOPES = (
    "opentelemetry.instrumentation.*genai*",
    "opentelemetry.instrumentation.openai_v2*",
    "opentelemetry.instrumentation.openai_agents*",
    "opentelemetry.util.genai*",
    "opentelemetry.instrumentation.botocore*",
    "@opentelemetry/instrumentation-openai*",
    "io.opentelemetry.openai*",
    "agent_framework*",
    "*Microsoft.Extensions.AI*",
    "pydantic-ai",
    "bifrost*",
)
