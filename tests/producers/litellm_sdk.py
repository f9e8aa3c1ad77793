"""Calls a provider through LiteLLM's SDK, which logs by `generic_api` and by OTLP.

    python litellm_sdk.py PROVIDER_URL

Runs in the environment of requirements-litellm.lock. The environment names where the logs go:
GENERIC_LOGGER_ENDPOINT, OTEL_ENDPOINT. Prints the milliseconds to the first chunk of each whole
stream as the caller measured them, one JSON list.
"""

import asyncio
import json
import sys
import time
from contextlib import suppress
from typing import Any

import litellm
import openai
from litellm.caching.caching import Cache
from litellm.integrations.generic_api.generic_api_callback import GenericAPILogger

LOGGED_WITHIN_S = 5.0  # callbacks run after the answer


async def fall_back(provider_url: str) -> None:
    """Ask a router for a model whose provider is overloaded, so that it takes the next one."""
    names = ("err503", "good")
    access = {"api_base": f"{provider_url}/v1", "api_key": "k"}
    router = litellm.Router(
        model_list=[
            {"model_name": name, "litellm_params": {"model": f"openai/{name}", **access}}
            for name in names
        ],
        fallbacks=[{names[0]: [names[1]]}],
        num_retries=0,
        max_fallbacks=1,
    )
    await router.acompletion(
        model=names[0], messages=[{"role": "user", "content": "the patient's name is Ada"}]
    )


async def main(provider_url: str) -> None:
    litellm.suppress_debug_info = True
    litellm.callbacks = ["otel", GenericAPILogger()]
    litellm.cache = Cache(type="local")
    first_chunks: list[float] = []

    async def call(model: str, text: str = "", **options: Any) -> Any:
        return await litellm.acompletion(
            model=f"openai/{model}",
            messages=[{"role": "user", "content": text or "the patient's name is Ada"}],
            api_base=f"{provider_url}/v1",
            api_key="k",
            **{"max_retries": 0, "caching": False, **options},
        )

    async def stream(model: str) -> None:
        began_s = time.monotonic()
        answer = await call(model, stream=True, stream_options={"include_usage": True})
        first_s = None
        with suppress(openai.OpenAIError):  # LiteLLM's errors are those of the OpenAI SDK
            async for _ in answer:
                first_s = first_s or time.monotonic() - began_s
        if first_s is not None and model == "good":
            first_chunks.append(1000 * first_s)

    await call("good")
    for _ in range(3):
        await stream("good")
    for model in ("err429", "err500", "err400"):
        with suppress(openai.OpenAIError):
            await call(model)
    await call("again", num_retries=1)
    await stream("cut")
    await fall_back(provider_url)
    for _ in range(2):
        await call("good", "cached", caching=True)
        await asyncio.sleep(0.2)  # the answer is stored after it was returned
    await asyncio.sleep(LOGGED_WITHIN_S)
    print(json.dumps(first_chunks))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
