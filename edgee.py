#!/usr/bin/env python3
"""Stream chat completions from the Edgee AI Gateway: one file, standard library only.

    from edgee import Edgee

    edgee = Edgee("your-api-key")  # or Edgee(), with EDGEE_API_KEY in the environment
    for chunk in edgee.stream("gpt-5.2", "Tell me a story"):
        if chunk.text:
            print(chunk.text, end="", flush=True)

    response = edgee.send("gpt-5.2", {"messages": [{"role": "user", "content": "Hi"}], "temperature": 0})
    print(response.text, response.usage)

On a command line: python -m edgee "Tell me a story"; with --demo it needs no key and no network.
What goes wrong once a request is under way is an EdgeeError, which is a RuntimeError; a wrong argument is a
ValueError or a TypeError, raised by the call itself before anything is sent.

Licence: not stated yet; ask the owner before you redistribute this file.
"""

from __future__ import annotations

import codecs
import contextlib
import copy
import errno
import importlib
import io
import itertools
import json
import os
import re
import string
import sys
import threading
import time
import weakref
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields

# What only a request or the command line needs is imported there: programs that never ask should not wait for it.
TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    import http.client
    import socket
    import ssl
    import urllib.request
    from typing import Any, Dict, Literal, TypeGuard, Union, overload

    Input = Union[str, Sequence[Union["Message", Mapping[str, Any]]], Mapping[str, Any], "InputObject"]
    TextByName = Dict[str, str]
else:
    Any = object  # for whoever asks typing.get_type_hints() about the dataclasses
    TextByName = dict

__version__ = "0.2.0.dev1"
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
_KEEPALIVE_SECONDS = 60  # until TCP asks whether the other end is still there
_MAX_RETRIES = 2
_FIRST_BACKOFF_SECONDS, _LAST_BACKOFF_SECONDS, _LONGEST_RETRY_AFTER_SECONDS = 0.5, 8.0, 60.0
_RETRIED_STATUSES = frozenset({408, 409, 429, 500, 502, 503, 504})
_ERROR_STATUSES = frozenset(map(str, range(400, 600)))
_STATUS_OF_CODE = {"provider_error": 502, "internal_error": 500}  # where this gateway's events name no status
_NO_CREDIT_CODES = frozenset({"usage_limit_exceeded", "insufficient_quota"})
_EVENT_BYTES, _BLOCK_BYTES, _ERROR_BODY_BYTES, _EXCERPT_CHARACTERS = 16 << 20, 64 << 10, 64 << 10, 500
_IDLE_CONNECTIONS, _IDLE_SECONDS = 10, 60.0
_DRAIN_SECONDS = 0.1  # the end of a body follows [DONE] within a round trip, or is not worth the wait
_SWITCH_HEADERS = {
    "tool_result_trimming": "X-Edgee-Compression-Tool-Result-Trimming",
    "tool_surface_reduction": "X-Edgee-Compression-Tool-Surface-Reduction",
    "output_brevity": "X-Edgee-Compression-Brevity",
}
_HEADER_NAME_CHARACTERS = frozenset(string.ascii_letters + string.digits + "!#$%&'*+-.^_`|~")
_FRAMING_HEADERS = frozenset({"connection", "content-length", "host", "transfer-encoding"})
_REAL_ENCODINGS = frozenset({"gzip", "br", "deflate", "zstd", "compress"})
_GAVE_UP_REASONS = ("error", "abort", "network_error", "insufficient_system_resource")
_CHOICES = 1024
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


# ---- What goes in. Each of these may also be given as the dict that it stands for. ---------------------------------


@dataclass
class EdgeeConfig:
    """Settings of a client. What is None comes from the environment, else it is the default.

    api_key: else EDGEE_API_KEY. base_url: else EDGEE_BASE_URL, else https://edgee.io. timeout: seconds to wait
    for the answer to begin and then for each next event, else 600. max_retries: else 2. headers: sent with every
    request.
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
    """A message of a conversation; `role` is "system", "user", "assistant", "tool", …"""

    role: str
    content: str | list[dict[str, Any]] | None = None
    name: str | None = None
    tool_calls: Sequence[ToolCall | dict[str, Any]] | None = None
    tool_call_id: str | None = None


@dataclass
class InputObject:
    """What to ask. A field that is None is not sent; `extra_body` (temperature, …) is merged in last.

    tool_result_trimming, tool_surface_reduction and output_brevity override the settings of the API key.
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
    """One event of a streamed answer (stream method, StreamChunk). `headers` are those of the whole response."""

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
        first = json_objects(self.raw.get("choices"))[:1]
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
    """A whole answer. `headers` are those of its response."""

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
        return content_text(self.choices[0].message.get("content")) if self.choices else None

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
        return self.choices[0].message.get("tool_calls") or None if self.choices else None

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
        texts = [part.get("text") for part in json_objects(content) if part.get("type") == "text"]
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
    """What came is not a chat completion: bad JSON, a wrong content type, an event of over 16 MiB."""


class NetworkError(EdgeeError, OSError):
    """The gateway could not be reached or the connection broke; __cause__ is the standard library's error.

    unanswered: whether not a byte of answer came, and none will, so that the request may be sent again.
    """

    unanswered = False
    died_idle = False  # unanswered on a kept connection, which is no news to anybody: the next attempt need not wait


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
                value = self._take_data(values) if self._data else b"\n".join(values)
                if value[_EVENT_BYTES:]:
                    self._too_long = True
                    break
                text = value.decode("utf-8", "replace")
                if text and not text.isspace():  # keep-alives come as a bare `data:`, `id:` or `retry:`
                    events.append((self._name, text))
                self._name = "message"
                values = []
        if rest or values or self._data or self._too_long:
            self._keep(values, rest)
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

    def _take_data(self, values: list[bytes]) -> bytes:
        value = b"".join((self._data, *(value + b"\n" for value in values)))[:-1]
        self._data.clear()
        return value

    def _keep(self, values: list[bytes], rest: bytes) -> None:
        for value in values:
            self._data += value + b"\n"
        self.unended += rest
        if len(self._data) + len(self.unended) > _EVENT_BYTES + len("data: "):
            self._too_long = True

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


def decode_event(name: str, data: str, headers: Any, api_key: str) -> dict[str, Any] | None:
    """Return the JSON object of an event, None for [DONE]; raise the APIError that it is, or a ProtocolError."""
    if name == "error":
        raise api_error(data, headers, api_key)
    raw: Any
    try:
        raw, end = _scan_json(data, 0)
    except (StopIteration, ValueError, RecursionError):
        if data.strip() == "[DONE]":
            return None
        raw, end = parse_json(data), len(data)  # white space comes first, or it is no JSON
    if raw.__class__ is not dict or (end != len(data) and not data[end:].isspace()):
        raise ProtocolError(f"the gateway sent no JSON object: {one_line(data, api_key)}")
    # Without get(), which would cost each chunk two calls.
    if ("error" in raw and raw["error"]) or ("object" in raw and raw["object"] == "error"):
        raise api_error(data, headers, api_key)
    return raw


def parse_chunk(raw: dict[str, Any], headers: Any, member: str = "delta") -> StreamChunk:
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
                tool_calls = json_objects(tool_calls)
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
    choices = [
        Choice(index, choice_message(choice, "message"), choice.get("finish_reason"))
        for index, choice in indexed_choices(raw)
    ]
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
    found: list[tuple[str, Any]] = [(member.name, numbers.get(member.name)) for member in fields(kind)]
    return kind(**{k: n for k, n in found if type(n) in (int, float) and -1e300 < n < 1e300}) if numbers else None


def message_member(headers: Any) -> str:
    """Which member of a choice counts: an event may repeat the message so far beside its delta (Perplexity)."""
    kind = str(headers.get("content-type")).partition(";")[0].strip().lower()
    return "message" if kind == "application/json" else "delta"


