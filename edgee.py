#!/usr/bin/env python3
"""Stream chat completions from the Edgee AI Gateway: one file, standard library only.

    from edgee import Edgee

    edgee = Edgee("your-api-key")  # or Edgee(), with EDGEE_API_KEY in the environment
    for chunk in edgee.stream("openai/gpt-5.2", "Tell me a story"):
        if chunk.text:
            print(chunk.text, end="", flush=True)

    response = edgee.send("openai/gpt-5.2", {"messages": [{"role": "user", "content": "Hi"}], "temperature": 0})
    print(response.text, response.usage)

With asyncio: `async for chunk in edgee.astream(…)` and `await edgee.asend(…)`.
On a command line: python -m edgee "Tell me a story"; with --demo it needs no key and no network.
What goes wrong once a request is under way is an EdgeeError, which is a RuntimeError; a wrong argument is a
ValueError or a TypeError, raised by the call itself before anything is sent.

Licence: the owner has not stated one yet, and until then no right to use or redistribute this file is given: ask the
owner first.
"""

from __future__ import annotations

import codecs
import contextlib
import errno
import importlib
import io
import itertools
import json
import os
import re
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import AsyncGenerator, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    # What only a request needs: see import_transport().
    import base64
    import email.utils
    import random
    import selectors
    import socket
    import ssl
    import urllib.parse
    import urllib.request
    from typing import Any, Dict, Literal, Optional, Union, overload

    TextByName = Dict[str, str]
    Input = Union[str, Sequence[Union["Message", Mapping[str, Any]]], Mapping[str, Any], "InputObject"]
    Chunks = Generator["StreamChunk", None, None]
    Seconds = Optional[float]
    HeadersToSend = Optional[Mapping[str, str]]
else:
    Any = object  # for whoever asks typing.get_type_hints() about the dataclasses
    TextByName = dict

__version__ = "0.2.0"
__all__ = [
    "APIError", "Choice", "Compression", "Edgee", "EdgeeConfig", "EdgeeError", "EventStreamParser",
    "FunctionDefinition", "InputObject", "Message", "Model", "NetworkError", "ProtocolError", "RequestTimeoutError",
    "SendResponse", "StreamChoice", "StreamChunk", "StreamDelta", "StreamInterruptedError", "Tool", "ToolCall",
    "Usage", "main",
]  # fmt: skip

_BASE_URL = "https://edgee.io"
_MODEL = "openai/gpt-5.2"  # of the command line
_TIMEOUT_SECONDS, _LONGEST_SECONDS = 600.0, 2_000_000.0  # socket.settimeout() overflows past 24 days
_CONNECT_SECONDS = 10.0
_LOOK_SECONDS = 0.25  # between two looks at whether a call was ended, where nothing wakes what blocks
_KEEPALIVE_SECONDS = 60  # until TCP asks whether the other end is still there
_MAX_RETRIES = 2
_FIRST_BACKOFF_SECONDS, _LAST_BACKOFF_SECONDS, _LONGEST_RETRY_AFTER_SECONDS = 0.5, 8.0, 60.0
_RETRIED_STATUSES = frozenset({408, 409, 429, 500, 502, 503, 504})
_ERROR_STATUSES = frozenset(map(str, range(400, 600)))
_STATUS_OF_CODE = {"provider_error": 502, "internal_error": 500}  # where this gateway's events name no status
_NO_CREDIT_CODES = ("usage_limit_exceeded", "insufficient_quota")
_GAVE_UP_REASONS = ("error", "abort", "network_error", "insufficient_system_resource")
_EVENT_BYTES, _BLOCK_BYTES, _ERROR_BODY_BYTES, _EXCERPT_CHARACTERS = 16 << 20, 64 << 10, 64 << 10, 500
_FIELD_BYTES = len("data: ")
_SEND_BYTES = 16 << 10  # at once: a TLS record, whose time-out is our own again after it
_LINE_BYTES, _HEAD_LINES, _INTERIM_ANSWERS = 64 << 10, 100, 10  # the first two are http.client's
_CHOICES = 1024
_IDLE_CONNECTIONS, _IDLE_SECONDS = 10, 60.0
_DRAIN_SECONDS = 0.1  # the end of a body follows [DONE] within a round trip, or is not worth the wait
_READ_AHEAD_CHUNKS = 16  # of astream()
_CLOSED = "the client was closed before the answer was complete"
_WRONG_URL = "; is base_url right? {} was asked"
_REAL_ENCODINGS = frozenset({"gzip", "br", "deflate", "zstd", "compress"})
_SWITCH_HEADERS = {
    "tool_result_trimming": "X-Edgee-Compression-Tool-Result-Trimming",
    "tool_surface_reduction": "X-Edgee-Compression-Tool-Surface-Reduction",
    "output_brevity": "X-Edgee-Compression-Brevity",
}
_HEADER_NAME = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;.*)?\r?\n")  # compiled, for it is asked for each chunk
_FRAMING_HEADERS = frozenset({"connection", "content-length", "host", "transfer-encoding"})


# ---- What goes in. Each of these may also be given as the dict that it stands for. ---------------------------------


@dataclass
class EdgeeConfig:
    """Settings of a client. What is None comes from the environment, else it is the default.

    api_key: else EDGEE_API_KEY. base_url: else EDGEE_BASE_URL, else https://edgee.io. timeout: seconds to wait, in each
    attempt, for the answer to begin and then for each next event, at most 10 of them to connect; else 600. max_retries:
    how often a request may be sent again; else 2. headers: sent with every request.
    """

    api_key: str | None = field(default=None, repr=False)
    base_url: str | None = None
    timeout: float | None = None
    max_retries: int | None = None
    headers: Mapping[str, str] | None = field(default=None, repr=False)


@dataclass
class FunctionDefinition:
    """A function that the model may call; `parameters` is a JSON schema."""

    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None


@dataclass
class Tool:
    """A tool that the model may use; `type` is "function"."""

    type: str
    function: FunctionDefinition | dict[str, Any]


@dataclass
class ToolCall:
    """A call that the model made; `function` is {"name": str, "arguments": str of JSON}."""

    id: str
    type: str
    function: dict[str, Any]


@dataclass
class Message:
    """A message of a conversation; `role` is "system", "user", "assistant", "tool", …

    content: text, or a list of parts (text, images). tool_call_id: of the call whose result a "tool" message holds.
    """

    role: str
    content: str | list[dict[str, Any]] | None = None
    name: str | None = None
    tool_calls: Sequence[ToolCall | dict[str, Any]] | None = None
    tool_call_id: str | None = None


