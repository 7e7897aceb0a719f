"""How a caller uses edgee.py, for the type checkers: every line must mean what it seems to mean. It is never run."""
# pyright: strict

from __future__ import annotations

from collections.abc import Generator, Mapping

from edgee import (
    APIError,
    Edgee,
    EdgeeConfig,
    EventStreamParser,
    FunctionDefinition,
    InputObject,
    Message,
    Model,
    SendResponse,
    StreamChunk,
    Tool,
    ToolCall,
    main,
)


def ask(prompt: str, streaming: bool) -> str:
    with Edgee(EdgeeConfig(api_key="key", timeout=5, headers={"x-a": "b"})) as edgee:
        chunks: Generator[StreamChunk, None, None] = edgee.stream("gpt-5.2", prompt)
        text = "".join(chunk.text or "" for chunk in chunks)
        same: Generator[StreamChunk, None, None] = edgee.send("gpt-5.2", [Message("user", prompt)], stream=True)
        text += SendResponse.from_chunks(same).text or ""
        response: SendResponse = edgee.send("gpt-5.2", {"messages": [{"role": "user", "content": prompt}], "seed": 1})
        either: SendResponse | Generator[StreamChunk, None, None] = edgee.send("gpt-5.2", prompt, streaming, timeout=1)
        del either
        fallback: Mapping[str, str] = response.headers
        text += fallback.get("x-edgee-fallback-used") or ""
        models: list[Model] = edgee.models()
        return text + ", ".join(model.id for model in models)


def ask_with_tools(edgee: Edgee) -> int:
    tool = Tool("function", FunctionDefinition("weather", "The weather of a city", {"type": "object"}))
    question = InputObject([Message("user", "Weather?")], tools=[tool], tags=["a"], output_brevity=True)
    tokens = 0
    try:
        for chunk in edgee.stream("gpt-5.2", question, timeout=2.5):
            for choice in chunk.choices:
                print(choice.index, choice.delta.content, choice.finish_reason, chunk.raw["created"])
            tokens += chunk.usage.total_tokens if chunk.usage else 0
    except APIError as error:
        print(error.status, error.code, error.message, error.headers.get("x"), error.request_id, error.retry_after)
    answer = Message("assistant", tool_calls=[ToolCall("1", "function", {"name": "weather", "arguments": "{}"})])
    edgee.send("gpt-5.2", InputObject([answer, {"role": "tool", "tool_call_id": "1", "content": "sun"}]))
    events: list[tuple[str, str]] = EventStreamParser().feed(b"data: a\n\n")
    return tokens + len(events) + main(["--version"])