def choice_message(choice: dict[str, Any], member: str) -> dict[str, Any]:
    """A choice's delta or message, first of all the one that counts; an empty one if it has neither."""
    found = [name for name in (member, "delta", "message") if is_object(choice.get(name))]
    return as_object(choice.get(found[0])) if found else {}


def indexed_choices(raw: dict[str, Any]) -> list[tuple[int, dict[str, Any]]]:
    """The choices in a JSON object, each with its index, else its position."""
    choices = json_objects(raw.get("choices"))
    if len(choices) > _CHOICES:
        raise ProtocolError(f"the answer has more than {_CHOICES} choices")
    return [(valid_index(choice, n), choice) for n, choice in enumerate(choices)]


def valid_index(source: dict[str, Any], default: Any = None) -> Any:
    """An object's index. One past all bounds is none: a server could choose such so that all of them collide."""
    index = source.get("index")
    return index if type(index) is int and 0 <= index < _CHOICES else default


def as_object(value: Any) -> dict[str, Any]:
    """The value if it is a JSON object, else an empty one."""
    return value if is_object(value) else {}


def json_objects(value: Any) -> list[dict[str, Any]]:
    """The objects in a JSON list; none if it is no list."""
    return [member for member in value if is_object(member)] if is_list(value) else []


def is_object(value: Any) -> TypeGuard[dict[str, Any]]:
    return type(value) is dict


def is_list(value: Any) -> TypeGuard[list[Any]]:
    return type(value) is list


def is_mapping(value: Any) -> TypeGuard[Mapping[str, Any]]:
    return isinstance(value, Mapping)


def is_a(value: object, *kinds: type) -> bool:
    return isinstance(value, kinds)


def parse_json(text: str) -> Any:
    """The value of a JSON text; None if it is no JSON, or null, which is no use here either."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def redact(text: str, api_key: str) -> str:
    """Return a text without the key, however JSON spells it, or the start of it, for texts may be cut anywhere."""
    if len(api_key) < 4 or (api_key[:4] not in text and "\\" not in text):  # a shorter one is a test's
        return text
    # At most four backslashes, for JSON in JSON in JSON: of a run without an end each start would cost all the rest.
    spelled = [rf"(?:\\{{0,4}}{re.escape(c)}|\\{{1,4}}u00(?i:{ord(c):02x}))" for c in api_key]
    followed = "".join(f"{c}?" for c in spelled[8:])
    return re.sub("".join(spelled[:8]) + followed + r"(?:\\+u?[0-9a-fA-F]{0,3}\Z)?", "[api key]", text)


def one_line(text: str, api_key: str) -> str:
    """The start of a text that came from outside, fit for a message: one line, printable, without the key."""
    text = redact(text[:_ERROR_BODY_BYTES], api_key)
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return text if len(text) <= _EXCERPT_CHARACTERS else text[:_EXCERPT_CHARACTERS] + "…"


def merge_chunks(chunks: Iterable[StreamChunk]) -> dict[str, Any]:
    """Return the JSON of the response that chunks amount to."""
    merged: dict[str, Any] = {}
    choices: dict[int, list[dict[str, Any]]] = {}
    messages: dict[int, list[dict[str, Any]]] = {}
    for chunk in chunks:
        raw = chunk.raw or {**asdict(chunk), "raw": None, "headers": None}
        for name, value in raw.items():
            if name in ("id", "model"):
                merged[name] = merged.get(name) or value
            elif value is not None and name != "choices":
                merged[name] = value or merged.get(name, value)
        for index, choice in indexed_choices(raw):
            choices.setdefault(index, []).append({**choice, "delta": None, "message": None})
            messages.setdefault(index, []).append(choice_message(choice, message_member(chunk.headers)))
    if merged.get("object") == "chat.completion.chunk":
        merged["object"] = "chat.completion"
    try:
        merged["choices"] = [merge_choice(index, choices[index], messages[index]) for index in sorted(choices)]
    except RecursionError:
        raise ProtocolError("the answer is nested too deep to be merged") from None
    return merged


def merge_choice(index: int, pieces: list[dict[str, Any]], deltas: list[dict[str, Any]]) -> dict[str, Any]:
    """Return a response's choice from those of its chunks and their deltas."""
    message = {"role": "assistant", "content": None, **merge_objects("delta", deltas)}
    message["role"] = message["role"] or "assistant"
    if not message.get("tool_calls", True):
        del message["tool_calls"]
    return {"finish_reason": None, **merge_objects("choice", pieces), "index": index, "message": message}


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
    in_pieces = name in _PIECES.get(holder, ())
    if name == "arguments" and in_pieces:
        values = [value if isinstance(value, str) else json.dumps(value) for value in values]
    kinds: set[Any] = {type(value) for value in values}
    if name == "tool_calls" and holder == "delta":
        calls = group_tool_calls([piece for value in values for piece in json_objects(value)])
        return [merge_tool_call(call) for call in calls]
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
    for form, run in itertools.groupby(values, type):
        if form is list:
            members.extend(itertools.chain.from_iterable(run))
        else:
            text = join_text(run)
            members.extend([{"type": "text", "text": text}] if text else [])
    groups: list[list[Any]] = []
    by_kind: dict[tuple[int, str], list[Any]] = {}
    latest: dict[int, str] = {}  # by index, for a piece that has no type
    for member in members:
        found = as_object(member)
        index = valid_index(found)
        if index is None:
            groups.append([member])
            continue
        kind = str(found.get("type") or latest.get(index, ""))
        group: list[Any] = by_kind.get((index, kind)) or by_kind.pop((index, ""), [])
        if not group:
            groups.append(group)
        group.append(member)
        by_kind[index, kind], latest[index] = group, kind
    return [merge_objects(holder, group) if len(group) > 1 else group[0] for group in groups]


def join_text(pieces: Iterable[str]) -> str:
    """Join pieces of text; a surrogate pair that was split over two of them is whole again."""
    return "".join(pieces).encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")