@dataclass
class InputObject:
    """What to ask. A field that is None is not sent; `extra_body` (temperature, …) is merged in last.

    tags: for the gateway's analytics. compression_model: "claude", "codex", "opencode" or "cursor", a bundle of ways to
    compress. tool_result_trimming, tool_surface_reduction and output_brevity, True or False, override the settings of
    the API key.
    """

    messages: Sequence[Message | dict[str, Any]]
    tools: Sequence[Tool | dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    tags: list[str] | None = None
    compression_model: str | None = None
    tool_result_trimming: bool | None = None
    tool_surface_reduction: bool | None = None
    output_brevity: bool | None = None
    extra_body: dict[str, Any] | None = None


# ---- What comes out. `raw` is the JSON as it came, so that no member is ever lost. ----------------------------------


class _Headers(TextByName):
    """The headers of a response, each once; they are found in upper and in lower case."""

    def __contains__(self, name: object) -> bool:
        return super().__contains__(str(name).lower())

    def __getitem__(self, name: str) -> str:
        return super().__getitem__(name.lower())

    def get(self, name: str, default: Any = None) -> Any:
        return super().get(name.lower(), default)


@dataclass
class Usage:
    """Tokens that were counted, 0 where no count came; cached ones are prompt tokens, reasoning ones completion's."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0


@dataclass
class Compression:
    """What the gateway saved: cost in millionths of a dollar, reduction in per cent, time in milliseconds."""

    saved_tokens: int = 0
    cost_savings: float = 0
    reduction: float = 0
    time_ms: float = 0


@dataclass
class Model:
    """A model of the gateway; `created` is in seconds since 1970."""

    id: str
    owned_by: str | None = None
    created: int | None = None


@dataclass
class StreamDelta:
    """What a chunk adds to a message. With some providers `content` is a list of parts."""

    role: str | None = None
    content: str | list[dict[str, Any]] | None = None
    tool_calls: list[dict[str, Any]] | None = None


@dataclass
class StreamChoice:
    """One choice of a chunk; finish_reason is "stop", "length", "tool_calls", "content_filter" or, as yet, None."""

    index: int
    delta: StreamDelta
    finish_reason: str | None = None


@dataclass
class StreamChunk:
    """One event of a streamed answer. `choices` is mostly one; a chunk that only carries `usage` may have none.

    raw: the event's JSON. headers: those of the whole response; X-Edgee-Provider and X-Edgee-Fallback-Used stand only
    there.
    """

    choices: list[StreamChoice]
    compression: Compression | None = None
    usage: Usage | None = None
    id: str | None = None
    model: str | None = None
    raw: dict[str, Any] = field(default_factory=lambda: {}, repr=False)
    headers: Mapping[str, str] = field(default_factory=_Headers, repr=False, compare=False)

    @property
    def text(self) -> str | None:
        """The first choice's text, None if there is none in this chunk."""
        return content_text(self.choices[0].delta.content) if self.choices else None

    @property
    def reasoning(self) -> str | None:
        """The first choice's reasoning, None if there is none in this chunk."""
        first = as_objects(self.raw.get("choices"))[:1]
        return reasoning_text(choice_message(first[0], message_member(self.headers))) if first else None

    @property
    def role(self) -> str | None:
        """The first choice's role, which comes in the first chunk."""
        return self.choices[0].delta.role if self.choices else None

    @property
    def finish_reason(self) -> str | None:
        """Why the first choice ended, which comes in its last chunk."""
        return self.choices[0].finish_reason if self.choices else None

    @property
    def tool_calls(self) -> list[dict[str, Any]] | None:
        """The first choice's pieces of tool calls; SendResponse.from_chunks() puts them together."""
        return self.choices[0].delta.tool_calls if self.choices else None


@dataclass
class Choice:
    """One choice of a response; `message` is a dict that can be sent back as it is."""

    index: int
    message: dict[str, Any]
    finish_reason: str | None = None


@dataclass
class SendResponse:
    """A whole answer. `raw` is its JSON; `headers` are those of its response, as for a chunk."""

    choices: list[Choice]
    usage: Usage | None = None
    compression: Compression | None = None
    id: str | None = None
    model: str | None = None
    raw: dict[str, Any] = field(default_factory=lambda: {}, repr=False)
    headers: Mapping[str, str] = field(default_factory=_Headers, repr=False, compare=False)

    @property
    def text(self) -> str | None:
        """The first choice's text, None if there is none."""
        return content_text((self.message or {}).get("content"))

    @property
    def reasoning(self) -> str | None:
        """The first choice's reasoning, None if there is none."""
        return reasoning_text(self.message or {})

    @property
    def message(self) -> dict[str, Any] | None:
        """The first choice's message."""
        return self.choices[0].message if self.choices else None

    @property
    def finish_reason(self) -> str | None:
        """Why the first choice ended."""
        return self.choices[0].finish_reason if self.choices else None

    @property
    def tool_calls(self) -> list[dict[str, Any]] | None:
        """The first choice's tool calls."""
        return (self.message or {}).get("tool_calls") or None

    @classmethod
    def from_chunks(cls, chunks: Iterable[StreamChunk]) -> SendResponse:
        """Merge the chunks of a stream into the response that send() would have returned.

        Of chunks that were made by hand, without `raw`, the fields count.
        """
        chunks = list(chunks)
        return parse_response(merge_chunks(chunks), chunks[0].headers if chunks else _Headers())


def content_text(content: Any) -> str | None:
    """The text of a message's content: itself, or that of its text parts joined; None if empty."""
    if isinstance(content, list):
        texts = [part.get("text") for part in as_objects(content) if part.get("type") == "text"]
        content = "".join(text for text in texts if isinstance(text, str))
    return content if content and isinstance(content, str) else None


def reasoning_text(message: dict[str, Any]) -> str | None:
    """The reasoning of a message, which providers call by two names; None if there is none."""
    texts = (message.get("reasoning_content"), message.get("reasoning"))
    return next((text for text in texts if text and isinstance(text, str)), None)


# ---- Errors --------------------------------------------------------------------------------------------------------
#
#   RuntimeError
#   └── EdgeeError
#       ├── APIError                    the gateway said no
#       ├── ProtocolError               what came is not a chat completion
#       └── NetworkError                (also OSError) not reached, or the connection broke
#           ├── RequestTimeoutError     (also TimeoutError) nothing came in time
#           └── StreamInterruptedError  the answer was cut; what came before was delivered


class EdgeeError(RuntimeError):
    """Anything that goes wrong once a request is under way."""


class APIError(EdgeeError):
    """The gateway said no, by its HTTP status or by an event of the stream.

    status: the HTTP status, None if an event named none. code, message: what the error says. body: its text.
    headers: those of the response. request_id: to quote to the gateway's support. retry_after: the seconds that the
    gateway asked to wait, None if it did not.
    """

    def __init__(
        self, message: str, *, status: int | None = None, code: str | int | None = None, body: str = "",
        headers: Mapping[str, str] | None = None, request_id: str | None = None, retry_after: float | None = None,
    ) -> None:  # fmt: skip
        super().__init__(message)
        self.message, self.status, self.code, self.body = message, status, code, body
        self.headers: Mapping[str, str] = _Headers() if headers is None else headers
        self.request_id, self.retry_after = request_id, retry_after

    def __str__(self) -> str:
        return f"API error: {self.message}" if self.status is None else f"API error {self.status}: {self.message}"


class ProtocolError(EdgeeError):
    """What came is not a chat completion: bad JSON or framing, a wrong content type, an event of over 16 MiB."""


class NetworkError(OSError, EdgeeError):  # in this order, or NetworkError.__new__() refuses, which Dask calls
    """The gateway could not be reached or the connection broke; __cause__ is the standard library's error.

    unanswered: whether not a byte of answer came, and none will, so that the request may be sent again.
    """

    unanswered = False


class RequestTimeoutError(NetworkError, TimeoutError):
    """No connection, no answer or no next event came in time."""


class StreamInterruptedError(NetworkError):
    """The answer ended before it was complete. Every chunk that did arrive was yielded before."""


# ---- The event stream: bytes in, events out, no input or output -----------------------------------------------------


class EventStreamParser:
    """A parser of server-sent events (WHATWG HTML 9.2.6, "Interpreting an event stream").

    >>> parser = EventStreamParser()
    >>> parser.feed(b'data: {"a"')
    []
    >>> parser.feed(b': 1}\\n\\n')
    [('message', '{"a": 1}')]

    Work is linear in the bytes, however they are cut. An event of more than 16 MiB, its empty lines counted, is a
    ProtocolError, raised when the events before it have been returned.
    """

    def __init__(self) -> None:
        self.unended = bytearray()  # the line whose end has not come
        self._data = bytearray()  # the standard's data buffer, of an event that the last piece did not complete
        self._name = "message"
        self._at_start = True
        self._after_cr = False
        self._too_long = False

    def feed(self, data: bytes) -> list[tuple[str, str]]:
        """Return the events that these bytes complete, each as (name, data); a name not given is "message"."""
        events: list[tuple[str, str]] = []
        values: list[bytes] = []
        if self._after_cr or b"\r" in data:
            data = self._end_lines_with_lf(data)
        lines = data.split(b"\n")
        rest = lines.pop()
        if lines and (self.unended or self._at_start):
            lines[0] = self._complete_line(lines[0])
        for line in () if self._too_long else lines:
            if line[:6] == b"data: ":
                values.append(line[6:])
            elif line:
                self._parse_other_field(line, values)
            else:
                value = b"\n".join(values)
                if self._data:  # of an earlier piece, each line with its end
                    value = bytes(self._data) + value if values else bytes(self._data[:-1])
                    self._data.clear()
                if value[_EVENT_BYTES:]:
                    self._too_long = True
                    break
                text = value.decode("utf-8", "replace")
                if text and not text.isspace():  # keep-alives come as a bare `data:`, `id:` or `retry:`
                    events.append((self._name, text))
                self._name = "message"
                values = []
        if rest or values or self._data or self._too_long:
            for value in values:
                self._data += value + b"\n"
            self.unended += rest
            if len(self._data) + len(self.unended) > _EVENT_BYTES + _FIELD_BYTES:
                self._too_long = True
            if self._too_long and not events:
                raise ProtocolError(f"an event of the stream is longer than {_EVENT_BYTES >> 20} MiB")
        return events

    def finish(self) -> tuple[str, str] | None:
        """Return the event whose blank line never came, None if there is none.

        The standard drops it; whether it is whole is for the caller to say, who knows what it should hold.
        """
        events = self.feed(b"\n\n")
        return events[0] if events else None

    def _parse_other_field(self, line: bytes, values: list[bytes]) -> None:
        name, _, value = line.partition(b":")
        value = value[value.startswith(b" ") :]
        if name == b"data":
            values.append(value)
        elif name == b"event":
            self._name = value.decode("utf-8", "replace") or "message"

    def _complete_line(self, end: bytes) -> bytes:
        line = bytes(self.unended) + end
        self.unended.clear()
        if self._at_start:
            self._at_start = False
            line = line[line.startswith(b"\xef\xbb\xbf") and 3 :]
        return line

    def _end_lines_with_lf(self, data: bytes) -> bytes:
        # A CR ends its line at once, so that no event waits for a byte that may never come; the LF of a CRLF that
        # follows in the next piece is dropped there.
        if self._after_cr and data.startswith(b"\n"):
            data = data[1:]
            self._after_cr = False
        if data:
            self._after_cr = data.endswith(b"\r")
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


# ---- From events to chunks, and chunks merged to a response ---------------------------------------------------------
#
# What providers really send must not crash a reader: a member may be null, absent or of another type. Containers are
# checked here, once, so that callers can iterate without a thought; plain values are passed on as they came.

_json_decoder: Any = json.JSONDecoder()
_scan_json = _json_decoder.scan_once  # a third of what json.loads() costs for a chunk

# Text that comes in pieces, by the member that holds it; all other text comes whole, and often again.
_BLOCK_PIECES = frozenset({"summary", "text", "thinking"})
_PIECES = {
    "delta": frozenset({"content", "reasoning", "reasoning_content", "refusal"}),
    "function": frozenset({"arguments"}),
    "function_call": frozenset({"arguments"}),
    "custom": frozenset({"input"}),
    "audio": frozenset({"data", "transcript"}),
    "content": _BLOCK_PIECES,
    "reasoning_details": _BLOCK_PIECES,
    "thinking_blocks": _BLOCK_PIECES,
}


def decode_event(name: str, data: str, headers: Any, key: str) -> dict[str, Any] | None:
    """Return the JSON object of an event, None for [DONE]; raise the APIError that it is, or a ProtocolError."""
    if name == "error":
        raise api_error(data, headers, key)
    raw: Any
    try:
        raw, end = _scan_json(data, 0)
    except (StopIteration, ValueError, RecursionError):
        if data.strip() == "[DONE]":
            return None
        raw, end = parse_json(data), len(data)  # white space comes first, or it is no JSON
    if raw.__class__ is not dict or (end != len(data) and not data[end:].isspace()):
        raise ProtocolError(f"the gateway sent no JSON object: {one_line(data, key)}")
    # Without get(), which would cost each chunk two calls.
    if ("error" in raw and raw["error"]) or ("object" in raw and raw["object"] == "error"):
        raise api_error(data, headers, key)
    return raw


def parse_chunk(raw: dict[str, Any], headers: Any, member: str) -> StreamChunk:
    """Return the chunk that an event's JSON stands for. All in one function: it is half of what a chunk costs.

    member: what counts in a choice that has both, "delta" or "message".
    """
    choices: list[StreamChoice] = []
    found: Any = raw.get("choices")
    if found.__class__ is not list:
        found = ()
    elif found[_CHOICES:]:  # three bytes of JSON each could become a kilobyte of objects
        raise ProtocolError(f"the answer has more than {_CHOICES} choices")
    for choice in found:
        if choice.__class__ is dict:
            index, delta = choice.get("index"), choice.get(member)
            if delta.__class__ is not dict:
                delta = choice_message(choice, member)
            if index.__class__ is not int or not 0 <= index < _CHOICES:
                index = len(choices)
            tool_calls = delta.get("tool_calls")
            if tool_calls is not None:
                tool_calls = as_objects(tool_calls)
            stream_delta = StreamDelta(delta.get("role"), delta.get("content"), tool_calls)
            choices.append(StreamChoice(index, stream_delta, choice.get("finish_reason")))
    compression, usage = raw.get("compression"), raw.get("usage")
    if compression is not None:
        compression = parse_numbers(Compression, compression)
    if usage is not None:
        usage = parse_usage(usage)
    return StreamChunk(choices, compression, usage, raw.get("id"), raw.get("model"), raw, headers)


def parse_response(raw: dict[str, Any], headers: Any) -> SendResponse:
    """Return the response that a JSON object stands for."""
    found = indexed_choices(raw)
    choices = [Choice(n, choice_message(one, "message"), one.get("finish_reason")) for n, one in found]
    usage, compression = parse_usage(raw.get("usage")), parse_numbers(Compression, raw.get("compression"))
    return SendResponse(choices, usage, compression, raw.get("id"), raw.get("model"), raw, headers)


def parse_usage(value: Any) -> Usage | None:
    """Return the Usage of a JSON object, whose finer counts stand in members of two names; None if there is none."""
    counts = as_object(value)
    prompt = as_object(counts.get("prompt_tokens_details") or counts.get("input_tokens_details"))
    completion = as_object(counts.get("completion_tokens_details") or counts.get("output_tokens_details"))
    finer = {"cached_tokens": prompt.get("cached_tokens"), "reasoning_tokens": completion.get("reasoning_tokens")}
    usage: Usage | None = parse_numbers(Usage, {**counts, **finer} if counts else None)
    return usage


def parse_numbers(kind: Any, value: Any) -> Any:
    """Return a Usage or a Compression from its JSON object, None if there is none. A float can hold its numbers."""
    numbers = as_object(value)
    found: Any = ((member.name, numbers.get(member.name)) for member in fields(kind))
    return kind(**{k: n for k, n in found if type(n) in (int, float) and -1e300 < n < 1e300}) if numbers else None


def message_member(headers: Any) -> str:
    """Which member of a choice counts: an event may repeat the message so far beside its delta (Perplexity)."""
    return "message" if content_type(headers) == "application/json" else "delta"


def content_type(headers: Any) -> str:
    """The media type of an answer, without parameters; empty if it has none."""
    return str(headers.get("content-type", "")).partition(";")[0].strip().lower()


def choice_message(choice: dict[str, Any], member: str) -> dict[str, Any]:
    """A choice's delta or message, first of all the one that counts; an empty one if it has neither."""
    found = (choice.get(name) for name in (member, "delta", "message"))
    return next((message for message in found if type(message) is dict), {})


def indexed_choices(raw: dict[str, Any]) -> list[tuple[int, dict[str, Any]]]:
    """The choices in a JSON object, each with its index, else its position."""
    choices = as_objects(raw.get("choices"))
    if len(choices) > _CHOICES:
        raise ProtocolError(f"the answer has more than {_CHOICES} choices")
    return [(valid_index(choice, position), choice) for position, choice in enumerate(choices)]


def valid_index(source: dict[str, Any], default: Any = None) -> Any:
    """An object's index. One past all bounds is none: a server could choose such so that all of them collide."""
    index = source.get("index")
    return index if type(index) is int and 0 <= index < _CHOICES else default


def as_object(value: Any) -> dict[str, Any]:
    """The value if it is a JSON object, else an empty one."""
    return value if type(value) is dict else {}


def as_objects(value: Any) -> list[dict[str, Any]]:
    """The objects in a JSON list; none if it is no list."""
    return [member for member in value if type(member) is dict] if type(value) is list else []


def parse_json(text: str) -> Any:
    """The value of a JSON text; None if it is no JSON, or null, which is no use here either."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def merge_chunks(chunks: Iterable[StreamChunk]) -> dict[str, Any]:
    """Return the JSON of the response that chunks amount to."""
    merged: dict[str, Any] = {}
    choices: dict[int, list[dict[str, Any]]] = {}
    for chunk in chunks:
        raw = chunk.raw or {**asdict(chunk), "raw": None, "headers": None}
        for name, value in raw.items():
            if name in ("id", "model"):
                merged[name] = merged.get(name) or value
            elif value is not None and name != "choices":
                merged[name] = value or merged.get(name, value)
        for index, choice in indexed_choices(raw):
            delta = choice_message(choice, message_member(chunk.headers))
            choices.setdefault(index, []).append({**choice, "delta": delta, "message": None})
    if merged.get("object") == "chat.completion.chunk":
        merged["object"] = "chat.completion"
    try:
        merged["choices"] = [merge_choice(index, choices[index]) for index in sorted(choices)]
    except RecursionError:
        raise ProtocolError("the answer is nested too deep to be merged") from None
    return merged


def merge_choice(index: int, pieces: list[dict[str, Any]]) -> dict[str, Any]:
    """Return a response's choice from those of its chunks."""
    choice = merge_objects("choice", pieces)
    message = {"role": "assistant", "content": None, **choice.pop("delta")}
    message["role"] = message["role"] or "assistant"
    if not message.get("tool_calls", True):  # which an API refuses, sent back
        del message["tool_calls"]
    return {"finish_reason": None, **choice, "index": index, "message": message}


def merge_objects(holder: str, pieces: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what objects amount to, member by member; null is nothing. holder: the member that they are."""
    gathered: dict[str, list[Any]] = {}
    for piece in pieces:
        for name, value in piece.items():
            if value is not None:
                gathered.setdefault(name, []).append(value)
    return {name: merge_values(holder, name, values) for name, values in gathered.items()}


def merge_values(holder: str, name: str, values: list[Any]) -> Any:
    """Return what the values of one member, in the order in which they came, amount to."""
    if holder == "delta" and name == "tool_calls":
        return merge_tool_calls([piece for value in values for piece in as_objects(value)])
    in_pieces = name in _PIECES.get(holder, ())
    if in_pieces and name == "arguments":
        values = [value if isinstance(value, str) else json.dumps(value) for value in values]
    kinds: set[Any] = {type(value) for value in values}
    if kinds == {dict}:
        return merge_objects(name, values)
    if kinds == {list} or (in_pieces and kinds == {str, list}):
        return merge_lists(name, values)
    if in_pieces and kinds == {str}:
        return join_text(values)
    told = [value for value in values if value or type(value) in (bool, int, float)] or values
    return told[0] if name in ("id", "name", "type") else told[-1]


def merge_lists(holder: str, values: list[Any]) -> list[Any]:
    """Extend lists by one another; objects of one index, and of one type if both have one, are one.

    Text between the lists becomes a part of its own.
    """
    members: list[Any] = []
    for kind, run in itertools.groupby(values, type):
        if kind is list:
            members.extend(itertools.chain.from_iterable(run))
        else:
            text = join_text(run)
            members.extend([{"type": "text", "text": text}] if text else [])
    groups: list[list[Any]] = []
    by_type: dict[tuple[int, str], list[Any]] = {}
    latest: dict[int, str] = {}  # by index, for a member that has no type
    for member in members:
        index = valid_index(as_object(member))
        if index is None:
            groups.append([member])
            continue
        name = str(member.get("type") or latest.get(index, ""))
        group = by_type.get((index, name)) or by_type.pop((index, ""), [])
        if not group:
            groups.append(group)
        group.append(member)
        by_type[index, name], latest[index] = group, name
    return [merge_objects(holder, group) if len(group) > 1 else group[0] for group in groups]


def join_text(pieces: Iterable[str]) -> str:
    """Join pieces of text; a surrogate pair that was split over two of them is whole again."""
    return "".join(pieces).encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")


def merge_tool_calls(pieces: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the tool calls that pieces amount to, fit to be sent back.

    A known id decides to which call a piece belongs; else a new id with a name starts a call, though its index is
    taken; else the index decides. A piece with neither id nor name, at an index that nothing started or without one,
    continues the call under way.
    """
    calls: list[list[dict[str, Any]]] = []
    by_index: dict[int | None, list[dict[str, Any]]] = {}
    by_id: dict[str, list[dict[str, Any]]] = {}
    call: list[dict[str, Any]] = []  # the one under way
    for piece in pieces:
        index, identity = valid_index(piece), str(piece.get("id") or "")
        named = any(as_object(piece.get(kind)).get("name") for kind in ("function", "custom"))
        known = by_id.get(identity)
        if not known and index is not None and not (identity and named):
            known = by_index.get(index)
        if not known and not identity and not named:
            known = call
        if not known:
            known = by_index[index] = []
            calls.append(known)
        call = known
        call.append(piece)
        by_index.setdefault(index, call)
        if identity:
            by_id[identity] = call
    return [merge_tool_call(call) for call in calls]


def merge_tool_call(pieces: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the tool call that its pieces amount to."""
    call = merge_objects("tool_calls", [{**piece, "index": None} for piece in pieces])
    if type(call.get("function")) is dict:
        call["function"].setdefault("arguments", "")
    return {**call, "type": call.get("type") or ("custom" if "custom" in call else "function")}


# ---- What a text from outside may show: never the key, and in a message one printable line --------------------------


def redact(text: str, key: str) -> str:
    """Return a text without the key, however JSON spells it, or the start of it, for texts may be cut anywhere."""
    if len(key) < 4 or (key[:4] not in text and "\\" not in text):  # a shorter one is a test's
        return text
    # At most four backslashes, for JSON in JSON in JSON: of a run without an end each start would cost all the rest.
    spelled = [rf"(?:\\{{0,4}}{re.escape(c)}|\\{{1,4}}u00(?i:{ord(c):02x}))" for c in key]
    followed = "".join(f"{c}?" for c in spelled[8:])
    return re.sub("".join(spelled[:8]) + followed + r"(?:\\+u?[0-9a-fA-F]{0,3}\Z)?", "[api key]", text)


def one_line(text: str, key: str) -> str:
    """The start of a text that came from outside, fit for a message: one line, printable, without the key."""
    text = redact(text[:_ERROR_BODY_BYTES], key)
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return text if len(text) <= _EXCERPT_CHARACTERS else text[:_EXCERPT_CHARACTERS] + "…"


def api_error(
    text: str, headers: Any, key: str, status: int | None = None, reason: str = "", hint: str = ""
) -> APIError:
    """Return the error that the text of an HTTP body or of an event describes, JSON or not."""
    code, message, told_status = find_error(parse_json(text))
    request_id = headers.get("x-request-id") or headers.get("request-id")
    return APIError(
        (one_line(message or text, key) or reason or "no reason given") + hint,
        status=status or told_status,
        code=one_line(code, key) if isinstance(code, str) else code,
        body=redact(text[:_ERROR_BODY_BYTES], key),
        headers=headers,
        request_id=one_line(request_id, key) if request_id else None,
        retry_after=parse_retry_after(headers),
    )


def find_error(document: Any) -> tuple[str | int | None, str | None, int | None]:
    """Return the code, the message and the HTTP status in a JSON error.

    Gateways nest `error` (an object, a string, a list), `message` and `detail` in all ways; the innermost tells most.
    """
    code: str | int | None = None
    status: int | None = None
    for _ in range(5):  # deeper than any that was seen, and an end for what was made to hurt
        if type(document) is list and document:
            document = document[0]
        if type(document) is not dict:
            break
        if isinstance(document.get("code"), (str, int)):
            code = document["code"]
        told = (str(document.get(name)) for name in ("code", "status", "status_code"))
        status = next((int(number) for number in told if number in _ERROR_STATUSES), status)
        nested: list[Any] = [document.get(name) for name in ("error", "message", "detail", "msg")]
        if type(nested[0]) is str:  # "Bad Request", beside a message that tells more
            nested.append(nested.pop(0))
        document = next((value for value in nested if value and type(value) in (str, list, dict)), None)
    return code, document if isinstance(document, str) else None, status


def parse_retry_after(headers: Any) -> float | None:
    """Return the seconds to wait by retry-after-ms or Retry-After (RFC 9110, 10.2.3), None if not given."""
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        value = str(headers.get(name))
        if value.isascii() and value.replace(".", "", 1).isdecimal():
            return float(value) * unit
    try:
        date = email.utils.parsedate_tz(headers.get("retry-after") or "")
        return max(0.0, email.utils.mktime_tz(date) - time.time()) if date else None
    except (ValueError, OverflowError, LookupError, UnboundLocalError):  # the last two are bugs of 3.8 and 3.9
        return None


# ---- Settings and request body: all that is checked before anything is sent -----------------------------------------


def resolve_settings(config: Any) -> EdgeeConfig:
    """Fill in a configuration: each value as given, else from the environment, else the default."""
    if config is None or isinstance(config, str):
        config = EdgeeConfig(config)
    elif isinstance(config, Mapping):
        known = [setting.name for setting in fields(EdgeeConfig)]
        unknown = [str(name) for name in config if name not in known]
        if unknown:  # named only where it cannot be a key that was put in the wrong place
            shown = ", ".join(name for name in unknown if name.isidentifier()) or "its name"
            raise ValueError(f"unknown setting: {shown} is none of {', '.join(known)}")
        config = EdgeeConfig(**config)
    if not isinstance(config, EdgeeConfig):
        raise TypeError(f"config must be an API key, an EdgeeConfig or a dict, not {type(config).__name__}")
    given = {name: value for name, value in vars(config).items() if value is not None and value != ""}
    return EdgeeConfig(
        check_api_key(given.get("api_key", os.environ.get("EDGEE_API_KEY"))),
        check_base_url(given.get("base_url", os.environ.get("EDGEE_BASE_URL") or _BASE_URL)),
        check_timeout(given.get("timeout", _TIMEOUT_SECONDS)),
        check_max_retries(given.get("max_retries", _MAX_RETRIES)),
        check_headers(given.get("headers", {})),
    )


def check_api_key(key: Any) -> str:
    """Return the key if it can stand in a header. No message shows any of it."""
    if key is None or key == "":
        raise ValueError("EDGEE_API_KEY is not set")
    if not isinstance(key, str):
        raise TypeError(f"api_key must be a str, not {type(key).__name__}")
    if not re.fullmatch("[!-~]+", key):
        raise ValueError("api_key has a character that is not visible ASCII: a space or a line end, perhaps")
    return key


def check_base_url(url: Any) -> str:
    """Return the URL without its default port and a needless end. No message shows it: it may hold a password."""
    if not isinstance(url, str):
        raise TypeError(f"base_url must be a str, not {type(url).__name__}")
    # No %, which urllib.request would decode: the key would go to another host than the one that was checked.
    found = re.fullmatch(r"(?i:(https?)://)(\[[0-9a-fA-F:.]+\]|[^][/?#@:%\\]+)(?::([0-9]{0,5}))?(/[^?#@]*)?", url)
    valid = found and re.fullmatch("[!-~]+", url) and 0 < int(found[3] or 1) < 65536
    if found and found[2].startswith("["):
        import ipaddress

        try:
            ipaddress.IPv6Address(found[2][1:-1])
        except ValueError:
            valid = False
    if not found or not valid:
        raise ValueError("base_url must be http:// or https:// with a host, and have no user, query or fragment")
    scheme, host, port, path = found.groups("")
    default = "443" if scheme.lower() == "https" else "80"
    path = re.sub(r"(/+v1)?(/+chat/+completions)?/*\Z", "", path)
    return f"{scheme.lower()}://{host}" + (f":{port}" if port and port != default else "") + path


def check_timeout(seconds: Any) -> float:
    """Return the time limit in seconds."""
    if not isinstance(seconds, (int, float)) or isinstance(seconds, bool):
        raise TypeError(f"timeout must be a number of seconds, not {type(seconds).__name__}")
    if not 0 < seconds < float("inf"):
        raise ValueError(f"timeout must be a positive number of seconds, not {seconds}")
    return float(min(seconds, _LONGEST_SECONDS))


def check_max_retries(count: Any) -> int:
    """Return how often a request may be sent again."""
    if type(count) is not int:
        raise TypeError(f"max_retries must be a whole number, not {type(count).__name__}")
    if count < 0:
        raise ValueError("max_retries must be 0 or more")
    return count


def check_headers(headers: Any) -> dict[str, str]:
    """Return the headers if they can be sent (RFC 9110, 5.1 and 5.5). No message shows what may be a value or a key."""
    if not isinstance(headers, Mapping):
        raise TypeError(f"headers must be a dict, not {type(headers).__name__}")
    for position, (name, value) in enumerate(headers.items(), 1):
        if not isinstance(name, str) or not isinstance(value, str):
            raise TypeError(f"headers must be str to str: see header {position}")
        if not re.fullmatch(_HEADER_NAME, name) or name.lower() in _FRAMING_HEADERS:
            raise ValueError(f"headers has a name that cannot be sent: see header {position}")
        if not re.fullmatch("[\t -~]*", value):
            raise ValueError(f"headers has a value that cannot be sent, for {name!r}")
    return dict(headers)


def build_body(model: Any, input: Any, stream: bool) -> tuple[bytes, dict[str, str]]:
    """Return the body of a request, and the headers that some of the input's fields become."""
    if not isinstance(model, str):
        raise TypeError(f"model must be a str, not {type(model).__name__}")
    if not model.strip():
        raise ValueError("model is empty")
    body = {**read_input(input), "model": model, "stream": True}
    if not stream:
        del body["stream"]
    switches = [name for name in _SWITCH_HEADERS if isinstance(body.get(name), bool)]
    headers = {_SWITCH_HEADERS[name]: str(body.pop(name)).lower() for name in switches}
    try:
        return json.dumps(body, default=input_as_json, allow_nan=False).encode("ascii"), headers
    except TypeError as error:
        raise TypeError(f"input cannot be sent as JSON: {error}") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"input cannot be sent as JSON: {error}") from error


def read_input(input: Any) -> dict[str, Any]:
    """Return the fields that an input asks to send, in a dict of their own."""
    if isinstance(input, str):
        return {"messages": [{"role": "user", "content": input}]}
    if not isinstance(input, (list, tuple, InputObject, Mapping)):
        raise TypeError(f"input must be a str, a list, a dict or an InputObject, not {type(input).__name__}")
    asked = {"messages": input} if isinstance(input, (list, tuple)) else input_as_json(input)
    extra: Any = asked.pop("extra_body", None)
    if extra is not None and not isinstance(extra, Mapping):
        raise TypeError(f"extra_body must be a dict, not {type(extra).__name__}")
    asked.update(extra or {})
    messages: Any = asked.get("messages")
    if messages is not None and not isinstance(messages, (list, tuple)):
        raise TypeError(f"messages must be a list, not {type(messages).__name__}")
    if not messages:
        raise ValueError("input has no messages")
    for position, message in enumerate(messages):
        if not isinstance(message, (Message, Mapping)):
            raise TypeError(f"messages[{position}] must be a dict or a Message, not {type(message).__name__}")
    return asked


def input_as_json(value: Any) -> dict[str, Any]:
    """Return what one of the input classes stands for: its fields that are not None."""
    if isinstance(value, Mapping):
        return dict(value)
    if not isinstance(value, (InputObject, Message, Tool, FunctionDefinition, ToolCall)):
        raise TypeError(f"a {type(value).__name__} is no JSON")
    members = ((member.name, getattr(value, member.name)) for member in fields(value))
    return {name: member for name, member in members if member is not None}


# ---- Transport: sockets, TLS, proxies, kept connections. Every wait has an end. -------------------------------------
#
# urllib.request is the door that a request goes through, and the transport the only handler behind it, so that nothing
# follows a redirect. Sockets and the framing of answers are ours, for http.client hides the socket that close() must
# reach, knows no deadline over several reads, and takes a defect for the end of a head. The key goes into the request's
# Authorization header, and nowhere else.


def import_transport() -> None:
    """Import what only a request needs, when the first is made: programs that never ask should not wait for it."""
    for name in ("base64", "email.utils", "random", "selectors", "socket", "ssl", "urllib.parse", "urllib.request"):
        globals()[name.partition(".")[0]] = __import__(name)


class _Call:
    """A running request: what it waits for and how long, what it holds, and its end from another thread."""

    def __init__(self, timeout: float, key: str = "") -> None:
        self.timeout, self.key = timeout, key
        self.url = self.where = ""  # what was asked, and of whom
        self.wire: _Wire | None = None
        self.connection: _Connection | None = None
        self.ended = threading.Event()
        self.begin_wait("answer", timeout)

    def begin_wait(self, stage: str, seconds: float) -> None:
        """Give the steps from the next one on so many seconds, for "connect", "answer", "event" or "whole answer"."""
        self.stage, self.seconds = stage, seconds
        self.begun: float | None = None  # of time.monotonic(); None: with the next step

    def left(self) -> float:
        """Return the seconds that the next step may take; asked before each."""
        if self.ended.is_set():
            raise ConnectionAbortedError("the client was closed")
        now = time.monotonic()
        if self.begun is None:
            self.begun = now
        if self.begun + self.seconds <= now:
            raise socket.timeout("timed out")
        return self.begun + self.seconds - now

    def pause(self, seconds: float) -> None:
        """Wait before the request is sent again."""
        if self.ended.wait(seconds):
            raise StreamInterruptedError(_CLOSED)

    def shut_down(self) -> None:
        """Break what the call waits for; it hangs up itself."""
        if self.wire:
            with contextlib.suppress(OSError):  # it ended a moment ago, or has not begun
                # Not SSLSocket.shutdown(), after which its reader would take encrypted bytes for the answer.
                socket.socket.shutdown(self.wire.sock, socket.SHUT_RDWR)


class _Wire(io.RawIOBase):
    """The bytes of a socket. However many steps they take, all end at the deadline of one call."""

    def __init__(self, sock: Any, call: _Call) -> None:
        self.sock = sock
        self.call: _Call | None = call  # None: a read takes only what is there
        self.received = False

    def within(self, step: Any, *arguments: Any) -> Any:
        """Do a step that blocks, with a look now and then whether the call was ended: not all systems wake it."""
        while True:
            self.sock.settimeout(min(self.call.left(), _LOOK_SECONDS) if self.call else 0.0)
            try:
                return step(*arguments)
            except socket.timeout as error:
                if error.errno is not None:  # ETIMEDOUT: it is the network that gave up, not we
                    raise

    def readinto(self, buffer: Any) -> int:
        count: int = self.within(self.sock.recv_into, buffer)
        if self.call and not count:
            self.call.left()  # which raises if the end is ours
        self.received = self.received or count > 0
        return count

    def sendall(self, data: bytes) -> None:
        view = memoryview(data)
        while view:  # with send(), for sendall() does not say how far it came
            view = view[self.within(self.sock.send, view[:_SEND_BYTES]) :]

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        """Hang up; the garbage collector does it too, for what was dropped."""
        self.sock.close()
        super().close()


class _Connection:
    """A connection to the gateway or a proxy, and how far the answer on it was read."""

    def __init__(self, wire: _Wire, proxy: urllib.parse.SplitResult | None = None) -> None:
        self.wire, self.proxy = wire, proxy  # which it leads to, and which wants the whole URL in a request
        self.reader = io.BufferedReader(wire, _BLOCK_BYTES)  # outlives an answer, and notices what comes too much
        self.headers = _Headers()
        self.chunked = False
        self.remaining: int | None = None  # bytes of the body, or of its chunk; None: not known
        self.framed = False  # the body's end is announced, and not just that of the connection
        self.keeps = False  # the server and the framing let it be used again
        self.whole = False  # the answer came to a good end
        self.reused = False
        self.idle_since = 0.0

    def exchange_heads(self, method: str, target: str, headers: dict[str, str], body: Any, key: str) -> tuple[int, str]:
        """Send a request and read the head of its answer; return the status and the reason."""
        self.wire.received = False
        lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "\r\n"]
        # Whoever hangs up on a request may have said why before: 413, say. If not, the read tells.
        with contextlib.suppress(OSError):
            self.wire.sendall("\r\n".join(lines).encode("ascii") + (body or b""))
        for _ in range(_INTERIM_ANSWERS + 1):
            version, status, reason = self.read_head(key)
            if status >= 200:
                if method != "CONNECT":  # whose answer has no body, whatever it says (RFC 9110, 9.3.6)
                    self.frame_body(version, status)
                self.headers = _Headers((redact(n, key.lower()), redact(v, key)) for n, v in self.headers.items())
                return status, one_line(reason, key)
        raise ProtocolError(f"more than {_INTERIM_ANSWERS} interim answers came")

    def read_head(self, key: str) -> tuple[str, int, str]:
        """Read the head of an answer (RFC 9112, 4 and 5); return its minor version, its status and its reason."""
        line = self.read_line()
        found = re.fullmatch(r"HTTP/1\.([0-9]) ([1-9][0-9]{2})(?: (.*))?", line)
        if not found:
            raise ProtocolError(f"what came is no HTTP answer: {one_line(line, key)}")
        self.headers = _Headers()
        for _ in range(_HEAD_LINES + 1):
            line = self.read_line()
            if not line:
                return found[1], int(found[2]), found[3] or ""
            name, colon, value = line.partition(":")
            if not colon or not re.fullmatch(_HEADER_NAME, name) or "\r" in value or "\0" in value:
                raise ProtocolError(f"the answer has a header that is none: {one_line(line, key)}")
            name, value = name.lower(), value.strip(" \t")
            self.headers[name] = f"{self.headers[name]}, {value}" if name in self.headers else value
        raise ProtocolError(f"the answer has more than {_HEAD_LINES} headers")

    def read_line(self) -> str:
        line = self.reader.readline(_LINE_BYTES + 1)
        if len(line) > _LINE_BYTES:
            raise ProtocolError(f"a line of the answer's head is longer than {_LINE_BYTES >> 10} KiB")
        if not line.endswith(b"\n"):
            raise ConnectionResetError("it ended before an answer")
        return line[: -2 if line.endswith(b"\r\n") else -1].decode("latin-1")

    def frame_body(self, version: str, status: int) -> None:
        """Find how the body is framed; whoever misreads that takes one answer for another (RFC 9112, 6.3)."""
        codings = {coding.strip().lower() for coding in self.headers.get("transfer-encoding", "identity").split(",")}
        length = self.headers.get("content-length")
        if codings not in ({"identity"}, {"chunked"}):
            raise ProtocolError("the answer has an unknown Transfer-Encoding")
        if length is not None and (codings == {"chunked"} or not re.fullmatch("[0-9]{1,18}", length)):
            raise ProtocolError("the answer's Content-Length is not one number, or stands beside chunked")
        empty = status in (204, 304)
        self.chunked = codings == {"chunked"} and not empty
        self.remaining = 0 if empty else None if length is None else int(length)
        closes = "close" in self.headers.get("connection", "").lower() or version == "0" or self.proxy
        self.framed = self.chunked or self.remaining is not None
        self.keeps = self.framed and not closes

    def read_block(self) -> bytes:
        """Return the next bytes of the body, none at its end (RFC 9112, 6.3 and 7.1); raise if that came too early."""
        if self.chunked and not self.remaining:
            # The line end behind a chunk is read with the next size, or an event would wait for it.
            if self.remaining == 0 and self.reader.read(2) not in (b"\r\n", b""):
                raise ConnectionError("a chunk of it does not end where its size says")
            line = self.reader.readline(_LINE_BYTES)
            size = _CHUNK_SIZE.match(line)
            if not size:
                raise ConnectionError("a chunk of it has no size" if line else "the answer was cut")
            self.remaining = int(size[1], 16)
            if not self.remaining:
                self.chunked = False
                for _ in range(_HEAD_LINES):  # trailers; a server that hangs up on them has sent all the same
                    if self.reader.readline(_LINE_BYTES) in (b"\r\n", b"\n", b""):
                        break
        if self.remaining is None:
            return self.reader.read1(_BLOCK_BYTES)
        block = self.reader.read1(self.remaining if self.remaining < _BLOCK_BYTES else _BLOCK_BYTES)
        if self.remaining and not block:
            raise ConnectionResetError("the answer was cut")
        self.remaining -= len(block)
        return block

    def read_excerpt(self, call: _Call) -> str:
        """Return the start of a body that is only there to be shown, or as much of it as comes soon."""
        body = bytearray()
        call.begin_wait("answer", min(call.timeout, _CONNECT_SECONDS))
        try:
            for block in iter(self.read_block, b""):
                body += block
                if len(body) >= _ERROR_BODY_BYTES:
                    break
        except OSError as error:  # what the status or the content type says is news enough, but not of close()
            if call.ended.is_set():
                raise network_error(error, call) from error
        return body[:_ERROR_BODY_BYTES].decode("utf-8", "replace")

    def is_reusable(self, limit: _Call) -> bool:
        """Whether a new request can be sent; reads what there is still to come of the last answer."""
        self.reused, self.whole, self.wire.call = True, False, limit
        try:
            while self.read_block():
                pass
            self.wire.call = None
            self.reader.peek()  # what there is to read now is the end of the connection, or garbage
        except (BlockingIOError, ssl.SSLWantReadError):
            return time.monotonic() - self.idle_since < _IDLE_SECONDS
        except OSError:
            pass
        return False


class _Transport:
    """The connections of one client, and the calls that use them; a handler of urllib.request's."""

    def __init__(self, settings: Any) -> None:
        self.settings = settings
        self.proxies: dict[str, str] | None = None  # None: as the environment says; {}: past any, for --demo
        self._context: ssl.SSLContext | None = None
        self._idle: list[_Connection] = []
        weakref.finalize(self, hang_up, self._idle).atexit = False  # then the system does, and without a word
        self._begin()

    def _begin(self) -> None:
        self._lock = threading.RLock()  # reentrant, for the garbage collector may close a generator at any moment
        self._context_lock = threading.Lock()
        self._calls: weakref.WeakSet[_Call] = weakref.WeakSet()
        self._process = os.getpid()

    def _locked(self) -> Any:
        """The lock. After a fork another one: the old may be held for ever, and the connections are the parent's."""
        if self._process != os.getpid():
            self._begin()
            hang_up(self._idle)
        return self._lock

    def end(self, call: _Call | None = None) -> None:
        """End one call, or all of them and what is idle."""
        with self._locked():  # or the connection might be another call's by now
            for running in [call] if call else [*self._calls]:
                running.ended.set()
                if running in self._calls:  # else it has not begun, or is the parent's of this process
                    running.shut_down()
            if not call:
                hang_up(self._idle)

    def exchange(
        self, call: _Call, path: str, body: bytes | None, switches: dict[str, str], own: dict[str, str], streamed: bool
    ) -> Chunks:
        """Send a request, again where that is safe, and yield the chunks of its answer; for send() there is one."""
        import_transport()
        headers = {"Authorization": f"Bearer {call.key}", "User-Agent": f"edgee-py/{__version__}"}
        headers["Accept-Encoding"] = "identity"
        if body is not None:
            headers["Content-Type"] = "application/json"
        if streamed:
            headers["Accept"] = "text/event-stream"
        request = urllib.request.Request(f"{self.settings.base_url}/v1/{path}", body)
        for stronger in (headers, self.settings.headers, switches, own):
            for name, value in stronger.items():
                request.add_unredirected_header(name, value)  # which an audit event does not show
        vars(request)["call"] = call  # for http_open()
        door: Any = urllib.request.OpenerDirector()
        door.add_handler(self)
        try:
            with self._locked():
                self._calls.add(call)
            for attempt in itertools.count():
                log("%s %s, attempt %d", request.get_method(), request.full_url, attempt + 1)
                try:
                    chunks = read_chunks(door.open(request), call, streamed)
                    first = next(chunks)
                except EdgeeError as error:
                    seconds = retry_seconds(error, attempt, call)
                    if seconds is None or attempt >= self.settings.max_retries:
                        raise
                    log("trying again in %.2f s: %s", seconds, error)
                else:
                    yield first
                    yield from chunks
                    return
                self._let_go(call)
                call.pause(seconds)
        finally:
            self._let_go(call)

    def add_parent(self, parent: Any) -> None:
        """Do nothing: OpenerDirector.add_handler() asks for it."""

    def http_open(self, request: urllib.request.Request) -> _Connection:
        """Send a request; return its connection when the head of a good answer was read."""
        call: _Call = vars(request)["call"]
        call.url, call.where = request.full_url, request.host
        call.begin_wait("connect", min(call.timeout, _CONNECT_SECONDS))
        connection = self._take(call) or self._connect(call, request)
        call.stage, call.seconds = "answer", call.timeout  # since the wait for the connection began
        headers = {"Host": request.host, **dict(request.header_items())}
        if request.data is not None:
            headers["Content-Length"] = str(len(request.data))  # type: ignore[arg-type]
        target = request.selector
        if connection.proxy:
            target = request.full_url
            headers.update(proxy_headers(connection.proxy))
        try:
            status, reason = connection.exchange_heads(request.get_method(), target, headers, request.data, call.key)
        except OSError as error:
            raise network_error(error, call) from error
        request_id = one_line(str(connection.headers.get("x-request-id")), call.key)
        log("%d %s, request id %s", status, reason, request_id)
        check_answer(connection, call, status, reason)
        return connection

    https_open = http_open

    def _take(self, call: _Call) -> _Connection | None:
        """Give a call a kept connection that still lives, if there is one."""
        limit = _Call(min(_DRAIN_SECONDS, call.timeout))  # for all that are looked at
        while True:
            with self._locked():
                try:
                    call.connection = connection = self._idle.pop()
                except IndexError:  # and no look before: a signal handler may close this client in between
                    return None
                call.wire = connection.wire
            if connection.is_reusable(limit):
                connection.wire.call = call
                return connection
            self._let_go(call)

    def _let_go(self, call: _Call) -> None:
        """Keep a call's connection for the next one if its answer was whole and good, else hang up."""
        with self._locked():
            connection, wire, call.connection, call.wire = call.connection, call.wire, None, None
            room = len(self._idle) < _IDLE_CONNECTIONS and not call.ended.is_set()
            if connection and connection.whole and room:
                connection.idle_since, connection.wire.call = time.monotonic(), None
                self._idle.append(connection)
            elif wire:
                wire.close()

    def _connect(self, call: _Call, request: urllib.request.Request) -> _Connection:
        """Give a call a new connection to the gateway, through a proxy if the environment names one."""
        url = urllib.parse.urlsplit(request.full_url)
        secure = url.scheme == "https"
        proxy, variable = find_proxy(url, self.proxies)
        if proxy:
            call.where = f"the proxy {proxy.netloc.rpartition('@')[2]} that {variable} names"
        try:
            wire = open_socket(call, proxy or url, 443 if secure and not proxy else 80)
            if proxy and secure:
                open_tunnel(call, wire, proxy, url.netloc if url.port else f"{url.netloc}:443")
            if secure:
                with self._context_lock:  # of its own, for event loops take the other and must not wait
                    self._context = self._context or make_tls_context()
                wire.sock = self._context.wrap_socket(
                    wire.sock, server_hostname=url.hostname, do_handshake_on_connect=False
                )
                wire.within(wire.sock.do_handshake)  # only now, when end() can find the socket
        except NetworkError:
            raise
        except (OSError, UnicodeError) as error:
            raise network_error(error, call) from error
        call.where = request.host
        call.connection = _Connection(wire, None if secure else proxy)
        return call.connection


def hang_up(connections: list[_Connection]) -> None:
    for connection in connections[:]:  # which a signal handler may close at the same time
        connection.wire.close()
    connections.clear()


def open_socket(call: _Call, url: urllib.parse.SplitResult, port: int) -> _Wire:
    """Connect a call to a host; each of its addresses gets a fair share of the time that is left."""
    call.left()
    addresses = socket.getaddrinfo(url.hostname, url.port or port, type=socket.SOCK_STREAM)
    for untried, (family, kind, protocol, _, address) in zip(range(len(addresses), 0, -1), addresses):
        try:
            call.wire = wire = _Wire(socket.socket(family, kind, protocol), call)
            connect_socket(wire.sock, address, call, call.left() / untried)
            wire.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            wire.sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            idle_option = getattr(socket, "TCP_KEEPIDLE", None) or getattr(socket, "TCP_KEEPALIVE", None)  # of macOS
            if idle_option:
                wire.sock.setsockopt(socket.IPPROTO_TCP, idle_option, _KEEPALIVE_SECONDS)
            return wire
        except OSError:  # no such family here, perhaps
            if call.wire:
                call.wire.close()
            if untried == 1 or call.ended.is_set():
                raise
    raise OSError("the host has no address")


def connect_socket(sock: socket.socket, address: Any, call: _Call, seconds: float) -> None:
    """Connect in steps, for on some systems nothing else ends a connect from another thread."""
    until = time.monotonic() + seconds
    sock.setblocking(False)
    code = sock.connect_ex(address)
    if code in (errno.EINPROGRESS, errno.EWOULDBLOCK):
        with selectors.DefaultSelector() as selector:
            selector.register(sock, selectors.EVENT_WRITE)
            while not selector.select(min(call.left(), until - time.monotonic(), _LOOK_SECONDS)):
                if time.monotonic() >= until:
                    raise socket.timeout("timed out")
        code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if code:
        raise OSError(code, os.strerror(code))


def find_proxy(url: urllib.parse.SplitResult, proxies: dict[str, str] | None) -> tuple[Any, str]:
    """Return the URL of the proxy that the environment names for a URL, None if none, and the variable's name."""
    bypass: Any = vars(urllib.request)["proxy_bypass_environment"]  # which type checkers do not know
    known = urllib.request.getproxies_environment() if proxies is None else proxies
    name, variable = known.get(url.scheme), f"{url.scheme.upper()}_PROXY"
    passed_by = (bypass(host, known) for host in (url.netloc, url.hostname or ""))
    if not name or any(passed_by):
        return None, ""
    proxy = None
    with contextlib.suppress(ValueError):
        parts = urllib.parse.urlsplit(name if "://" in name else f"http://{name}")
        proxy = parts if parts.hostname and parts.port != 0 else None
    if not proxy:  # not shown, for it may hold a password
        raise NetworkError(f"the proxy that {variable} names is not a valid URL")
    if proxy.scheme != "http":
        raise NetworkError(f"{variable} names a {one_line(proxy.scheme, '')} proxy: only http:// is supported")
    return proxy, variable


def proxy_headers(proxy: urllib.parse.SplitResult) -> dict[str, str]:
    """Return the header by which a proxy knows its user, who needs no password."""
    if proxy.username is None:
        return {}
    credentials = urllib.parse.unquote(f"{proxy.username}:{proxy.password or ''}").encode("utf-8", "surrogateescape")
    return {"Proxy-Authorization": f"Basic {base64.b64encode(credentials).decode()}"}


def open_tunnel(call: _Call, wire: _Wire, proxy: urllib.parse.SplitResult, target: str) -> None:
    """Have a proxy connect a socket to the gateway. It sees the gateway's name, and never the key."""
    connection = _Connection(wire)
    headers = {"Host": target, **proxy_headers(proxy)}
    status, reason = connection.exchange_heads("CONNECT", target, headers, None, call.key)
    if not 200 <= status < 300:
        failure = NetworkError(f"{call.where} refused: {status} {reason}")
        failure.unanswered = status != 407  # wrong passwords, three at a time, lock accounts
        raise failure
    connection.reader.detach()  # or it would close the wire


def make_tls_context() -> ssl.SSLContext:
    """Return a context that verifies, by the system's certificates or those of SSL_CERT_FILE."""
    try:
        context = ssl.create_default_context()
        context.set_alpn_protocols(["http/1.1"])
        system = ssl.get_default_verify_paths()  # asked first, for it takes a while to count certificates
        has_store = system.cafile or (system.capath and os.listdir(system.capath))
        if not has_store and not context.cert_store_stats()["x509_ca"]:
            with contextlib.suppress(ImportError):  # some Pythons for macOS come without certificates
                context.load_verify_locations(importlib.import_module("certifi").where())
        return context
    except OSError as error:
        raise NetworkError(f"the trusted certificates of this system cannot be read: {error}") from error


def network_error(error: Exception, call: _Call) -> NetworkError:
    """Return what an error of the standard library's means: the one place that says so."""
    # Before 3.10 socket.timeout was no TimeoutError. ETIMEDOUT always was: it is a connection that broke.
    timed_out = isinstance(error, (TimeoutError, socket.timeout)) and error.errno is None
    if call.ended.is_set():
        return StreamInterruptedError(_CLOSED)
    if isinstance(error, ssl.SSLCertVerificationError):
        hint = "if you trust it, name its CA's file in SSL_CERT_FILE"
        return NetworkError(f"the certificate of {call.where} is not trusted: {error.verify_message}; {hint}")
    if call.stage == "connect":
        failure = (RequestTimeoutError if timed_out else NetworkError)(f"could not connect to {call.where}: {error}")
        failure.unanswered = True
        return failure
    if timed_out:
        return RequestTimeoutError(f"no {call.stage} from {call.where} within {call.seconds:g} s")
    failure = (NetworkError if call.stage == "answer" else StreamInterruptedError)(
        f"the connection to {call.where} broke: {error}"
    )
    failure.unanswered = call.stage == "answer" and not (call.wire and call.wire.received)
    return failure


def check_answer(connection: _Connection, call: _Call, status: int, reason: str) -> None:
    """Raise unless the head of an answer promises one that can be read."""
    headers, key = connection.headers, call.key
    encoding = one_line(headers.get("content-encoding", ""), key).lower()
    readable = not _REAL_ENCODINGS & {re.sub("^x-", "", name.strip()) for name in encoding.split(",")}
    if 200 <= status < 300:
        if not readable:
            raise ProtocolError(f"the answer is encoded as {encoding}, which was not asked for")
        return
    text = connection.read_excerpt(call) if readable else ""
    connection.whole = connection.keeps and connection.remaining == 0 and not connection.chunked
    hint = ""
    if status < 400:
        target = one_line(headers.get("location", "nowhere"), key)
        text, reason = "", f"redirect to {target} not followed, for the key would go with it; see base_url"
    elif (status == 404 and parse_json(text) is None) or re.match(r"\s*<(!doctype )?html", text, re.I):
        hint = _WRONG_URL.format(call.url)
    raise api_error(text, headers, key, status, reason, hint)


def read_chunks(connection: _Connection, call: _Call, streamed: bool) -> Iterator[StreamChunk]:
    """Yield the chunks of an answer, or the one that a JSON answer is; at the end raise unless all of it came."""
    headers, key, kind = connection.headers, call.key, content_type(connection.headers)
    if kind == "text/html" or (streamed and kind not in ("text/event-stream", "application/json")):
        hint = _WRONG_URL.format(call.url) if kind == "text/html" else ""
        start = one_line(connection.read_excerpt(call), key)
        raise ProtocolError(f"the answer is {one_line(kind, key) or 'of no content type'}: {start}{hint}")
    as_events = streamed and kind == "text/event-stream"
    events, member = read_events(connection, call), "delta"
    if not as_events:
        events, member = read_document(connection, call), "message"
    reasons: dict[int, Any] = {}  # by choice, why it ended
    done = not as_events  # a document was framed and whole, with or without a finish reason
    for name, data in events:
        raw = decode_event(name, data, headers, key)
        if raw is None:
            if not as_events:
                raise ProtocolError("the gateway sent no JSON object: [DONE]")
            done = True
            break
        chunk = parse_chunk(raw, headers, member)
        for choice in chunk.choices:
            if choice.finish_reason:
                reasons[choice.index] = choice.finish_reason
            elif choice.index not in reasons:
                reasons[choice.index] = None
        yield chunk
    for reason in reasons.values():
        if reason in _GAVE_UP_REASONS:
            raise StreamInterruptedError(f"the gateway gave up: its finish reason is {reason}")
    if streamed and not (reasons and (done or all(reasons.values()))):
        raise StreamInterruptedError("the stream ended before the answer was complete")
    connection.whole = connection.keeps


def read_events(connection: _Connection, call: _Call) -> Iterator[tuple[str, str]]:
    """Yield the events of an answer; if it breaks or is cut, raise that after the last event that is whole."""
    parser = EventStreamParser()
    failure: NetworkError | None = None
    call.begin_wait("event", call.timeout)
    try:
        for block in iter(connection.read_block, b""):
            events = parser.feed(block)
            if events:
                yield from events
                call.begun = None  # begins anew; comments and keep-alive bytes do not prolong it
    except OSError as error:
        failure = network_error(error, call)
        failure.__cause__ = error
    dangling = bytes(parser.unended).strip()[:1]
    last = parser.finish()
    if last and (type(parse_json(last[1])) is dict or last[1].strip() == "[DONE]"):
        yield last
    elif not failure and (last or (dangling and dangling != b":")):
        failure = StreamInterruptedError(f"the answer of {call.where} was cut in the middle of an event")
    if failure:
        raise failure


def read_document(connection: _Connection, call: _Call) -> Iterator[tuple[str, str]]:
    """Yield a JSON answer as the one event that it is."""
    body = bytearray()
    call.begin_wait("whole answer", call.timeout)
    try:
        for block in iter(connection.read_block, b""):
            body += block
            if len(body) > _EVENT_BYTES:
                raise ProtocolError(f"the answer is longer than {_EVENT_BYTES >> 20} MiB")
    except OSError as error:
        raise network_error(error, call) from error
    text = body.decode("utf-8", "replace")
    if not connection.framed and type(parse_json(text)) is not dict:
        raise StreamInterruptedError(f"the answer of {call.where} was cut after {len(body)} bytes")
    yield "message", text


def retry_seconds(error: EdgeeError, attempt: int, call: _Call) -> float | None:
    """Return how long to wait before a request is sent again, None if it must not be."""
    if isinstance(error, APIError):
        no_credit = error.status == 429 and error.code in _NO_CREDIT_CODES and error.retry_after is None
        if (error.status or _STATUS_OF_CODE.get(str(error.code))) not in _RETRIED_STATUSES or no_credit:
            return None
        if error.retry_after is not None:
            return error.retry_after if error.retry_after <= _LONGEST_RETRY_AFTER_SECONDS else None
    elif not (isinstance(error, NetworkError) and error.unanswered):
        return None
    elif call.connection and call.connection.reused:
        return 0.0  # it died while it was idle, which is no news to anybody
    backoff = min(_FIRST_BACKOFF_SECONDS * 2.0 ** min(attempt, 10), _LAST_BACKOFF_SECONDS)
    return backoff * random.uniform(0.75, 1.0)


def log(message: str, *values: object) -> None:
    if "logging" in sys.modules:  # else nobody listens, and the import would be a good part of a cold start
        sys.modules["logging"].getLogger("edgee").debug(message, *values)


# ---- The client ------------------------------------------------------------------------------------------------------


class Edgee:
    """A client of the Edgee AI Gateway, which may be shared between threads and event loops, but is not pickled.

    config: an API key, an EdgeeConfig, a dict with the same keys, or None to take all from the environment. Raises
    ValueError or TypeError if a setting is missing or wrong. Connections are kept for later requests until close(),
    or the end of a `with` block.
    """

    def __init__(self, config: str | EdgeeConfig | Mapping[str, Any] | None = None) -> None:
        self._transport = _Transport(resolve_settings(config))

    def __enter__(self) -> Edgee:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close idle connections, and end what runs, in any thread or task, with StreamInterruptedError.

        May be called from any thread; a later call opens a new connection.
        """
        self._transport.end()

    if TYPE_CHECKING:

        @overload
        def send(
            self, model: str, input: Input, stream: Literal[False] = False, *, timeout: Seconds = None,
            headers: HeadersToSend = None,
        ) -> SendResponse: ...  # fmt: skip
        @overload
        def send(
            self, model: str, input: Input, stream: Literal[True], *, timeout: Seconds = None,
            headers: HeadersToSend = None,
        ) -> Chunks: ...  # fmt: skip
        @overload
        def send(
            self, model: str, input: Input, stream: bool, *, timeout: Seconds = None, headers: HeadersToSend = None
        ) -> SendResponse | Chunks: ...

    def send(
        self, model: str, input: Input, stream: bool = False, *, timeout: Seconds = None, headers: HeadersToSend = None
    ) -> SendResponse | Chunks:
        """Ask for a completion; return the whole answer, or with stream=True what stream() returns.

        model: such as "openai/gpt-5.2". input: a prompt (str), a list of messages, an InputObject, or a dict with
        `messages` and any other field of the request's body, which is sent as it is. timeout: seconds to wait for the
        answer to begin, and then for its end; else the client's. headers: of this request; they win over the client's.

        Raises ValueError or TypeError for a wrong argument; APIError, NetworkError or ProtocolError if there is no
        answer.
        """
        chunks = self._ask(model, input, bool(stream), timeout, headers)[1]
        if stream:
            return chunks
        [chunk] = chunks
        return parse_response(chunk.raw, chunk.headers)

    def stream(self, model: str, input: Input, *, timeout: Seconds = None, headers: HeadersToSend = None) -> Chunks:
        """Ask for a completion; return a generator of its chunks, as they arrive.

        Arguments as for send(); timeout: seconds to wait for the answer to begin, and then for each next event.
        Nothing is sent before the first chunk is asked for. Closing or dropping the generator frees its connection.

        Wrong arguments raise at once. Iterating raises as send() does, and StreamInterruptedError if the answer is
        cut, after every chunk that did arrive.
        """
        return self.send(model, input, True, timeout=timeout, headers=headers)

    async def asend(
        self, model: str, input: Input, *, timeout: Seconds = None, headers: HeadersToSend = None
    ) -> SendResponse:
        """What send() does, for asyncio; cancelling the task ends the request and frees its connection."""
        chunks = [chunk async for chunk in self._read_ahead(*self._ask(model, input, False, timeout, headers))]
        return parse_response(chunks[0].raw, chunks[0].headers)

    def astream(
        self, model: str, input: Input, *, timeout: Seconds = None, headers: HeadersToSend = None
    ) -> AsyncGenerator[StreamChunk, None]:
        """What stream() does, for `async for`; cancelling the task, aclose() and leaving the loop end it at once."""
        return self._read_ahead(*self._ask(model, input, True, timeout, headers))

    def models(self) -> list[Model]:
        """Return the models that the gateway offers; raises as send() does."""
        settings = self._transport.settings
        [chunk] = self._transport.exchange(_Call(settings.timeout, settings.api_key), "models", None, {}, {}, False)
        found = as_objects(chunk.raw.get("data"))
        return [Model(model.get("id", ""), model.get("owned_by"), model.get("created")) for model in found]

    def _ask(self, model: Any, input: Any, stream: bool, timeout: Any, headers: Any) -> tuple[_Call, Chunks]:
        """Check a call's arguments; return the call, and the generator that sends it and yields its chunks."""
        settings = self._transport.settings
        call = _Call(settings.timeout if timeout is None else check_timeout(timeout), settings.api_key)
        body, switches = build_body(model, input, stream)
        own = {} if headers is None else check_headers(headers)
        return call, self._transport.exchange(call, "chat/completions", body, switches, own, stream)

    async def _read_ahead(self, call: _Call, chunks: Chunks) -> AsyncGenerator[StreamChunk, None]:
        """Yield what a thread of its own reads, a few chunks ahead; end the call when nobody wants it any more."""
        import asyncio
        import contextvars

        loop, arrived, room = asyncio.get_running_loop(), asyncio.Event(), threading.Semaphore(_READ_AHEAD_CHUNKS)
        outcomes: deque[Any] = deque()  # chunks, and last an error or None
        waiting = False

        def tell(outcome: Any) -> None:
            nonlocal waiting
            outcomes.append(outcome)
            if waiting:  # waking the loop costs more than a chunk
                waiting = False
                with contextlib.suppress(RuntimeError):  # it has ended
                    loop.call_soon_threadsafe(arrived.set)

        def read() -> None:
            try:
                with contextlib.closing(chunks):
                    for chunk in chunks:
                        tell(chunk)
                        while not call.ended.is_set() and not room.acquire(timeout=_LOOK_SECONDS):
                            pass
                tell(None)
            except BaseException as error:
                tell(error)

        thread = threading.Thread(target=contextvars.copy_context().run, args=[read], name="edgee", daemon=True)
        try:
            thread.start()
            while True:
                while not outcomes:
                    arrived.clear()
                    waiting = True
                    if not outcomes:  # else the thread may not have seen that somebody waits
                        await arrived.wait()
                outcome = outcomes.popleft()
                if not isinstance(outcome, StreamChunk):
                    break
                room.release()
                yield outcome
        finally:
            self._transport.end(call)
            room.release()
        if outcome:
            try:
                raise outcome
            finally:
                del outcome  # whose traceback holds this frame


# ---- The command line: the answer on standard output, all else on standard error -------------------------------------

_USAGE = """
  %(prog)s "Tell me a story"
  git diff | %(prog)s "Write a commit message" --model openai/gpt-5.2
  %(prog)s --demo "Tell me a story"     (needs no key and no network)
  %(prog)s [options] [prompt ...]"""
_ENDING = """\
environment: EDGEE_API_KEY, EDGEE_BASE_URL, EDGEE_MODEL, SSL_CERT_FILE,
HTTPS_PROXY, HTTP_PROXY, NO_PROXY
exit status: 0 done; 1 the gateway, the network or the stream failed;
2 wrong usage; 130 interrupted"""
_NOTHING_TO_ASK = "nothing to ask: give a prompt, or text on standard input"
_FIRST_STEPS = """
{usage}to see an answer now, type:    {name} --demo
to ask for a real one, first:  export EDGEE_API_KEY=…"""
_CONTROL_CHARACTER = r"[\x00-\x08\x0b-\x1f\x7f-\x9f]"  # but LF and TAB
_SILENCE_SECONDS = 2.0
_DEMO_SECONDS = 0.02  # between two words
_DEMO_ANSWER = """Once there was a file that was all there was to a client. Whoever was to trust it read it over a \
coffee, from its first line to its last, and knew what it sent, and to whom. Then they copied it and went home."""


def main(argv: list[str] | None = None) -> int:
    """Run the command line with these arguments, sys.argv's by default; return its exit status.

    0 done; 1 the gateway, the network or the stream failed; 2 wrong usage; 130 interrupted.
    """
    if sys.stdout is None:
        return say("there is no standard output", 1)
    try:
        status = 0
        with contextlib.suppress(SystemExit):  # of --help and --version
            status = run_command(argv)
        print(end="", flush=True)
        return status
    except EdgeeError as error:
        return say(str(error), 1)
    except KeyboardInterrupt:
        return 130
    except OSError as error:  # of standard output
        discard(sys.stdout)
        closed = isinstance(error, BrokenPipeError) or error.errno == errno.EINVAL  # which is Windows' word for it
        return 0 if closed else say(str(error), 1)


def say(text: str, status: int = 0, more: str = "") -> int:
    """Write a line, and more if there is more, to standard error, if there is one; return the status."""
    if sys.stderr is not None:
        line = text.replace("\n", " ")
        try:
            print(printable(f"edgee: {line}{more}"), file=sys.stderr, flush=True)
        except (OSError, ValueError):
            discard(sys.stderr)
    return status


def discard(stream: Any) -> None:
    """Send a broken stream nowhere: what it holds is flushed when the interpreter ends, with noise and status 120."""
    with contextlib.suppress(AttributeError, OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def printable(text: str) -> str:
    """The text without what could control a terminal."""
    return re.sub(_CONTROL_CHARACTER, "\ufffd", text)


def make_parser() -> argparse.ArgumentParser:
    import argparse

    def fail(message: str) -> None:
        hint = ", as in -o temperature 0.2" if "-o/--option" in message else ""
        raise ValueError(f"{message}{hint}; see {parser.prog} --help")

    spec, name = globals().get("__spec__"), f"python {sys.argv[0]}"
    if spec:
        name = f"python -m {spec.name}"
    elif os.sep in sys.argv[0] and os.access(sys.argv[0], os.X_OK):
        name = sys.argv[0]
    parser = argparse.ArgumentParser(
        prog=name, usage=_USAGE, formatter_class=argparse.RawDescriptionHelpFormatter, epilog=_ENDING,
        description="Stream an answer from the Edgee AI Gateway to standard output.",
    )  # fmt: skip
    parser.error = fail  # type: ignore[assignment,method-assign]  # which writes to standard error unasked
    add = parser.add_argument
    add("prompt", nargs="*", help="what to ask; text on standard input is put before it")
    add("-m", "--model", help=f"else EDGEE_MODEL, else {_MODEL}")
    add("-s", "--system", metavar="TEXT", help="a system message")
    add("-t", "--tag", action="append", default=[], help="a tag for the gateway's analytics; may be repeated")
    add("-o", "--option", nargs=2, action="append", default=[], metavar=("KEY", "VALUE"),
        help="any other field of the request, VALUE as JSON, else as text; may be repeated")  # fmt: skip
    add("--input", metavar="FILE", help="a JSON file, or -, with a whole input object or a list of messages")
    add("--json", action="store_true", help="print the JSON of each chunk, a line each")
    add("--no-stream", action="store_true", help="wait for the whole answer")
    add("--usage", action="store_true", help="end with a line on tokens, savings and time")
    add("--models", action="store_true", help="list the gateway's models")
    add("-H", "--header", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"),
        help="a header to send; may be repeated")  # fmt: skip
    add("--base-url", metavar="URL", help=f"else EDGEE_BASE_URL, else {_BASE_URL}")
    add("--timeout", type=float, metavar="SECONDS", help="the longest wait for the answer, and for each next event")
    add("--demo", action="store_true", help="ask a small gateway inside this process")
    add("--version", action="version", version=f"edgee {__version__}")
    return parser


def run_command(argv: list[str] | None) -> int:
    """Read what was asked for, ask, and print what comes; return the exit status."""
    output: Any = sys.stdout
    if hasattr(output, "reconfigure"):  # text that a terminal cannot show is no reason to crash
        plain = output.isatty() or os.environ.get("PYTHONIOENCODING")
        output.reconfigure(encoding=None if plain else "utf-8", errors="replace")
    try:
        parser = make_parser()
        arguments = parser.parse_args(argv)
        options = read_options(arguments.option)
        if not (arguments.prompt or arguments.input or arguments.models or arguments.demo) and no_input():
            return say(_NOTHING_TO_ASK, 2, _FIRST_STEPS.format(usage=parser.format_usage(), name=parser.prog))
        edgee = make_client(arguments)
        body = {} if arguments.models else read_question(arguments, options)
        # What is wrong in it is said now; it is sent when the first chunk is asked for.
        chunks: Any = body and edgee._ask(body["model"], body, not arguments.no_stream, None, None)[1]
    except (ValueError, TypeError) as error:
        return say(str(error), 2)
    show = printable if output.isatty() and not arguments.json else str
    with edgee:
        if arguments.models:
            print("".join(f"{show(str(model.id))}\n" for model in edgee.models()), end="")
        else:
            print_answer(chunks, body["model"], arguments, show)
    return 0


def make_client(arguments: argparse.Namespace) -> Edgee:
    config = EdgeeConfig(None, arguments.base_url, arguments.timeout, None, dict(arguments.header))
    if not arguments.demo:
        if not os.environ.get("EDGEE_API_KEY"):
            raise ValueError("EDGEE_API_KEY is not set: export EDGEE_API_KEY=…, or try --demo")
        return Edgee(config)
    if arguments.base_url:
        raise ValueError("--demo has a gateway of its own: leave --base-url out")
    config.api_key, config.base_url = "demo", start_demo_gateway()
    edgee = Edgee(config)
    edgee._transport.proxies = {}
    say("this is a demo; the answer comes from this process, and from no model")
    return edgee


def read_options(options: list[list[str]]) -> dict[str, Any]:
    """Return the fields of the request that -o asks for."""
    asked: dict[str, Any] = {}
    for name, value in options:
        if "=" in name:
            raise ValueError(f"-o takes a KEY and a VALUE: -o {name.replace('=', ' ', 1)}")
        if name in ("messages", "model", "stream"):
            raise ValueError(f"-o {name} is not possible: see --input, --model and --no-stream")
        try:
            asked[name] = json.loads(value)
        except (ValueError, RecursionError):
            asked[name] = value
    return asked


def read_question(arguments: argparse.Namespace, options: dict[str, Any]) -> dict[str, Any]:
    """Return the input object, with its model, that the arguments, the file and standard input amount to."""
    piped = "" if no_input() else read_standard_input()
    body: dict[str, Any] = {}
    if arguments.input:
        body = read_input_file(arguments.input, piped)
        piped = "" if arguments.input == "-" else piped
    prompt = "\n\n".join(text for text in (piped, " ".join(arguments.prompt)) if text.strip())
    if not prompt and not arguments.input:
        if not arguments.demo:
            raise ValueError(_NOTHING_TO_ASK)
        prompt = "Tell me a story"
    body.update(options)
    for name in ("messages", "tags"):
        if not isinstance(body.get(name) or [], list):
            raise TypeError(f"{name} must be a list, not {type(body[name]).__name__}")
    system = [{"role": "system", "content": arguments.system}] if arguments.system else []
    user = [{"role": "user", "content": prompt}] if prompt else []
    body["messages"] = [*system, *(body.get("messages") or []), *user]
    if arguments.tag:
        body["tags"] = [*(body.get("tags") or []), *arguments.tag]
    if arguments.usage and not arguments.no_stream:
        body["stream_options"] = {"include_usage": True, **as_object(body.get("stream_options"))}
    body["model"] = arguments.model or body.get("model") or os.environ.get("EDGEE_MODEL") or _MODEL
    return body


def no_input() -> bool:
    """Whether standard input is somebody at a terminal, or nothing."""
    return sys.stdin is None or sys.stdin.isatty()


def read_standard_input() -> str:
    source: Any = getattr(sys.stdin, "buffer", sys.stdin)
    timer = threading.Timer(_SILENCE_SECONDS, say, ["waiting for standard input; < /dev/null if there is none"])
    timer.daemon = True
    timer.start()
    try:
        start = source.read(1)
    finally:
        timer.cancel()
    text = start + source.read()
    try:
        return str(text.decode("utf-8-sig") if isinstance(text, bytes) else text).rstrip()
    except UnicodeDecodeError:
        raise ValueError("standard input is not UTF-8 text") from None


def read_input_file(name: str, piped: str) -> dict[str, Any]:
    """Return the input object in a file, or in the text that was piped."""
    try:
        text = piped
        if name != "-":
            with open(name, encoding="utf-8-sig") as file:
                text = file.read()
        asked: Any = json.loads(text)
    except (ValueError, RecursionError, OSError) as error:  # which says line and column
        raise ValueError(f"--input {name}: {error}") from None
    if not isinstance(asked, (dict, list)):
        raise ValueError(f"--input {name} holds no object and no list of messages")
    return {"messages": asked} if isinstance(asked, list) else asked


def print_answer(chunks: Chunks, model: str, arguments: argparse.Namespace, show: Any) -> None:
    """Print an answer as it comes, and then what else there is to say about it; keep no more of it than that."""
    start, first_text, last_text = time.monotonic(), 0.0, "\n"
    seen = SendResponse([], model=model)
    reasons: dict[int, Any] = {}
    calls: list[Any] = []  # the chunks that hold pieces of them
    joined = codecs.getincrementaldecoder("utf-16-le")("surrogatepass").decode  # of split surrogate pairs
    try:
        for chunk in chunks:
            seen.model, seen.usage = chunk.model or seen.model, chunk.usage or seen.usage
            seen.compression = chunk.compression or seen.compression
            for choice in chunk.choices:
                reasons[choice.index] = choice.finish_reason or reasons.get(choice.index)
            if chunk.text:
                first_text = first_text or time.monotonic() - start
            if arguments.json:
                print(json.dumps(chunk.raw), flush=True)
            elif chunk.choices and chunk.choices[0].index == next(iter(reasons)):  # that of the first to come
                calls.extend([chunk] if chunk.tool_calls else [])
                text = joined((chunk.text or "").encode("utf-16-le", "surrogatepass"))
                last_text = text or last_text
                print(show(text), end="", flush=True)
    finally:
        half = joined(b"", True)
        if half or not last_text.endswith("\n"):
            print(show(half), flush=True)
    for call in SendResponse.from_chunks(calls).tool_calls or []:
        print(show(json.dumps(call)), flush=True)
    for reason in reasons.values():
        if reason not in ("stop", "tool_calls", "function_call", None):
            say(f"warning: the answer may not be whole: {one_line(str(reason), '')[:60]}")
    if len(reasons) > 1 and not arguments.json:
        say("warning: there is more than one choice; --json prints them all")
    if arguments.usage:
        say(usage_line(seen, first_text, time.monotonic() - start))


def usage_line(seen: SendResponse, first_text: float, seconds: float) -> str:
    """Return the line that --usage asks for, of some 100 characters; one of absurd numbers is cut."""
    parts = [one_line(str(seen.model), "")[:32]]
    usage, compression = seen.usage, seen.compression
    if usage:
        parts.append(f"{usage.prompt_tokens}+{usage.completion_tokens} tokens")
        finer = ((usage.cached_tokens, "cached"), (usage.reasoning_tokens, "reasoning"))
        parts.extend(f"{count} {name}" for count, name in finer if count)
    if compression:
        parts.append(f"saved {compression.saved_tokens} (${compression.cost_savings / 1e6:.6f})")
    parts.append(f"text after {first_text:.2f} s" if first_text else "no text")
    return ", ".join([*parts, f"{seconds:.2f} s in all"])[:140]


def start_demo_gateway() -> str:
    """Start a small gateway on the loopback, in a thread that ends with the process; return its base URL."""
    from http.server import BaseHTTPRequestHandler
    from socketserver import ThreadingTCPServer

    class DemoGateway(BaseHTTPRequestHandler):
        def handle(self) -> None:
            with contextlib.suppress(ConnectionError):  # somebody has heard enough
                super().handle()

        def do_GET(self) -> None:
            self.answer("application/json", [json.dumps({"data": [{"id": "demo", "owned_by": "edgee.py"}]})])

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
            prompt = content_text(asked["messages"][-1].get("content"))
            words = re.findall(r"\S+\s*", f"You asked: {prompt}\n\n{_DEMO_ANSWER}")
            usage = {"prompt_tokens": 8, "completion_tokens": len(words), "total_tokens": 8 + len(words)}
            member, pieces = ("delta", words) if asked.get("stream") else ("message", ["".join(words)])
            messages = [{"role": "assistant", "content": piece} for piece in pieces]
            choices: list[Any] = [{"index": 0, member: message} for message in messages]
            choices[-1]["finish_reason"] = "stop"
            documents: list[Any] = [{"id": "demo-1", "model": asked["model"], "choices": [one]} for one in choices]
            documents[-1]["usage"] = usage
            texts = [json.dumps(document) for document in documents]
            if asked.get("stream"):
                self.answer("text/event-stream", [f"data: {text}\n\n" for text in [*texts, "[DONE]"]])
            else:
                self.answer("application/json", texts)

        def answer(self, content_type: str, pieces: list[str]) -> None:
            self.send_response(200)
            self.send_header("Content-Type", content_type)
            self.end_headers()
            for piece in pieces:
                self.wfile.write(piece.encode())
                time.sleep(_DEMO_SECONDS)

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    server = ThreadingTCPServer(("127.0.0.1", 0), DemoGateway)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_address[1]}"


if __name__ == "__main__":
    status = main()
    if status == 130 and os.name == "posix":  # so that a shell's loop ends with it
        import signal

        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    sys.exit(status)
