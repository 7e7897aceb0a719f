"""How a caller uses edgee.py. Type checkers read this file; it is never run."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator, Mapping
from typing import Any

import edgee
from edgee import Edgee, EdgeeConfig, FunctionDefinition, InputObject, Message, SendResponse, StreamChunk, Tool


def ask(prompt: str, streaming: bool) -> str:
    with Edgee(EdgeeConfig(api_key="key", timeout=5, headers={"x-a": "b"})) as client:
        chunks: Generator[StreamChunk, None, None] = client.stream("m", prompt)
        text: str = client.base_url + "".join(chunk.text or chunk.reasoning or "" for chunk in chunks)
        same: Generator[StreamChunk, None, None] = client.send("m", [Message("user", prompt)], stream=True)
        response: SendResponse = client.send("m", {"messages": [{"role": "user", "content": prompt}], "seed": 1})
        either: SendResponse | Generator[StreamChunk, None, None] = client.send("m", prompt, streaming, timeout=1)
        del either
        headers: Mapping[str, str] = response.headers
        models: list[edgee.Model] = client.models()
        return text + headers.get("a", models[0].id) + (SendResponse.from_chunks(same).text or "")


def ask_with_tools(client: Edgee) -> int:
    tool = Tool("function", FunctionDefinition("weather", "The weather of a city", {"type": "object"}))
    call = edgee.ToolCall("1", "function", {"name": "weather", "arguments": "{}"})
    result = {"role": "tool", "tool_call_id": "1", "content": "sun"}
    messages: list[Message | dict[str, Any]] = [Message("assistant", tool_calls=[call]), result]
    tokens = 0
    try:
        for chunk in client.stream("m", InputObject(messages, [tool], tags=["a"], output_brevity=True), timeout=2.5):
            for choice in chunk.choices:
                print(choice.index, choice.delta.content, choice.finish_reason, chunk.raw["created"])
            tokens += chunk.usage.total_tokens if chunk.usage else 0
    except edgee.APIError as error:
        print(error.status, error.code, error.message, error.headers.get("x"), error.request_id, error.retry_after)
    calls: list[dict[str, Any]] | None = client.send("m", "Hi").tool_calls
    events: list[tuple[str, str]] = edgee.EventStreamParser().feed(b"data: a\n\n")
    return tokens + len(calls or events) + edgee.main(["--version"])


async def ask_async(client: Edgee) -> str:
    chunks: AsyncGenerator[StreamChunk, None] = client.astream("m", "Hi", timeout=5)
    response: SendResponse = await client.asend("m", "Hi", headers={"x-a": "b"})
    return "".join([chunk.text or "" async for chunk in chunks]) + (response.text or "")