def group_tool_calls(pieces: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Group pieces of tool calls by the call that they belong to.

    A known id decides; else a new id with a name starts a call, though its index is taken; else the index decides.
    What has neither id nor name, at an index that nothing started or without one, continues the call under way.
    """
    calls: list[list[dict[str, Any]]] = []
    under_way: list[dict[str, Any]] = []
    by_index: dict[int | None, list[dict[str, Any]]] = {}
    by_id: dict[str, list[dict[str, Any]]] = {}
    for piece in pieces:
        index, identity = valid_index(piece), str(piece.get("id") or "")
        named = as_object(piece.get("function")).get("name") or as_object(piece.get("custom")).get("name")
        call = by_id.get(identity, [])
        if not call and not (identity and named) and index is not None:
            call = by_index.get(index, [])
        if not call and not identity and not named:
            call = under_way
        if not call:
            call = [piece]
            calls.append(call)
            by_index[index] = call
        else:
            call.append(piece)
        by_index.setdefault(index, call)
        if identity:
            by_id[identity] = call
        under_way = call
    return calls


def merge_tool_call(pieces: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the tool call that its pieces amount to, fit to be sent back."""
    call = merge_objects("tool_calls", [{**piece, "index": None} for piece in pieces])
    if is_object(call.get("function")):
        call["function"].setdefault("arguments", "")
    return {**call, "type": call.get("type") or ("custom" if "custom" in call else "function")}


def api_error(text: str, headers: Any, api_key: str, status: int | None = None, reason: str = "") -> APIError:
    """Return the error that the text of an HTTP body or of an event describes, JSON or not."""
    code, message, told_status = find_error(parse_json(text))
    return APIError(
        one_line(message or text, api_key) or reason or "no reason given",
        status=status or told_status,
        code=one_line(code, api_key) if isinstance(code, str) else code,
        body=redact(text[:_ERROR_BODY_BYTES], api_key),
        headers=headers,
        request_id=find_request_id(headers, api_key),
    )


def find_error(document: Any) -> tuple[str | int | None, str | None, int | None]:
    """Return the code, the message and the HTTP status in a JSON error.

    Gateways nest `error` (an object, a string, a list), `message` and `detail` in all ways; the innermost tells most.
    """
    code: str | int | None = None
    status: int | None = None
    for _ in range(5):  # deeper than any that was seen, and an end for what was made to hurt
        if is_list(document) and document:
            document = document[0]
        if not is_object(document):
            break
        if isinstance(document.get("code"), (str, int)):
            code = document["code"]
        told = (str(document.get(name)) for name in ("code", "status", "status_code"))
        status = next((int(number) for number in told if number in _ERROR_STATUSES), status)
        nested: list[Any] = [document.get(name) for name in ("error", "message", "detail", "msg")]
        document = next((value for value in nested if value and type(value) in (str, list, dict)), None)
    return code, document if isinstance(document, str) else None, status


def find_request_id(headers: Any, api_key: str) -> str | None:
    """Return what the gateway calls this request."""
    request_id = headers.get("x-request-id") or headers.get("request-id")
    return one_line(request_id, api_key) if request_id else None


# ---- Settings and request body: all that is checked before anything is sent -----------------------------------------


@dataclass(frozen=True)
class _Settings:
    api_key: str = field(repr=False)
    base_url: str
    timeout: float
    max_retries: int
    headers: dict[str, str] = field(repr=False)


def require(condition: Any, kind: type[Exception], text: str) -> None:
    if not condition:
        raise kind(text)


def resolve_settings(config: Any) -> _Settings:
    """Fill in a configuration: each value as given, else from the environment, else the default."""
    if config is None or isinstance(config, str):
        config = EdgeeConfig(config)
    elif is_mapping(config):
        unknown = set(config) - {setting.name for setting in fields(EdgeeConfig)}
        require(not unknown, ValueError, f"unknown setting: {', '.join(sorted(map(str, unknown)))}")
        config = EdgeeConfig(**config)
    expected = f"config must be an API key, an EdgeeConfig or a dict, not {type(config).__name__}"
    require(isinstance(config, EdgeeConfig), TypeError, expected)
    retries = _MAX_RETRIES if config.max_retries is None else config.max_retries
    require(type(retries) is int, TypeError, "max_retries must be a whole number")
    require(retries >= 0, ValueError, "max_retries must be 0 or more")
    return _Settings(
        check_api_key(config.api_key or os.environ.get("EDGEE_API_KEY")),
        check_base_url(config.base_url or os.environ.get("EDGEE_BASE_URL") or _BASE_URL),
        check_timeout(config.timeout, _TIMEOUT_SECONDS),
        retries,
        check_headers({} if config.headers is None else config.headers),
    )


def check_api_key(key: Any) -> str:
    """Return the key if it can stand in a header. No message shows any of it."""
    require(key, ValueError, "EDGEE_API_KEY is not set")
    require(isinstance(key, str), TypeError, f"api_key must be a str, not {type(key).__name__}")
    problem = "api_key has a character that is not visible ASCII: a space or a line end, perhaps"
    require(is_visible_ascii(key), ValueError, problem)
    return str(key)


def check_base_url(url: Any) -> str:
    """Return the URL without a trailing / or /v1. No message shows it, for it may hold a password."""
    from urllib.parse import urlsplit

    require(isinstance(url, str), TypeError, f"base_url must be a str, not {type(url).__name__}")
    try:
        parts = urlsplit(str(url))
        valid = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        valid = False
    valid = valid and is_visible_ascii(url) and not set("?#@") & set(url)
    problem = "base_url must be http:// or https:// with a host, and have no user, query or fragment"
    require(valid, ValueError, problem)
    url = url.rstrip("/")
    return str(url[: -len("/v1")].rstrip("/") if url.endswith("/v1") else url)


def check_timeout(seconds: Any, default: float) -> float:
    """Return the time limit in seconds, the default for None."""
    if seconds is None:
        return default
    number = isinstance(seconds, (int, float)) and not isinstance(seconds, bool)
    require(number, TypeError, f"timeout must be a number of seconds, not {type(seconds).__name__}")
    require(0 < seconds < float("inf"), ValueError, f"timeout must be a positive number of seconds, not {seconds}")
    return float(min(seconds, _LONGEST_SECONDS))


def check_headers(headers: Any) -> dict[str, str]:
    """Return the headers if they can be sent (RFC 9110, 5.1 and 5.5). No message shows a value."""
    require(isinstance(headers, Mapping), TypeError, f"headers must be a dict, not {type(headers).__name__}")
    for name, value in headers.items():
        strings = isinstance(name, str) and isinstance(value, str)
        require(strings, TypeError, f"headers must be str to str: see {name!r}")
        sendable = name and set(name) <= _HEADER_NAME_CHARACTERS and name.lower() not in _FRAMING_HEADERS
        require(sendable, ValueError, f"headers has a name that cannot be sent: {name!r}")
        sendable = is_visible_ascii(value.replace(" ", "").replace("\t", ""))
        require(sendable, ValueError, f"headers has a value that cannot be sent, for {name!r}")
    return dict(headers)


def is_visible_ascii(text: str) -> bool:
    """Whether all of a text is between ! and ~, as nothing that ends a word or a line is."""
    return text.isascii() and text.isprintable() and " " not in text


def build_body(model: Any, input: Any, stream: bool) -> tuple[bytes, dict[str, str]]:
    """Return the body of a request, and the headers that some of the input's fields become."""
    require(isinstance(model, str), TypeError, f"model must be a str, not {type(model).__name__}")
    require(model.strip(), ValueError, "model is empty")
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
    expected = f"input must be a str, a list, a dict or an InputObject, not {type(input).__name__}"
    require(is_a(input, list, tuple, InputObject) or is_mapping(input), TypeError, expected)
    if isinstance(input, InputObject):
        asked = input_as_json(input)
        extra: Any = asked.pop("extra_body", {})
        require(is_mapping(extra), TypeError, f"extra_body must be a dict, not {type(extra).__name__}")
        asked.update(extra)
    else:
        asked = dict(input) if is_mapping(input) else {"messages": input}
    messages: Any = asked.get("messages", ())
    expected = f"messages must be a list, not {type(messages).__name__}"
    require(is_a(messages, list, tuple, type(None)), TypeError, expected)
    require(messages, ValueError, "input has no messages")
    for n, message in enumerate(messages):
        expected = f"messages[{n}] must be a dict or a Message, not {type(message).__name__}"
        require(is_a(message, Message) or is_mapping(message), TypeError, expected)
    return asked


def input_as_json(value: Any) -> dict[str, Any]:
    """Return what one of the input classes stands for: its fields that are not None."""
    if is_mapping(value):
        return dict(value)
    known = isinstance(value, (InputObject, Message, Tool, FunctionDefinition, ToolCall))
    require(known, TypeError, f"a {type(value).__name__} is no JSON")
    members = ((member.name, getattr(value, member.name)) for member in fields(value))
    return {name: member for name, member in members if member is not None}


# ---- Transport: sockets, TLS, proxies, kept connections. Every wait has an end. -------------------------------------
#
# urllib.request finds the proxy; http.client writes the request and reads the answer, through a _Connection, which
# holds all reads to one deadline. The key goes into the request's Authorization header, and nowhere else.


class _DeadlineSocket(io.RawIOBase):
    """The bytes from a socket: however many reads they take, all of them end at one deadline."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.seconds: float | None = None  # to the deadline, from the first read on; None takes only what is there
        self.deadline: float | None = None  # of time.monotonic()
        self.received = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        left = 0.0
        if self.seconds is not None:
            now = time.monotonic()
            self.deadline = now + self.seconds if self.deadline is None else self.deadline
            left = self.deadline - now
            if left <= 0:
                raise TimeoutError("timed out")
        self.sock.settimeout(left)
        count = self.sock.recv_into(buffer)
        self.received = self.received or count > 0
        return count


class _Connection(io.BufferedReader):
    """A connection, and the answer that is being read from it.

    http.client takes it both for a socket and for the file of an answer. Unlike that file it outlives the answer,
    and so notices what a server sends too much.
    """

    response: http.client.HTTPResponse
    headers: _Headers

    def __init__(self, sock: socket.socket, host: str, api_key: str, closing: threading.Event) -> None:
        from http.client import HTTPException

        self.breaks = (OSError, HTTPException)  # what reading an answer may raise
        self.source = _DeadlineSocket(sock)
        super().__init__(self.source, _BLOCK_BYTES)
        self.sock, self.host, self.api_key = sock, host, api_key
        self.closing = closing  # set by Edgee.close()
        self.failure: NetworkError | None = None  # put off until the events before it are delivered
        self.ended = False  # nothing of the answer is missing
        self.idle_since = 0.0

    def makefile(self, mode: str) -> _Connection:
        return self

    def close(self) -> None:
        """Do nothing: http.client closes its file where an answer ends, and the connection goes on."""

    flush = close  # which comes before it, at times from the garbage collector

    def limit_wait(self, seconds: float | None) -> None:
        """Have all reads from the next one on, until this is called again, end after so many seconds."""
        self.source.seconds, self.source.deadline = seconds, None

    def hang_up(self) -> None:
        if hasattr(self, "response"):
            self.response.close()
        self.sock.close()

    def is_reusable(self) -> bool:
        """Whether a new request can be sent; waits a moment for the end of the last answer's body."""
        import ssl

        self.limit_wait(_DRAIN_SECONDS)
        try:
            while read_block(self):
                pass
            self.limit_wait(None)
            self.peek()  # what there is to read now is the end of the connection, or garbage
        except (BlockingIOError, ssl.SSLWantReadError):
            return time.monotonic() - self.idle_since < _IDLE_SECONDS
        except self.breaks:
            pass
        return False


class _Connections:
    """The connections of one client, busy and idle; a handler of urllib.request's."""

    def __init__(self, api_key: str) -> None:
        self._api_key = api_key
        self._tls_context: ssl.SSLContext | None = None
        self._start()

    def _start(self) -> None:
        self._lock = threading.RLock()  # reentrant, for the garbage collector may close a generator at any moment
        self._process = os.getpid()
        self._idle: list[_Connection] = []
        self._busy: set[_Connection] = set()
        self.closing = threading.Event()

    def add_parent(self, opener: Any) -> None:
        """Do nothing: OpenerDirector.add_handler() asks for it."""

    def http_open(self, request: urllib.request.Request) -> _Connection:
        """Send a request; return its connection when the head of the answer was read."""
        deadline = time.monotonic() + (request.timeout or 0)
        connection = self._take_idle()
        if connection:
            try:
                return self._converse(connection, request, deadline)
            except NetworkError as error:
                error.died_idle = error.unanswered
                raise
        return self._converse(self._connect(request, deadline), request, deadline)

    https_open = http_open

    def release(self, connection: _Connection) -> None:
        """Keep a connection whose answer has ended for the next request, hang up any other."""
        with self._lock:
            self._busy.discard(connection)
            kept = connection.ended and not connection.response.will_close and not connection.closing.is_set()
            kept = kept and len(self._idle) < _IDLE_CONNECTIONS
            if kept:
                connection.idle_since = time.monotonic()
                self._idle.append(connection)
        if not kept:
            connection.hang_up()

    def close(self) -> None:
        """Hang up what is idle, and break what is busy, for its reader to hang up."""
        self._leave_to_parent()
        with self._lock:
            self.closing.set()
            self.closing = threading.Event()
            idle, busy, self._idle = self._idle, list(self._busy), []
        for connection in idle:
            connection.hang_up()
        for connection in busy:
            import socket

            with contextlib.suppress(OSError):  # it ended a moment ago
                # Not SSLSocket.shutdown(), after which its reader would take encrypted bytes for the answer.
                socket.socket.shutdown(connection.sock, socket.SHUT_RDWR)

    def _leave_to_parent(self) -> None:
        """After a fork, let go of connections that are the parent's, and of a lock that may be held for ever."""
        if self._process != os.getpid():
            idle = self._idle
            self._start()
            for connection in idle:
                connection.hang_up()

    def _take_idle(self) -> _Connection | None:
        self._leave_to_parent()
        while True:
            with self._lock:
                if not self._idle:
                    return None
                connection = self._idle.pop()
                self._busy.add(connection)
            if connection.is_reusable():
                return connection
            connection.ended = False
            self.release(connection)

    def _connect(self, request: urllib.request.Request, deadline: float) -> _Connection:
        from http.client import HTTPException
        from urllib.parse import urlsplit

        closing, target, sock = self.closing, urlsplit(request.full_url), None
        deadline = min(deadline, time.monotonic() + _CONNECT_SECONDS)
        try:
            sock = open_socket(request.host, 443 if request.type == "https" else 80, deadline)
            if request.type == "https":
                if request.host != target.netloc and not request.has_proxy():
                    open_tunnel(sock, request, target.netloc if target.port else f"{target.netloc}:443", deadline)
                with self._lock:
                    self._tls_context = self._tls_context or make_tls_context()
                sock.settimeout(max(deadline - time.monotonic(), 0.001))
                sock = self._tls_context.wrap_socket(sock, server_hostname=target.hostname)
        except BaseException as error:
            if sock is not None:
                sock.close()
            if isinstance(error, (OSError, UnicodeError, HTTPException)):
                raise connect_error(error, target.netloc) from error
            raise
        connection = _Connection(sock, target.netloc, self._api_key, closing)
        with self._lock:
            self._busy.add(connection)
            if not closing.is_set():
                return connection
        self.release(connection)
        raise StreamInterruptedError("the client was closed")

    def _converse(self, connection: _Connection, request: urllib.request.Request, deadline: float) -> _Connection:
        from http.client import HTTPException

        answered = False
        headers = {**dict(request.header_items()), "Host": connection.host}
        if request.type == "https" and not request.has_proxy():
            headers.pop("Proxy-authorization", None)  # which is between the proxy and us
        try:
            exchange_heads(connection, request.get_method(), request.selector, request.data, headers, deadline)
            answered = True
            return connection
        except OSError as error:
            waited = f"no answer from {connection.host} within {request.timeout:g} s"
            failure = network_error(error, connection, waited, NetworkError)
            failure.unanswered = type(failure) is NetworkError and not connection.source.received
            raise failure from error
        except HTTPException as error:
            reason = one_line(f"{type(error).__name__}: {error}", self._api_key)
            raise ProtocolError(f"{connection.host} sent no HTTP answer: {reason}") from None
        finally:
            if not answered:
                self.release(connection)


def open_socket(host: str, default_port: int, deadline: float) -> socket.socket:
    """Connect to a host; each of its addresses gets a fair share of the time that is left."""
    import socket
    from urllib.parse import urlsplit

    parts = urlsplit(f"//{host}")
    addresses = socket.getaddrinfo(parts.hostname, parts.port or default_port, type=socket.SOCK_STREAM)
    for untried, (*_, address) in zip(range(len(addresses), 0, -1), addresses):
        try:
            seconds = max(deadline - time.monotonic(), 0.001) / untried
            sock = socket.create_connection((str(address[0]), int(address[1])), timeout=seconds)
        except OSError:
            if untried == 1:
                raise
        else:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            idle_option = getattr(socket, "TCP_KEEPIDLE", None) or getattr(socket, "TCP_KEEPALIVE", None)  # of macOS
            if idle_option:
                sock.setsockopt(socket.IPPROTO_TCP, idle_option, _KEEPALIVE_SECONDS)
            return sock
    raise OSError("the host has no address")


def open_tunnel(sock: socket.socket, request: urllib.request.Request, target: str, deadline: float) -> None:
    """Have a proxy connect a socket to the gateway. It sees the gateway's name, and never the key."""
    headers, authorization = {"Host": target}, request.get_header("Proxy-authorization")
    if authorization:
        headers["Proxy-Authorization"] = authorization
    proxy = _Connection(sock, target, "", threading.Event())
    exchange_heads(proxy, "CONNECT", target, None, headers, deadline)
    if proxy.response.status != 200:
        raise OSError(f"the proxy {request.host} refused: {proxy.response.status} {proxy.response.reason}")


def exchange_heads(
    connection: _Connection, method: str, target: str, body: Any, headers: dict[str, str], deadline: float
) -> None:
    """Send a request, and read the head of its answer into `connection.response`."""
    from http.client import HTTPConnection, HTTPResponse

    reader: Any = connection
    connection.ended = connection.source.received = False
    seconds = max(deadline - time.monotonic(), 0.001)
    connection.limit_wait(seconds)
    connection.sock.settimeout(seconds)
    writer = HTTPConnection(headers["Host"])
    writer.sock = connection.sock
    writer.debuglevel = 0  # which a program may have set for all, and which prints the key
    with contextlib.suppress(ConnectionError):  # it may have said why before it hung up: 413, say
        writer.request(method, target, body, headers)
    while True:
        connection.response = HTTPResponse(reader, method=method)
        connection.response.begin()
        if connection.response.status >= 200:  # http.client itself passes over 100 alone
            break
    connection.headers = _Headers()
    for name, value in connection.response.headers.items():
        name, value = name.lower(), redact(value, connection.api_key)  # after the framing was read from them
        connection.headers[name] = f"{connection.headers[name]}, {value}" if name in connection.headers else value


def make_tls_context() -> ssl.SSLContext:
    """Return a context that verifies, by the system's certificates or those of SSL_CERT_FILE."""
    import ssl

    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    folder = ssl.get_default_verify_paths().capath
    if not context.cert_store_stats()["x509_ca"] and not (folder and os.listdir(folder)):
        with contextlib.suppress(ImportError):  # some Pythons for macOS come without certificates
            context.load_verify_locations(importlib.import_module("certifi").where())
    return context


def connect_error(error: BaseException, host: str) -> NetworkError:
    """Return what it means for the caller that a connection could not be made."""
    import ssl

    if isinstance(error, ssl.SSLCertVerificationError):
        hint = "if you trust it, name its CA's file in SSL_CERT_FILE"
        return NetworkError(f"the certificate of {host} is not trusted: {error.verify_message}; {hint}")
    kind = RequestTimeoutError if is_timeout(error) else NetworkError
    failure = kind(f"could not connect to {host}: {error}")
    failure.unanswered = True
    return failure


def network_error(error: Exception, connection: _Connection, waited: str, broken: type[NetworkError]) -> NetworkError:
    """Return what an error of the standard library's means for the caller; `waited` is what to say of a time-out."""
    if connection.closing.is_set():
        return StreamInterruptedError("the client was closed before the answer was complete")
    if is_timeout(error):
        return RequestTimeoutError(waited)
    return broken(f"the connection to {connection.host} broke: {error}")


def is_timeout(error: BaseException) -> bool:
    """Whether our own time limit ended a wait."""
    import socket

    # Before 3.10 socket.timeout was no TimeoutError. ETIMEDOUT always was: it is a connection that broke.
    return isinstance(error, (TimeoutError, socket.timeout)) and error.errno is None


def read_block(connection: _Connection) -> bytes:
    """Return the next bytes of an answer's body, none at its end; raise if that came too early."""
    block = connection.response.read1(_BLOCK_BYTES)
    if not block:
        check_end(connection)
    return block


def check_end(connection: _Connection) -> None:
    """Note that an answer's body has ended, unless it was cut."""
    if connection.closing.is_set():
        raise ConnectionAbortedError("the client was closed")
    if connection.response.length:  # read1() itself notices this with chunked coding alone
        raise ConnectionResetError(f"{connection.response.length} bytes of the body are missing")
    connection.ended = True
    connection.response.close()  # which http.client forgets, before 3.13, where there was a Content-Length


def read_events(connection: _Connection, parser: EventStreamParser, timeout: float) -> list[tuple[str, str]]:
    """Return the next events of an answer as soon as there are any, none at the end of its body.

    Comments and keep-alive bytes do not prolong the wait. If the answer is cut, its last event is returned all the
    same if the JSON is whole, and the error raised after it.
    """
    if connection.failure:
        raise connection.failure
    connection.source.deadline = None  # begins anew; limit_wait() has said how long it is
    try:
        while True:
            block = connection.response.read1(_BLOCK_BYTES)  # not read_block(), which costs each chunk a call
            if not block:
                check_end(connection)
                break
            events = parser.feed(block)
            if events:
                return events
    except connection.breaks as error:
        waited = f"no event from {connection.host} within {timeout:g} s"
        connection.failure = network_error(error, connection, waited, StreamInterruptedError)
        connection.failure.__cause__ = error
    dangling = parser.unended.strip()
    last = parser.finish()
    if last and (last[1].strip() == "[DONE]" or type(parse_json(last[1])) is dict):
        return [last]
    if not connection.failure and (last or (dangling and not dangling.startswith(b":"))):
        connection.failure = StreamInterruptedError("the stream was cut in the middle of an event")
    if connection.failure:
        raise connection.failure
    return []


def read_body(connection: _Connection, body: bytearray, limit: int, seconds: float) -> None:
    """Read an answer's body, or somewhat more than `limit` bytes of it, into a buffer that keeps them if it breaks."""
    connection.limit_wait(seconds)
    while len(body) <= limit:
        block = read_block(connection)
        if not block:
            break
        body += block


def read_answer(connection: _Connection, timeout: float) -> dict[str, Any]:
    """Return the JSON object that is an answer's body; raise the error that it is."""
    body = bytearray()
    try:
        read_body(connection, body, _EVENT_BYTES, timeout)
    except connection.breaks as error:
        waited = f"no whole answer from {connection.host} within {timeout:g} s"
        raise network_error(error, connection, waited, StreamInterruptedError) from error
    require(len(body) <= _EVENT_BYTES, ProtocolError, f"the answer is longer than {_EVENT_BYTES >> 20} MiB")
    text = body.decode("utf-8", "replace")
    try:
        raw = decode_event("message", text, connection.headers, connection.api_key)
    except ProtocolError:
        if is_cut_json(text.strip()):
            raise StreamInterruptedError(f"the answer of {connection.host} was cut after {len(body)} bytes") from None
        raise
    if raw is None:  # [DONE] is the end of a stream, and no answer by itself
        raise ProtocolError(f"the gateway sent no JSON object: {one_line(text, connection.api_key)}")
    return raw


def is_cut_json(text: str) -> bool:
    """Whether a text is the beginning of a JSON object, and not all of one."""
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        at_end = error.pos >= len(text) or not text.endswith("}") or error.msg.startswith("Unterminated string")
        return at_end and text.startswith("{")
    except (ValueError, RecursionError):
        pass
    return False


def read_excerpt(connection: _Connection, timeout: float) -> str:
    """Return the start of a body that is only there to be shown, or as much of it as comes soon."""
    body = bytearray()
    with contextlib.suppress(*connection.breaks):  # what the status or the content type says is news enough
        read_body(connection, body, _ERROR_BODY_BYTES, min(timeout, _CONNECT_SECONDS))
    return body[:_ERROR_BODY_BYTES].decode("utf-8", "replace")


def check_answer(connection: _Connection, timeout: float) -> None:
    """Raise unless the head of an answer promises one that can be read."""
    response, headers, api_key = connection.response, connection.headers, connection.api_key
    reason = one_line(response.reason, api_key)
    log("%d %s, request id %s", response.status, reason, find_request_id(headers, api_key))
    encoding = headers.get("content-encoding", "")
    names = {name.strip().lower() for name in encoding.split(",")}
    readable = not _REAL_ENCODINGS & {name[2:] if name.startswith("x-") else name for name in names}
    if 200 <= response.status < 300:
        problem = f"the answer is encoded as {one_line(encoding, api_key)}, which was not asked for"
        require(readable, ProtocolError, problem)
        return
    text = read_excerpt(connection, timeout) if readable else ""
    error = api_error(text, headers, api_key, response.status, reason)
    if response.status < 400:
        target = one_line(headers.get("location", "nowhere"), api_key)
        error.message = f"redirect to {target} not followed, for the key would go with it; see base_url"
    error.retry_after = parse_retry_after(headers)
    raise error


def parse_retry_after(headers: Any) -> float | None:
    """Return the seconds to wait by retry-after-ms or Retry-After (RFC 9110, 10.2.3), None if not given."""
    from email.utils import mktime_tz, parsedate_tz

    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        value = str(headers.get(name))
        if value.isascii() and value.replace(".", "", 1).isdecimal():
            return float(value) * unit
    try:
        date = parsedate_tz(headers.get("retry-after") or "")
        return max(0.0, mktime_tz(date) - time.time()) if date else None
    except (ValueError, OverflowError):
        return None


def check_reasons(reasons: Iterable[Any]) -> None:
    """Raise if a finish reason says that the gateway gave up: what came is then no whole answer."""
    for reason in reasons:
        if reason in _GAVE_UP_REASONS:
            raise StreamInterruptedError(f"the gateway gave up: its finish reason is {reason}")


def retry_seconds(error: EdgeeError, attempt: int) -> float | None:
    """Return how long to wait before the request is sent again, None if it must not be."""
    import random

    if isinstance(error, APIError):
        no_credit = error.status == 429 and error.code in _NO_CREDIT_CODES and error.retry_after is None
        if (error.status or _STATUS_OF_CODE.get(str(error.code))) not in _RETRIED_STATUSES or no_credit:
            return None
        if error.retry_after is not None:
            return error.retry_after if error.retry_after <= _LONGEST_RETRY_AFTER_SECONDS else None
    elif not (isinstance(error, NetworkError) and error.unanswered):
        return None
    elif error.died_idle:
        return 0.0
    return min(_FIRST_BACKOFF_SECONDS * 2.0 ** min(attempt, 10), _LAST_BACKOFF_SECONDS) * random.uniform(0.75, 1.0)


def wait(closing: threading.Event, seconds: float) -> None:
    """Wait before a request is sent again; the one place where that is done."""
    if closing.wait(seconds):
        raise StreamInterruptedError("the client was closed")


def open_stream(connection: _Connection, timeout: float) -> tuple[EventStreamParser, list[tuple[str, str]]]:
    """Return the parser of an answer's stream and its first events; raise the error that the first one is."""
    headers, parser = connection.headers, EventStreamParser()
    kind = headers.get("content-type", "no content type").partition(";")[0].strip().lower()
    if kind == "text/event-stream":
        connection.limit_wait(timeout)
        events = read_events(connection, parser, timeout)
    elif kind == "application/json":
        events = [("message", json.dumps(read_answer(connection, timeout)))]
    else:
        start = one_line(read_excerpt(connection, timeout), connection.api_key)
        raise ProtocolError(f"the answer is no event stream but {one_line(kind, connection.api_key)}: {start}")
    if events:
        decode_event(*events[0], headers, connection.api_key)
    return parser, events


def log(message: str, *values: object) -> None:
    import logging

    logging.getLogger("edgee").debug(message, *values)


# ---- The client ------------------------------------------------------------------------------------------------------


class Edgee:
    """A client of the Edgee AI Gateway, which may be shared between threads.

    config: an API key, an EdgeeConfig, a dict with the same keys, or None to take all from the environment. Raises
    ValueError or TypeError if a setting is missing or wrong. Connections are kept for later requests until close(),
    or the end of a `with` block.
    """

    def __init__(self, config: str | EdgeeConfig | Mapping[str, Any] | None = None) -> None:
        self._settings = resolve_settings(config)
        self._connections = _Connections(self._settings.api_key)
        self.proxies: dict[str, str] | None = None  # None: as the environment says; {}: past any, for --demo
        self._opener: urllib.request.OpenerDirector | None = None
        weakref.finalize(self, self._connections.close)

    def __enter__(self) -> Edgee:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close idle connections, and end running streams with StreamInterruptedError.

        May be called from any thread; a later call opens a new connection.
        """
        self._connections.close()

    if TYPE_CHECKING:

        @overload
        def send(
            self, model: str, input: Input, stream: Literal[False] = False, *, timeout: float | None = None
        ) -> SendResponse: ...
        @overload
        def send(
            self, model: str, input: Input, stream: Literal[True], *, timeout: float | None = None
        ) -> Generator[StreamChunk, None, None]: ...
        @overload
        def send(
            self, model: str, input: Input, stream: bool, *, timeout: float | None = None
        ) -> SendResponse | Generator[StreamChunk, None, None]: ...

    def send(
        self, model: str, input: Input, stream: bool = False, *, timeout: float | None = None
    ) -> SendResponse | Generator[StreamChunk, None, None]:
        """Ask for a completion; return the whole answer, or with stream=True what stream() returns.

        model: such as "gpt-5.2". input: a prompt (str), a list of messages, an InputObject, or a dict with `messages`
        and any other field of the request's body, which is sent as it is. timeout: seconds to wait for the answer,
        else the client's.

        Raises ValueError or TypeError for a wrong argument; APIError, NetworkError or ProtocolError if there is no
        answer.
        """
        seconds = check_timeout(timeout, self._settings.timeout)
        body, headers = build_body(model, input, stream)
        if stream:
            request = self._make_request("chat/completions", {**headers, "Accept": "text/event-stream"}, body)
            return self._stream(request, seconds)
        request = self._make_request("chat/completions", headers, body)
        connection, raw = self._exchange(request, seconds, read_answer)
        self._connections.release(connection)
        response = parse_response(raw, connection.headers)
        check_reasons(choice.finish_reason for choice in response.choices)
        return response

    def stream(self, model: str, input: Input, *, timeout: float | None = None) -> Generator[StreamChunk, None, None]:
        """Ask for a completion; yield its chunks as they arrive (the stream method).

        Arguments as for send(); timeout: seconds to wait for the answer to begin, and then for each next event.
        Nothing is sent before the first chunk is asked for. Closing or dropping the generator frees its connection.

        Wrong arguments raise at once. Iterating raises as send() does, and StreamInterruptedError if the answer is
        cut, after every chunk that did arrive.
        """
        return self.send(model, input, True, timeout=timeout)

    def models(self) -> list[Model]:
        """Return the models that the gateway offers; raises as send() does."""
        connection, raw = self._exchange(self._make_request("models", {}), self._settings.timeout, read_answer)
        self._connections.release(connection)
        found = json_objects(raw.get("data"))
        return [Model(model.get("id", ""), model.get("owned_by"), model.get("created")) for model in found]

    def _make_request(self, path: str, headers: dict[str, str], body: bytes | None = None) -> urllib.request.Request:
        from urllib.request import Request

        settings = self._settings
        common = {"Authorization": f"Bearer {settings.api_key}", "User-Agent": f"edgee-py/{__version__}"}
        if body is not None:
            common["Content-Type"] = "application/json"
        return Request(f"{settings.base_url}/v1/{path}", body, {**common, **settings.headers, **headers})

    def _exchange(
        self, request: urllib.request.Request, timeout: float, read: Callable[[_Connection, float], Any]
    ) -> tuple[_Connection, Any]:
        """Send a request, again where that is safe; return the connection and what `read` made of the answer."""
        for attempt in itertools.count():
            closing = self._connections.closing
            log("%s %s, attempt %d", request.get_method(), request.full_url, attempt + 1)
            try:
                connection = self._open(request, timeout)
                try:
                    check_answer(connection, timeout)
                    return connection, read(connection, timeout)
                except BaseException:
                    self._connections.release(connection)
                    raise
            except EdgeeError as error:
                seconds = retry_seconds(error, attempt)
                if seconds is None or attempt >= self._settings.max_retries:
                    raise
                log("trying again in %.2f s: %s", seconds, error)
            wait(closing, seconds)
        raise AssertionError("count() has no end")

    def _open(self, request: urllib.request.Request, timeout: float) -> _Connection:
        import urllib.request

        if self._opener is None:
            handler: Any = self._connections
            proxies = urllib.request.getproxies_environment() if self.proxies is None else self.proxies
            opener = urllib.request.OpenerDirector()  # with these two handlers alone, nothing follows a redirect
            opener.add_handler(handler)
            opener.add_handler(urllib.request.ProxyHandler(proxies))
            self._opener = opener
        try:
            connection: _Connection = self._opener.open(copy.copy(request), timeout=timeout)  # ProxyHandler changes it
            return connection
        except ValueError as error:
            raise NetworkError("the proxy that the environment names is not a valid URL") from error

    def _stream(self, request: urllib.request.Request, timeout: float) -> Generator[StreamChunk, None, None]:
        connection, (parser, events) = self._exchange(request, timeout, open_stream)
        headers, api_key = connection.headers, self._settings.api_key
        member = message_member(headers)
        reasons: dict[int, Any] = {}  # by choice, why it ended
        try:
            while events:
                for name, data in events:
                    raw = decode_event(name, data, headers, api_key)
                    if raw is None:
                        if not reasons:
                            raise StreamInterruptedError("the stream ended before any choice came")
                        check_reasons(reasons.values())
                        connection.ended = True
                        return
                    chunk = parse_chunk(raw, headers, member)
                    for choice in chunk.choices:
                        if choice.finish_reason:
                            reasons[choice.index] = choice.finish_reason
                        elif choice.index not in reasons:
                            reasons[choice.index] = None
                    yield chunk
                events = read_events(connection, parser, timeout) if member == "delta" else []
            # A JSON answer was framed and whole, with or without a finish reason, as send() has it.
            if not reasons or (member == "delta" and not all(reasons.values())):
                raise StreamInterruptedError("the stream ended before the answer was complete")
            check_reasons(reasons.values())
        finally:
            self._connections.release(connection)


# ---- The command line: the answer on standard output, all else on standard error -------------------------------------

_USAGE = """
  {0} "Tell me a story"
  git diff | {0} "Write a commit message" --model openai/gpt-5.2
  {0} --demo "Tell me a story"     (needs no key and no network)
  {0} [options] [prompt ...]"""
_ENDING = """\
environment: EDGEE_API_KEY, EDGEE_BASE_URL, EDGEE_MODEL, SSL_CERT_FILE,
HTTPS_PROXY, HTTP_PROXY, NO_PROXY
exit status: 0 done; 1 the gateway, the network or the stream failed;
2 wrong usage; 130 interrupted"""
_DEMO_SECONDS = 0.02  # between two words
_DEMO_ANSWER = """Once there was a file that was all there was to a client. Whoever was to trust it read it over a \
coffee, from its first line to its last, and knew what it sent, and to whom. Then they copied it and went home."""


def main(argv: list[str] | None = None) -> int:
    """Run the command line with these arguments, sys.argv's by default; return its exit status.

    0 done; 1 the gateway, the network or the stream failed; 2 wrong usage; 130 interrupted.
    """
    try:
        return run_command(parse_arguments(argv))
    except SystemExit as error:  # argparse has said why
        return int(error.code or 0)
    except KeyboardInterrupt:
        return 130
    except EdgeeError as error:
        return say(str(error), 1)
    except OSError as error:
        return end_output(error)


def end_output(error: OSError) -> int:
    """Return the exit status for output that could not be written; a pipe that was closed is no failure."""
    # What the interpreter still flushes at its exit must have somewhere to go.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if isinstance(error, BrokenPipeError) or error.errno == errno.EINVAL:  # which is what Windows says of one
        return 0
    return say(str(error), 1)


def say(text: str, status: int = 0) -> int:
    """Write a line to standard error, if there is one, and return the status."""
    if sys.stderr is not None:
        with contextlib.suppress(OSError, ValueError):
            print(f"edgee: {printable(text, keep='')}", file=sys.stderr, flush=True)
    return status


def printable(text: str, keep: str = "\n\t") -> str:
    """The text without what could control a terminal."""
    return "".join(c if c.isprintable() or c in keep else "\ufffd" for c in text)


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    import argparse

    spec = globals().get("__spec__")
    name = f"python -m {spec.name}" if spec else f"python {sys.argv[0]}"
    parser = argparse.ArgumentParser(
        prog=name, usage=_USAGE.format(name), formatter_class=argparse.RawDescriptionHelpFormatter, epilog=_ENDING,
        description="Stream an answer from the Edgee AI Gateway to standard output.",
    )  # fmt: skip
    add = parser.add_argument
    add("prompt", nargs="*", help="what to ask; text on standard input is put before it")
    add("-m", "--model", help=f"else EDGEE_MODEL, else {_MODEL}")
    add("-s", "--system", metavar="TEXT", help="a system message")
    add("-t", "--tag", action="append", default=[], help="a tag for the gateway's analytics; may be repeated")
    add("-o", "--option", nargs=2, action="append", default=[], metavar=("KEY", "VALUE"),
        help="any other field of the request, VALUE as JSON, else as text; may be repeated")  # fmt: skip
    add("--input", metavar="FILE", help="a JSON file, or - for standard input, with a whole input object")
    add("--json", action="store_true", help="print the JSON of each chunk, a line each")
    add("--no-stream", action="store_true", help="wait for the whole answer")
    add("--usage", action="store_true", help="end with a line on tokens, savings and time")
    add("--models", action="store_true", help="list the gateway's models")
    add("-H", "--header", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"), help="a header to send")
    add("--base-url", metavar="URL", help=f"else EDGEE_BASE_URL, else {_BASE_URL}")
    add("--timeout", type=float, metavar="SECONDS", help="the longest wait for the answer, and for each next event")
    add("--demo", action="store_true", help="ask a small gateway inside this process")
    add("--version", action="version", version=f"edgee {__version__}")
    return parser.parse_args(argv)


def run_command(arguments: argparse.Namespace) -> int:
    output: Any = sys.stdout
    if hasattr(output, "reconfigure"):
        output.reconfigure(errors="replace")  # text that a terminal cannot show is no reason to crash
    body: dict[str, Any] = {}
    try:
        edgee = make_client(arguments)
        if not arguments.models:
            body = read_question(arguments)
            build_body(body["model"], body, True)
    except (ValueError, TypeError, OSError) as error:
        hint = ": export EDGEE_API_KEY=…, or try --demo" if "EDGEE_API_KEY" in str(error) else ""
        return say(f"{error}{hint}", 2)
    with edgee:
        if arguments.models:
            print("".join(f"{model.id}\n" for model in edgee.models()), end="", flush=True)
        else:
            ask(edgee, body, arguments)
    return 0


def make_client(arguments: argparse.Namespace) -> Edgee:
    config = EdgeeConfig(None, arguments.base_url, arguments.timeout, None, dict(arguments.header))
    if not arguments.demo:
        return Edgee(config)
    require(not arguments.base_url, ValueError, "--demo has a gateway of its own: leave --base-url out")
    config.api_key, config.base_url = "demo", start_demo_gateway()
    edgee = Edgee(config)
    edgee.proxies = {}
    say("this is a demo; the answer comes from this process, and from no model")
    return edgee


def read_question(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the input object, with its model, that the arguments, the file and standard input amount to."""
    piped = read_standard_input()
    body: dict[str, Any] = {}
    if arguments.input:
        body = read_input_file(arguments.input, piped)
        piped = "" if arguments.input == "-" else piped
    prompt = "\n\n".join(text for text in (piped, " ".join(arguments.prompt)) if text.strip())
    require(prompt or arguments.input, ValueError, "nothing to ask: give a prompt, or text on standard input")
    for name, value in arguments.option:
        require("=" not in name, ValueError, f"-o takes a KEY and a VALUE: -o {name.replace('=', ' ', 1)}")
        taken = name in ("messages", "model", "stream")
        require(not taken, ValueError, f"-o {name} is not possible: see --input, --model and --no-stream")
        try:
            body[name] = json.loads(value)
        except (ValueError, RecursionError):
            body[name] = value
    system = [{"role": "system", "content": arguments.system}] if arguments.system else []
    user = [{"role": "user", "content": prompt}] if prompt else []
    body["messages"] = system + list_member(body, "messages") + user
    if arguments.tag:
        body["tags"] = list_member(body, "tags") + arguments.tag
    if arguments.usage and not arguments.no_stream:
        body["stream_options"] = {"include_usage": True, **(body.get("stream_options") or {})}
    body["model"] = arguments.model or body.get("model") or os.environ.get("EDGEE_MODEL") or _MODEL
    return body


def read_standard_input() -> str:
    if sys.stdin is None or sys.stdin.isatty():
        return ""
    try:
        return sys.stdin.buffer.read().decode("utf-8-sig").rstrip()
    except UnicodeDecodeError:
        raise ValueError("standard input is not UTF-8 text") from None


def read_input_file(name: str, piped: str) -> dict[str, Any]:
    text = piped
    if name != "-":
        with open(name, encoding="utf-8-sig") as file:
            text = file.read()
    try:
        asked: Any = json.loads(text)
    except (ValueError, RecursionError) as error:  # which says line and column
        raise ValueError(f"--input {name}: {error}") from None
    require(is_a(asked, dict, list), ValueError, f"--input {name} holds no object and no list of messages")
    return {"messages": asked} if is_list(asked) else dict(asked)


def list_member(body: dict[str, Any], name: str) -> list[Any]:
    value: Any = body.get(name) or []
    require(is_a(value, list), TypeError, f"{name} must be a list, not {type(value).__name__}")
    return [*value]


def ask(edgee: Edgee, body: dict[str, Any], arguments: argparse.Namespace) -> None:
    """Print an answer, and then what else there is to say about it."""
    start, first_text = time.monotonic(), None
    show = printable if sys.stdout is not None and sys.stdout.isatty() and not arguments.json else str
    if arguments.no_stream:
        response = edgee.send(body["model"], body)
        text = json.dumps(response.raw) if arguments.json else show(response.text or "")
        if text:
            print(text, end="" if text.endswith("\n") else "\n", flush=True)
    else:
        telling: list[StreamChunk] = []  # the first chunk, and those that are more than text
        last_text = "\n"
        joined = codecs.getincrementaldecoder("utf-16-le")("surrogatepass").decode  # of split surrogate pairs
        try:
            for chunk in edgee.stream(body["model"], body):
                if chunk.text and first_text is None:
                    first_text = time.monotonic() - start
                ours = bool(chunk.text and not chunk.choices[0].index)
                more = chunk.finish_reason or chunk.usage or chunk.compression or chunk.tool_calls
                if more or not ours or not telling:
                    telling.append(chunk)
                if arguments.json:
                    print(json.dumps(chunk.raw), flush=True)
                elif ours:
                    text = joined(str(chunk.text).encode("utf-16-le", "surrogatepass"))
                    last_text = text or last_text
                    print(show(text), end="", flush=True)
        finally:
            half = joined(b"", True)
            if half or not last_text.endswith("\n"):
                print(half, flush=True)
        response = SendResponse.from_chunks(telling)
    report(response, arguments.json)
    if arguments.usage:
        say(usage_line(response, body["model"], first_text, time.monotonic() - start))


def report(response: SendResponse, printed: bool) -> None:
    """Print the tool calls, unless they were `printed` as JSON, and warn of an answer that is not all there."""
    for call in [] if printed else response.tool_calls or []:
        print(json.dumps(call), flush=True)
    for choice in response.choices:
        if choice.finish_reason not in ("stop", "tool_calls", "function_call", None):
            say(f"warning: the answer may not be whole: {choice.finish_reason}")
    if len(response.choices) > 1 and not printed:
        say("warning: there is more than one choice; --json prints them all")


def usage_line(response: SendResponse, model: str, first_text: float | None, seconds: float) -> str:
    """Return the line that --usage asks for."""
    usage, saved = response.usage, response.compression
    tokens = "tokens not told"
    if usage:
        tokens = f"{usage.prompt_tokens} + {usage.completion_tokens} = {usage.total_tokens} tokens"
    parts = [str(response.model or model), f"finish reason {response.finish_reason}", tokens]
    if saved:
        parts.append(f"{saved.saved_tokens} tokens and ${saved.cost_savings / 1e6:.6f} saved")
    if first_text is not None:
        parts.append(f"first text after {first_text:.2f} s")
    return ", ".join([*parts, f"{seconds:.2f} s in all"])


def start_demo_gateway() -> str:
    """Start a small gateway on the loopback, in a thread that ends with the process; return its base URL."""
    from http.server import BaseHTTPRequestHandler
    from socketserver import ThreadingTCPServer

    class DemoGateway(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle(self) -> None:
            with contextlib.suppress(ConnectionError):  # somebody has heard enough
                super().handle()

        def do_GET(self) -> None:
            self.answer("application/json", [json.dumps({"data": [{"id": "demo", "owned_by": "edgee.py"}]})])

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
            words = f"You asked: {asked['messages'][-1]['content']}\n\n{_DEMO_ANSWER}".split(" ")
            usage = {"prompt_tokens": 8, "completion_tokens": len(words), "total_tokens": 8 + len(words)}
            if asked.get("stream"):
                texts = [words[0], *(f" {word}" for word in words[1:])]
                choices: list[Any] = [{"index": 0, "delta": {"role": "assistant", "content": text}} for text in texts]
                choices.append({"index": 0, "delta": {}, "finish_reason": "stop"})
            else:
                message = {"role": "assistant", "content": " ".join(words)}
                choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
            documents = [{"id": "demo-1", "model": asked["model"], "choices": [choice]} for choice in choices]
            documents[-1]["usage"] = usage
            texts = [json.dumps(document) for document in documents]
            if asked.get("stream"):
                self.answer("text/event-stream", [f"data: {text}\n\n" for text in [*texts, "[DONE]"]])
            else:
                self.answer("application/json", texts)

        def answer(self, content_type: str, pieces: list[str]) -> None:
            self.send_response(200)
            self.send_header("Content-Type", content_type)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for data in map(str.encode, [*pieces, ""]):
                self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
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
