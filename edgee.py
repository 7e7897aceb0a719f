"""Stream chat completions from the Edgee AI Gateway: one file, standard library only.

    from edgee import Edgee

    edgee = Edgee("your-api-key")  # or Edgee(), with EDGEE_API_KEY in the environment

    for chunk in edgee.stream("gpt-5.2", "Tell me a story"):
        if chunk.text:
            print(chunk.text, end="", flush=True)

    response = edgee.send("gpt-5.2", {"messages": [{"role": "user", "content": "Hi"}], "temperature": 0})
    print(response.text, response.usage)

On a command line: python -m edgee "Tell me a story"; with --demo it needs no key and no network.
What goes wrong once a request is under way is an EdgeeError, which is a RuntimeError; a wrong
argument is a ValueError or a TypeError, raised by the call itself before anything is sent.

Licence: not stated yet; ask the owner before you redistribute this file.
"""

from __future__ import annotations

import codecs
import contextlib
import copy
import errno
import io
import itertools
import json
import os
import string
import sys
import threading
import time
import weakref
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields

# The file is used by people who count milliseconds of start-up: `typing` is for checkers only,
# and `Any` for whoever asks typing.get_type_hints() about the dataclasses.
TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    import http.client
    import socket
    import ssl
    import urllib.request
    from typing import Any, Literal, Union, overload

    Input = Union[str, Sequence[Union["Message", Mapping[str, Any]]], Mapping[str, Any], "InputObject"]
else:
    Any = object

__version__ = "0.1.0"
__all__ = [
    "APIError", "Choice", "Compression", "Edgee", "EdgeeConfig", "EdgeeError", "EventStreamParser",
    "FunctionDefinition", "InputObject", "Message", "Model", "NetworkError", "ProtocolError",
    "RequestTimeoutError", "SendResponse", "StreamChoice", "StreamChunk", "StreamDelta",
    "StreamInterruptedError", "Tool", "ToolCall", "Usage", "main",
]  # fmt: skip

_BASE_URL = "https://api.edgee.ai"
_MODEL = "gpt-5.2"  # of the command line
_TIMEOUT_SECONDS = 600.0
_MAX_RETRIES = 2
_CONNECT_SECONDS = 10.0
_LONGEST_SECONDS = 2_000_000.0  # socket.settimeout() overflows past 24 days
_FIRST_BACKOFF_SECONDS, _LAST_BACKOFF_SECONDS = 0.5, 8.0
_LONGEST_RETRY_AFTER_SECONDS = 60.0
_RETRIED_STATUSES = frozenset({408, 409, 429, 500, 502, 503, 504})
_NO_CREDIT_CODES = frozenset({"usage_limit_exceeded", "insufficient_quota"})
_EVENT_BYTES = 16 * 1024 * 1024
_BLOCK_BYTES = 64 * 1024
_KEEPALIVE_SECONDS = 60  # so that a NAT's silent drop is found
_ERROR_STATUSES = frozenset(map(str, range(400, 600)))
_SWITCH_HEADERS = {
    "tool_result_trimming": "X-Edgee-Compression-Tool-Result-Trimming",
    "tool_surface_reduction": "X-Edgee-Compression-Tool-Surface-Reduction",
    "output_brevity": "X-Edgee-Compression-Brevity",
}
_HEADER_NAME_CHARACTERS = frozenset(string.ascii_letters + string.digits + "!#$%&'*+-.^_`|~")
_FRAMING_HEADERS = frozenset({"connection", "content-length", "host", "transfer-encoding"})
_ERROR_BODY_BYTES = 64 * 1024
_EXCERPT_CHARACTERS = 500
_IDLE_CONNECTIONS = 10
_IDLE_SECONDS = 60.0
_DRAIN_SECONDS = 0.1  # the end of a body follows [DONE] within a round trip, or is not worth the wait


# ------------------------------------------------------------------------------------------------
# What goes in. Each of these may also be given as the dict that it stands for.
# ------------------------------------------------------------------------------------------------


@dataclass
class EdgeeConfig:
    """Settings of a client. What is None comes from the environment, else from the default.

    api_key: EDGEE_API_KEY. base_url: EDGEE_BASE_URL, else https://api.edgee.ai. timeout: seconds to
    wait for the answer to begin and then for each next event, 600. max_retries: 2. headers: sent
    with every request.
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
    """What to ask. Fields that are None are not sent; `extra_body` (temperature, …) is merged in last.

    The three switches tool_result_trimming, tool_surface_reduction and output_brevity are sent as
    headers and override the settings of the API key.
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


# ------------------------------------------------------------------------------------------------
# What comes out. `raw` is always the JSON as it came, so that no field is ever lost.
# ------------------------------------------------------------------------------------------------


@dataclass
class Usage:
    """Tokens that were counted; a member that did not come is 0."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0


@dataclass
class Compression:
    """What the gateway saved: cost in millionths of a dollar, reduction in per cent, time in ms."""

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
    """What a chunk adds to a message. `content` may be a list of parts with some providers."""

    role: str | None = None
    content: str | list[dict[str, Any]] | None = None
    tool_calls: list[dict[str, Any]] | None = None


@dataclass
class StreamChoice:
    """One choice of a chunk; finish_reason is "stop", "length", "tool_calls", "content_filter" or None."""

    index: int
    delta: StreamDelta
    finish_reason: str | None = None


@dataclass
class StreamChunk:
    """One event of a streamed answer (stream method, StreamChunk); `headers` are those of its response."""

    choices: list[StreamChoice]
    compression: Compression | None = None
    usage: Usage | None = None
    id: str | None = None
    model: str | None = None
    raw: dict[str, Any] = field(default_factory=dict, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)

    @property
    def text(self) -> str | None:
        """The first choice's text, None if there is none in this chunk."""
        return content_text(self.choices[0].delta.content) if self.choices else None

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
        """The first choice's pieces of tool calls; SendResponse.from_chunks puts them together."""
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
    raw: dict[str, Any] = field(default_factory=dict, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)

    @property
    def text(self) -> str | None:
        """The first choice's text, None if there is none."""
        return content_text(self.choices[0].message.get("content")) if self.choices else None

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
        """Merge the chunks of one stream into the response that send() would have returned.

        Chunks that were made by hand, without `raw`, count with their fields.
        """
        chunks = list(chunks)
        merged = merge_chunks(chunk.raw or chunk_as_json(chunk) for chunk in chunks)
        return parse_response(merged, chunks[0].headers if chunks else {})


def content_text(content: Any) -> str | None:
    """The text of a message's content: itself, or that of its text parts joined; None if empty."""
    if isinstance(content, list):
        texts = [part.get("text") for part in content if isinstance(part, dict) and part.get("type") == "text"]
        content = "".join(text for text in texts if isinstance(text, str))
    return content if content and isinstance(content, str) else None


# ------------------------------------------------------------------------------------------------
# Errors.
#
#   RuntimeError
#   └── EdgeeError
#       ├── APIError                    the gateway said no
#       ├── ProtocolError               what came is not a chat completion
#       └── NetworkError                (also OSError) not reached, or the connection broke
#           ├── RequestTimeoutError     (also TimeoutError) nothing came in time
#           └── StreamInterruptedError  the answer was cut; what came before was delivered
# ------------------------------------------------------------------------------------------------


class EdgeeError(RuntimeError):
    """Anything that goes wrong once a request is under way."""


class APIError(EdgeeError):
    """The gateway said no, by its HTTP status or by an event of the stream.

    status: the HTTP status, None if an event named none. code, message: what the error body says.
    body: its text. headers: those of the response. request_id: to quote to the gateway's support.
    retry_after: the seconds that the gateway asked to wait, None if it did not.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        code: str | int | None = None,
        body: str = "",
        headers: Mapping[str, str] | None = None,
        request_id: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.code = code
        self.body = body
        self.headers: Mapping[str, str] = {} if headers is None else headers
        self.request_id = request_id
        self.retry_after = retry_after

    def __str__(self) -> str:
        return f"API error: {self.message}" if self.status is None else f"API error {self.status}: {self.message}"


class ProtocolError(EdgeeError):
    """What came is not a chat completion: bad JSON, a wrong content type, an event over 16 MiB."""


class NetworkError(EdgeeError, OSError):
    """The gateway could not be reached or the connection broke; __cause__ is the library's error."""

    _unanswered = False  # True if not a byte of answer came, and none will: safe to try again


class RequestTimeoutError(NetworkError, TimeoutError):
    """No connection, no answer or no next event came within the time limit."""


class StreamInterruptedError(NetworkError):
    """The answer ended before it was complete. Every chunk that did arrive was yielded before."""


# ------------------------------------------------------------------------------------------------
# The event stream (WHATWG HTML 9.2): bytes in, events out, no input or output.
# ------------------------------------------------------------------------------------------------


class EventStreamParser:
    """A parser of server-sent events (WHATWG HTML 9.2.6, "Interpreting an event stream").

    >>> parser = EventStreamParser()
    >>> parser.feed(b'data: {"a"')
    []
    >>> parser.feed(b': 1}\\n\\n')
    [('message', '{"a": 1}')]

    Work is linear in the bytes, however they are cut. An event of more than 16 MiB, its empty lines
    counted, is a ProtocolError, raised when the events before it have been returned.
    """

    def __init__(self) -> None:
        self.unended = bytearray()  # the line whose end has not come
        self._data = bytearray()  # the standard's data buffer: each value and a line feed
        self._name = "message"
        self._at_start = True
        self._after_cr = False
        self._too_long = False

    def feed(self, data: bytes) -> list[tuple[str, str]]:
        """Return the events that these bytes complete, each as (name, data); a name not given is "message"."""
        if self._after_cr or b"\r" in data:
            data = self._end_lines_with_lf(data)
        lines, ended, rest = data.rpartition(b"\n")
        events: list[tuple[str, str]] = []
        buffer = self._data
        if ended and not self._too_long:
            if self.unended:
                lines = b"".join((self.unended, lines))
                self.unended.clear()
            if self._at_start:
                self._at_start = False
                lines = lines[3:] if lines.startswith(b"\xef\xbb\xbf") else lines
            for line in lines.split(b"\n"):
                if line.startswith(b"data:"):
                    buffer += line[6:] if line[5:6] == b" " else line[5:]
                    buffer += b"\n"
                elif line:
                    self._parse_other_field(line)
                else:
                    if len(buffer) > _EVENT_BYTES + 1:
                        self._too_long = True
                        break
                    text = buffer[:-1].decode("utf-8", "replace")
                    # Blank data is no event: keep-alives come as a bare `data:`, `id:` or `retry:`.
                    if text and not text.isspace():
                        events.append((self._name, text))
                    self._name = "message"
                    buffer.clear()
        self.unended += rest
        if len(buffer) + len(self.unended) > _EVENT_BYTES + len("data: "):
            self._too_long = True
        if self._too_long and not events:
            raise ProtocolError(f"an event of the stream is longer than {_EVENT_BYTES >> 20} MiB")
        return events

    def finish(self) -> tuple[str, str] | None:
        """Return the event whose blank line never came, None if there is none.

        The standard drops it; whether it is whole is for the caller to say, who knows what it holds.
        """
        events = self.feed(b"\n\n")
        return events[0] if events else None

    def _parse_other_field(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        if name == b"event":
            self._name = value[value.startswith(b" ") :].decode("utf-8", "replace") or "message"
        elif name == b"data":
            self._data += b"\n"

    def _end_lines_with_lf(self, data: bytes) -> bytes:
        # A CR ends its line at once, so that no event waits for a byte that may never come; if the
        # LF of a CRLF follows in the next piece, it is dropped there.
        if self._after_cr and data.startswith(b"\n"):
            data = data[1:]
            self._after_cr = False
        if data:
            self._after_cr = data.endswith(b"\r")
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


# ------------------------------------------------------------------------------------------------
# From events to chunks, and chunks merged to a response.
#
# Shapes that real providers send must not crash a reader: a member may be null, absent or of
# another type. Containers are checked once here, so that callers can iterate without a thought;
# plain values are passed on as they came.
# ------------------------------------------------------------------------------------------------

_decode_json = json.JSONDecoder().raw_decode  # a third of the cost of json.loads() for a chunk
_JOINED_MEMBERS = frozenset({"content", "reasoning", "reasoning_content", "refusal"})


def decode_event(name: str, data: str, headers: Any, api_key: str) -> dict[str, Any]:
    """Return the JSON object of an event; raise the APIError that it is, or a ProtocolError."""
    if name == "error":
        raise api_error(data, headers, api_key)
    try:
        raw, end = _decode_json(data)
    except (ValueError, RecursionError):
        raw, end = parse_json(data), len(data)  # white space around it, or no JSON at all
    if type(raw) is not dict or (end != len(data) and not data[end:].isspace()):
        raise ProtocolError(f"the gateway sent no JSON object: {one_line(data, api_key)}")
    if raw.get("error"):
        raise api_error(data, headers, api_key)
    return raw


def parse_json(text: str) -> Any:
    """The value of a JSON text, None if it is none (null is of no use here either)."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def one_line(text: str, api_key: str) -> str:
    """The start of a text that came from outside, fit for a message: one line, without the key."""
    text = text.replace(api_key, "[api key]")
    text = " ".join("".join(c if c.isprintable() else " " for c in text[:_ERROR_BODY_BYTES]).split())
    return text if len(text) <= _EXCERPT_CHARACTERS else text[:_EXCERPT_CHARACTERS] + "…"


def wire_choices(raw: dict[str, Any], member: str, other: str) -> list[tuple[int, dict[str, Any], dict[str, Any]]]:
    """The choices of a chunk or a response, each as (index, choice, its `member`, else its `other`)."""
    found: list[tuple[int, dict[str, Any], dict[str, Any]]] = []
    for choice in json_objects(raw.get("choices")):
        index, message = choice.get("index"), choice.get(member)
        if type(message) is not dict:
            message = choice.get(other)
        found.append(
            (
                index if type(index) is int else len(found),
                choice,
                message if type(message) is dict else {},
            )
        )
    return found


def json_objects(value: Any) -> list[dict[str, Any]]:
    """The objects of a JSON list; none if it is no list."""
    return [member for member in value if type(member) is dict] if type(value) is list else []


def parse_chunk(raw: dict[str, Any], headers: Any) -> StreamChunk:
    """Return the chunk that an event's JSON stands for."""
    choices = []
    for index, choice, delta in wire_choices(raw, "delta", "message"):
        tool_calls = delta.get("tool_calls")
        if tool_calls is not None:
            tool_calls = json_objects(tool_calls)
        stream_delta = StreamDelta(delta.get("role"), delta.get("content"), tool_calls)
        choices.append(StreamChoice(index, stream_delta, choice.get("finish_reason")))
    compression, usage = raw.get("compression"), raw.get("usage")
    return StreamChunk(
        choices,
        compression and parse_numbers(Compression, compression),
        usage and parse_numbers(Usage, usage),
        raw.get("id"),
        raw.get("model"),
        raw,
        headers,
    )


def parse_response(raw: dict[str, Any], headers: Any) -> SendResponse:
    """Return the response that a JSON object stands for."""
    return SendResponse(
        [Choice(index, message, choice.get("finish_reason")) for index, choice, message in wire_choices(raw, "message", "delta")],
        parse_numbers(Usage, raw.get("usage")),
        parse_numbers(Compression, raw.get("compression")),
        raw.get("id"),
        raw.get("model"),
        raw,
        headers,
    )


def parse_numbers(kind: Any, value: Any) -> Any:
    """A Usage or Compression from its JSON object, None if there is none."""
    if not value or type(value) is not dict:
        return None
    numbers = {}
    for member in fields(kind):
        number = value.get(member.name)
        numbers[member.name] = number if type(number) in (int, float) else 0
    return kind(**numbers)


def chunk_as_json(chunk: StreamChunk) -> dict[str, Any]:
    """What `raw` would hold, of a chunk that was made by hand."""
    raw = asdict(chunk)
    del raw["raw"], raw["headers"]
    return raw


def merge_chunks(raws: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Return the JSON of the response that the JSON objects of these chunks amount to."""
    merged: dict[str, Any] = {}
    members: dict[int, tuple[dict[str, list[Any]], dict[str, list[Any]]]] = {}
    for raw in raws:
        for name, value in raw.items():
            if name in ("id", "model"):
                merged[name] = merged.get(name) or value
            elif value is not None and name != "choices":
                merged[name] = value or merged.get(name, value)
        for index, choice, delta in wire_choices(raw, "delta", "message"):
            of_choice, of_message = members.setdefault(index, ({}, {}))
            gather_members(of_choice, choice)
            gather_members(of_message, delta)
    if merged.get("object") == "chat.completion.chunk":
        merged["object"] = "chat.completion"
    merged["choices"] = [merge_choice(index, *members[index]) for index in sorted(members)]
    return merged


def gather_members(gathered: dict[str, list[Any]], source: dict[str, Any]) -> None:
    """Add an object's members that are not null to lists of all the values that each of them had."""
    for name, value in source.items():
        if value is not None:
            gathered.setdefault(name, []).append(value)


def merge_choice(index: int, of_choice: dict[str, list[Any]], of_message: dict[str, list[Any]]) -> dict[str, Any]:
    """Return a response's choice from the values of its chunks' choices and deltas."""
    message: dict[str, Any] = {"role": "assistant", "content": None}
    for name, values in of_message.items():
        message[name] = merge_values(name, values)
    message["role"] = message["role"] or "assistant"
    if not message.get("tool_calls", True):
        del message["tool_calls"]
    choice = {name: merge_values(name, values) for name, values in of_choice.items()}
    choice.pop("delta", None)
    reasons = [reason for reason in of_choice.get("finish_reason", ()) if reason]
    choice.update(index=index, message=message, finish_reason=reasons[-1] if reasons else None)
    return choice


def merge_values(name: str, values: list[Any]) -> Any:
    """Return what the values of one member, in the order in which they came, amount to."""
    kinds = {type(value) for value in values}
    if name == "tool_calls":
        pieces = [piece for value in values for piece in json_objects(value)]
        return [merge_tool_call(call) for call in group_tool_calls(pieces)]
    if name == "logprobs" and kinds == {dict}:
        gathered: dict[str, list[Any]] = {}
        for value in values:
            gather_members(gathered, value)
        return {member: merge_values(member, found) for member, found in gathered.items()}
    if kinds == {list} or (name in _JOINED_MEMBERS and kinds == {str, list}):
        return join_parts(values)
    if name in _JOINED_MEMBERS and kinds == {str}:
        return join_text(values)
    return values[-1]


def join_parts(values: list[Any]) -> list[Any]:
    """Join lists; text between them becomes a text part."""
    parts: list[Any] = []
    for kind, group in itertools.groupby(values, type):
        if kind is list:
            parts.extend(itertools.chain.from_iterable(group))
        else:
            text = join_text(group)
            parts.extend([{"type": "text", "text": text}] if text else [])
    return parts


def join_text(pieces: Iterable[str]) -> str:
    """Join pieces of text; a surrogate pair that was split over two of them is whole again."""
    return "".join(pieces).encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")


def group_tool_calls(pieces: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Group pieces of tool calls by the call that they belong to.

    By `index`; but providers also send parallel calls at one index, each with an id and a name of
    its own, and calls without any index, in one piece or in several.
    """
    calls: list[list[dict[str, Any]]] = []
    by_index: dict[Any, list[dict[str, Any]]] = {}  # at None: the last call of all
    by_id: dict[Any, list[dict[str, Any]]] = {}
    for piece in pieces:
        index = piece["index"] if type(piece.get("index")) is int else None
        identity = str(piece.get("id") or "")
        named = any(function.get("name") for function in json_objects([piece.get("function")]))
        call = by_id.get((index, identity))
        if call is None and not (named and (identity or index is None)):
            call = by_index.get(index)
        if call is None:
            call = []
            calls.append(call)
        call.append(piece)
        by_index[index] = by_index[None] = call
        if identity:
            by_id[index, identity] = by_id[None, identity] = call
    return calls


def merge_tool_call(pieces: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the tool call that its pieces amount to, fit to be sent back."""
    of_call: dict[str, list[Any]] = {}
    of_function: dict[str, list[Any]] = {}
    for piece in pieces:
        gather_members(of_call, piece)
        for function in json_objects([piece.get("function")]):
            gather_members(of_function, function)
    call = {name: merge_call_member(name, values) for name, values in of_call.items() if name != "index"}
    function = {name: merge_call_member(name, values) for name, values in of_function.items()}
    call.update(type=call.get("type") or "function", function={**function, "arguments": function.get("arguments", "")})
    return call


def merge_call_member(name: str, values: list[Any]) -> Any:
    """Return what the values of one member of a tool call or its function amount to."""
    if name == "arguments":
        return join_text(value if isinstance(value, str) else json.dumps(value) for value in values)
    if name in ("id", "type", "name"):
        return next(filter(None, values), values[0])
    return values[-1]


def api_error(text: str, headers: Any, api_key: str, status: int | None = None, reason: str = "") -> APIError:
    """Return the error that the text of an HTTP body or of an event describes, JSON or not."""
    code, message, status_of_event = find_error(parse_json(text))
    return APIError(
        one_line(message or text, api_key) or reason or "no reason given",
        status=status or status_of_event,
        code=one_line(code, api_key) if isinstance(code, str) else code,
        body=text.replace(api_key, "[api key]"),
        headers=headers,
        request_id=find_request_id(headers, api_key),
    )


def find_request_id(headers: Any, api_key: str) -> str | None:
    """Return what the gateway calls this request."""
    request_id = headers.get("x-request-id") or headers.get("request-id")
    return one_line(request_id, api_key) if request_id else None


def find_error(document: Any) -> tuple[str | int | None, str | None, int | None]:
    """Return the code, the message and the HTTP status in a JSON error.

    Gateways nest `error` (an object, a string, a list), `message` and `detail` in all ways; the
    innermost is the most telling.
    """
    code = status = None
    for _ in range(5):  # deeper than any that was seen, and an end for those made to hurt
        if isinstance(document, list) and document:
            document = document[0]
        if not isinstance(document, dict):
            break
        if isinstance(document.get("code"), (str, int)):
            code = document["code"]
        for name in ("code", "status", "status_code"):
            number = str(document.get(name))
            if number in _ERROR_STATUSES:
                status = int(number)
        nested = (document.get(name) for name in ("error", "message", "detail", "msg"))
        document = next((value for value in nested if value and isinstance(value, (str, list, dict))), None)
    return code, document if isinstance(document, str) else None, status


# ------------------------------------------------------------------------------------------------
# Settings and request body: all that is checked before anything is sent.
# ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Settings:
    api_key: str = field(repr=False)
    base_url: str
    timeout: float
    max_retries: int
    headers: dict[str, str] = field(repr=False)


def resolve_settings(config: str | EdgeeConfig | Mapping[str, Any] | None) -> _Settings:
    """Fill in a configuration: each value as given, else from the environment, else the default."""
    if config is None or isinstance(config, str):
        config = EdgeeConfig(config)
    elif isinstance(config, Mapping):
        unknown = set(config) - {setting.name for setting in fields(EdgeeConfig)}
        if unknown:
            raise ValueError(f"unknown setting: {', '.join(sorted(map(str, unknown)))}")
        config = EdgeeConfig(**config)
    elif not isinstance(config, EdgeeConfig):
        raise TypeError(f"config must be an API key, an EdgeeConfig or a dict, not {type(config).__name__}")
    retries = _MAX_RETRIES if config.max_retries is None else config.max_retries
    if isinstance(retries, bool) or not isinstance(retries, int):
        raise TypeError("max_retries must be a whole number")
    if retries < 0:
        raise ValueError("max_retries must be 0 or more")
    return _Settings(
        check_api_key(config.api_key or os.environ.get("EDGEE_API_KEY")),
        check_base_url(config.base_url or os.environ.get("EDGEE_BASE_URL") or _BASE_URL),
        check_timeout(config.timeout, _TIMEOUT_SECONDS),
        retries,
        check_headers({} if config.headers is None else config.headers),
    )


def check_api_key(key: Any) -> str:
    """Return the key if it can stand in a header; no message shows any of it."""
    if not key:
        raise ValueError("EDGEE_API_KEY is not set")
    if not isinstance(key, str):
        raise TypeError(f"api_key must be a str, not {type(key).__name__}")
    if not is_visible_ascii(key):
        raise ValueError("api_key has a character that is not visible ASCII: a space or a line end, perhaps")
    return key


def check_base_url(url: Any) -> str:
    """Return the URL without a trailing / or /v1; no message shows it, for it may hold a password."""
    from urllib.parse import urlsplit

    if not isinstance(url, str):
        raise TypeError(f"base_url must be a str, not {type(url).__name__}")
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        valid = False
    if not valid or not is_visible_ascii(url) or set("?#@") & set(url):
        raise ValueError("base_url must be http:// or https:// with a host, and have no user, query or fragment")
    url = url.rstrip("/")
    return url[: -len("/v1")].rstrip("/") if url.endswith("/v1") else url


def check_timeout(seconds: Any, default: float) -> float:
    """Return the time limit in seconds, the default for None."""
    if seconds is None:
        return default
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        raise TypeError(f"timeout must be a number of seconds, not {type(seconds).__name__}")
    if not 0 < seconds < float("inf"):
        raise ValueError(f"timeout must be a positive number of seconds, not {seconds}")
    return min(float(seconds), _LONGEST_SECONDS)


def check_headers(headers: Any) -> dict[str, str]:
    """Return the headers if they can be sent (RFC 9110, 5.1 and 5.5); no message shows a value."""
    if not isinstance(headers, Mapping):
        raise TypeError(f"headers must be a dict, not {type(headers).__name__}")
    for name, value in headers.items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise TypeError(f"headers must be str to str: see {name!r}")
        if not name or not set(name) <= _HEADER_NAME_CHARACTERS or name.lower() in _FRAMING_HEADERS:
            raise ValueError(f"headers has a name that cannot be sent: {name!r}")
        if not is_visible_ascii(value.replace(" ", "").replace("\t", "") or "-"):
            raise ValueError(f"headers has a value that cannot be sent, for {name!r}")
    return dict(headers)


def is_visible_ascii(text: str) -> bool:
    """Whether all of a text is between ! and ~, as nothing that ends a line or a word is."""
    return text.isascii() and text.isprintable() and " " not in text


def build_body(model: Any, input: Any, stream: bool) -> tuple[bytes, dict[str, str]]:
    """Return the body of a request, and the headers that some of the input's fields become."""
    if not isinstance(model, str):
        raise TypeError(f"model must be a str, not {type(model).__name__}")
    if not model.strip():
        raise ValueError("model is empty")
    fields_of_body = read_input(input)
    headers = {}
    for name, header in _SWITCH_HEADERS.items():
        if isinstance(fields_of_body.get(name), bool):
            headers[header] = str(fields_of_body.pop(name)).lower()
    body = {**fields_of_body, "model": model, "stream": True}
    if not stream:
        del body["stream"]
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
    if isinstance(input, InputObject):
        asked = input_as_json(input)
        extra_body = asked.pop("extra_body", {})
        if not isinstance(extra_body, Mapping):
            raise TypeError(f"extra_body must be a dict, not {type(extra_body).__name__}")
        asked.update(extra_body)
    elif isinstance(input, Mapping):
        asked = dict(input)
    elif isinstance(input, (list, tuple)):
        asked = {"messages": input}
    else:
        raise TypeError(f"input must be a str, a list, a dict or an InputObject, not {type(input).__name__}")
    messages = asked.get("messages")
    if messages is not None and not isinstance(messages, (list, tuple)):
        raise TypeError(f"messages must be a list, not {type(messages).__name__}")
    if not messages:
        raise ValueError("input has no messages")
    for position, message in enumerate(messages):
        if not isinstance(message, (Mapping, Message)):
            raise TypeError(f"messages[{position}] must be a dict or a Message, not {type(message).__name__}")
    return asked


def input_as_json(value: Any) -> dict[str, Any]:
    """Return what one of our input classes stands for: its fields that are not None."""
    if isinstance(value, Mapping):
        return dict(value)
    if not isinstance(value, (InputObject, Message, Tool, FunctionDefinition, ToolCall)):
        raise TypeError(f"a {type(value).__name__} is no JSON")
    members = ((member.name, getattr(value, member.name)) for member in fields(value))
    return {name: member for name, member in members if member is not None}


# ------------------------------------------------------------------------------------------------
# Transport: sockets, TLS, proxies, kept connections. Every wait has an end.
#
# urllib.request finds the proxy; http.client writes the request and reads the answer, through a
# _Connection, which holds all reads to one deadline.
# ------------------------------------------------------------------------------------------------


class _DeadlineSocket(io.RawIOBase):
    """The bytes from a socket: however many reads they take, all of them end at one deadline."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.deadline: float | None = 0.0  # of time.monotonic(); None takes only what is there
        self.received = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        seconds = 0.0
        if self.deadline is not None:
            seconds = self.deadline - time.monotonic()
            if seconds <= 0:
                raise TimeoutError("timed out")
        self.sock.settimeout(seconds)
        count = self.sock.recv_into(buffer)
        self.received = self.received or count > 0
        return count


class _Connection(io.BufferedReader):
    """A connection, and the answer that is being read from it.

    http.client takes it both for a socket and for the file of an answer. Unlike that file it
    outlives the answer, and so notices what a server sends too much.
    """

    response: http.client.HTTPResponse

    def __init__(self, sock: socket.socket, host: str, api_key: str, closing: threading.Event) -> None:
        self.source = _DeadlineSocket(sock)
        super().__init__(self.source, _BLOCK_BYTES)
        self.sock, self.host, self.api_key = sock, host, api_key
        self.closing = closing  # set by Edgee.close()
        self.failure: EdgeeError | None = None  # put off while events before it are delivered
        self.ended = False  # nothing of the answer is missing
        self.idle_since = 0.0

    def makefile(self, mode: str) -> _Connection:
        return self

    def close(self) -> None:
        """Do nothing: http.client closes its file where an answer ends, and the connection goes on."""

    flush = close  # which comes before it, and at times from the garbage collector

    def hang_up(self) -> None:
        if hasattr(self, "response"):
            self.response.close()
        self.sock.close()

    def is_reusable(self) -> bool:
        """Whether a new request can be sent; waits a moment for the end of the last answer's body."""
        import ssl
        from http.client import HTTPException

        if time.monotonic() - self.idle_since > _IDLE_SECONDS:
            return False
        self.source.deadline = time.monotonic() + _DRAIN_SECONDS
        try:
            while read_block(self):
                pass
            self.source.deadline = None
            self.peek()  # what there is to read now is the end of the connection, or garbage
        except (BlockingIOError, ssl.SSLWantReadError):
            return True
        except (OSError, HTTPException):
            pass
        return False


class _Connections:
    """The connections of one client, busy and idle; a handler of urllib.request's."""

    def __init__(self, api_key: str) -> None:
        self._api_key = api_key
        self._tls_context: ssl.SSLContext | None = None
        self._start()

    def _start(self) -> None:
        # Reentrant, for the garbage collector may close a dropped generator at any moment.
        self._lock = threading.RLock()
        self._process = os.getpid()
        self._idle: list[_Connection] = []
        self._busy: set[_Connection] = set()
        self.closing = threading.Event()

    def add_parent(self, opener: Any) -> None:
        """Do nothing: asked for by OpenerDirector.add_handler()."""

    def http_open(self, request: urllib.request.Request) -> _Connection:
        """Send a request; return the connection when the head of its answer was read."""
        deadline = time.monotonic() + (request.timeout or 0)
        connection = self._take_idle()
        if connection:
            try:
                return self._converse(connection, request, deadline)
            except NetworkError as error:
                if not error._unanswered:
                    raise  # else it died while it was idle, which is no news to anybody
        return self._converse(self._connect(request, deadline), request, deadline)

    https_open = http_open

    def release(self, connection: _Connection) -> None:
        """Keep a connection whose answer has ended for the next request, close any other."""
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
        """Close what is idle and break what is busy, whose readers then close it."""
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
                # Not SSLSocket.shutdown(), after which a reader would be given bytes still encrypted.
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
            failure._unanswered = type(failure) is NetworkError and not connection.source.received
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
    for left in range(len(addresses), 0, -1):
        seconds = max(deadline - time.monotonic(), 0.001) / left
        try:
            sock = socket.create_connection(addresses[-left][4][:2], timeout=seconds)
            break
        except OSError:
            if left == 1:
                raise
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_KEEPIDLE"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _KEEPALIVE_SECONDS)
    return sock


def open_tunnel(sock: socket.socket, request: urllib.request.Request, target: str, deadline: float) -> None:
    """Have a proxy connect a socket to the gateway. It sees the gateway's name, and never the key."""
    authorization = request.get_header("Proxy-authorization")
    headers = {"Host": target, **({"Proxy-Authorization": authorization} if authorization else {})}
    proxy = _Connection(sock, target, "", threading.Event())
    exchange_heads(proxy, "CONNECT", target, None, headers, deadline)
    if proxy.response.status != 200:
        raise OSError(f"the proxy {request.host} refused: {proxy.response.status} {proxy.response.reason}")


def exchange_heads(
    connection: _Connection, method: str, target: str, body: Any, headers: dict[str, str], deadline: float
) -> None:
    """Send a request, and read the head of its answer into `connection.response`."""
    from http.client import HTTPConnection, HTTPResponse

    connection.ended = connection.source.received = False
    connection.source.deadline = deadline
    connection.sock.settimeout(max(deadline - time.monotonic(), 0.001))
    writer = HTTPConnection(headers["Host"])
    writer.sock = connection.sock
    try:
        writer.request(method, target, body, headers)
    except ConnectionError:
        pass  # it may have said why before it hung up: 413, say
    while True:
        connection.response = HTTPResponse(connection, method=method)
        connection.response.begin()
        if connection.response.status >= 200:  # http.client passes over 100 alone
            break


def make_tls_context() -> ssl.SSLContext:
    """Return a context that verifies, by the system's certificates or those of SSL_CERT_FILE."""
    import ssl

    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    folder = ssl.get_default_verify_paths().capath
    if not context.cert_store_stats()["x509_ca"] and not (folder and os.listdir(folder)):
        try:  # some Pythons for macOS come without certificates
            import certifi
        except ImportError:
            return context
        context.load_verify_locations(certifi.where())
    return context


def connect_error(error: BaseException, host: str) -> NetworkError:
    """What it means for the caller that a connection could not be made."""
    import ssl

    if isinstance(error, ssl.SSLCertVerificationError):
        hint = "if you trust it, name its CA's file in SSL_CERT_FILE"
        return NetworkError(f"the certificate of {host} is not trusted: {error.verify_message}; {hint}")
    kind = RequestTimeoutError if is_timeout(error) else NetworkError
    failure = kind(f"could not connect to {host}: {error}")
    failure._unanswered = True
    return failure


def is_timeout(error: BaseException) -> bool:
    """Whether our time limit ended a wait, and not the operating system's."""
    import socket

    # Before 3.10 socket.timeout was no TimeoutError; ETIMEDOUT, a broken connection's, always was.
    return isinstance(error, (TimeoutError, socket.timeout)) and error.errno is None


def network_error(
    error: BaseException, connection: _Connection, waited: str, broken: type[NetworkError]
) -> NetworkError:
    """What an error of the standard library's means for the caller: `waited` says it for a time-out."""
    if connection.closing.is_set():
        return StreamInterruptedError("the client was closed before the answer was complete")
    if is_timeout(error):
        return RequestTimeoutError(waited)
    return broken(f"the connection to {connection.host} broke: {error}")


def read_block(connection: _Connection) -> bytes:
    """Return the next bytes of an answer's body, none at its end; raise if the end came too early."""
    block = connection.response.read1(_BLOCK_BYTES)
    if not block:
        if connection.closing.is_set():
            raise ConnectionAbortedError("the client was closed")
        if connection.response.length:  # read1() itself notices this with chunked coding alone
            raise ConnectionResetError(f"{connection.response.length} bytes of the body are missing")
        connection.ended = True
        connection.response.close()  # which http.client forgets, before 3.13, where there was a Content-Length
    return block


def read_body(connection: _Connection, body: bytearray, limit: int) -> None:
    """Read an answer's body, or the first `limit` bytes of it, into a buffer that keeps them if it breaks."""
    while len(body) <= limit:
        block = read_block(connection)
        if not block:
            break
        body += block


def read_events(connection: _Connection, parser: EventStreamParser, timeout: float) -> list[tuple[str, str]]:
    """Return the next events of an answer as soon as there are any, none at the end of its body.

    Comments and keep-alive bytes do not prolong the wait. If the answer is cut, the last event is
    returned all the same if its JSON is whole, and the error raised after it.
    """
    from http.client import HTTPException

    if connection.failure:
        raise connection.failure
    connection.source.deadline = time.monotonic() + timeout
    try:
        while True:
            block = read_block(connection)
            if not block:
                break
            events = parser.feed(block)
            if events:
                return events
    except (OSError, HTTPException) as error:
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


def read_answer(connection: _Connection, timeout: float) -> str:
    """Return the text of an answer's body, which must be the whole of a JSON object; raise the error that it is."""
    from http.client import HTTPException

    body = bytearray()
    connection.source.deadline = time.monotonic() + timeout
    try:
        read_body(connection, body, _EVENT_BYTES)
    except (OSError, HTTPException) as error:
        waited = f"no whole answer from {connection.host} within {timeout:g} s"
        raise network_error(error, connection, waited, StreamInterruptedError) from error
    if len(body) > _EVENT_BYTES:
        raise ProtocolError(f"the answer is longer than {_EVENT_BYTES >> 20} MiB")
    text = body.decode("utf-8", "replace")
    if is_cut_json(text):
        raise StreamInterruptedError(f"the answer of {connection.host} was cut after {len(body)} bytes")
    decode_event("message", text, connection.response.headers, connection.api_key)
    return text


def is_cut_json(text: str) -> bool:
    """Whether a text is the beginning of a JSON object, and not all of one."""
    text = text.strip()
    if not text.startswith("{"):
        return False
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        return error.pos >= len(text) or not text.endswith("}") or error.msg.startswith("Unterminated string")
    except (ValueError, RecursionError):
        pass
    return False


def read_excerpt(connection: _Connection, timeout: float) -> str:
    """Return the start of a body that is only there to be shown, or as much of it as comes soon."""
    from http.client import HTTPException

    body = bytearray()
    connection.source.deadline = time.monotonic() + min(timeout, _CONNECT_SECONDS)
    try:
        read_body(connection, body, _ERROR_BODY_BYTES)
    except (OSError, HTTPException):
        pass  # what the status or the content type says is news enough
    return body[:_ERROR_BODY_BYTES].decode("utf-8", "replace")


def check_answer(connection: _Connection, timeout: float) -> None:
    """Raise unless the head of an answer promises one that can be read."""
    response, api_key = connection.response, connection.api_key
    encoding = response.headers.get("content-encoding") or "identity"
    encoded = encoding.lower() != "identity"
    request_id = find_request_id(response.headers, api_key)
    log("%d %s, request id %s", response.status, one_line(response.reason, api_key), request_id)
    if 200 <= response.status < 300:
        if encoded:
            raise ProtocolError(f"the answer is encoded as {one_line(encoding, api_key)}, which was not asked for")
        return
    text = "" if encoded else read_excerpt(connection, timeout)
    error = api_error(text, response.headers, api_key, response.status, one_line(response.reason, api_key))
    if response.status < 400:
        target = one_line(response.headers.get("location", "nowhere"), api_key)
        error.message = f"redirect to {target} not followed, for the key would go with it; see base_url"
    error.retry_after = parse_retry_after(response.headers)
    raise error


def parse_retry_after(headers: Any) -> float | None:
    """Return the seconds to wait by Retry-After (RFC 9110, 10.2.3) or retry-after-ms, None if not given."""
    from email.utils import mktime_tz, parsedate_tz

    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        value = headers.get(name) or ""
        if value.replace(".", "", 1).isdecimal() and value.isascii():
            return float(value) * unit
    try:
        date = parsedate_tz(headers.get("retry-after") or "")
        return max(0.0, mktime_tz(date) - time.time()) if date else None
    except (ValueError, OverflowError):
        return None


def retry_seconds(error: EdgeeError, attempt: int) -> float | None:
    """Return how long to wait before the request is sent again, None if it must not be."""
    import random

    if isinstance(error, APIError):
        wanted = error.retry_after
        if error.status not in _RETRIED_STATUSES or (wanted or 0) > _LONGEST_RETRY_AFTER_SECONDS:
            return None
        if wanted is not None:
            return wanted
        if error.status == 429 and error.code in _NO_CREDIT_CODES:
            return None
    elif not (isinstance(error, NetworkError) and error._unanswered):
        return None
    longest = min(_FIRST_BACKOFF_SECONDS * 2**attempt, _LAST_BACKOFF_SECONDS)
    return longest * random.uniform(0.75, 1.0)


def wait(closing: threading.Event, seconds: float) -> None:
    """Wait before a request is sent again; the one place where that is done."""
    if closing.wait(seconds):
        raise StreamInterruptedError("the client was closed")


def open_stream(connection: _Connection, timeout: float) -> tuple[EventStreamParser, list[tuple[str, str]]]:
    """Return the parser of an answer's stream and its first events; raise the error that the first one is."""
    headers, parser = connection.response.headers, EventStreamParser()
    kind = headers.get_content_type() if "content-type" in headers else "no content type"
    if kind == "text/event-stream":
        events = read_events(connection, parser, timeout)
    elif kind == "application/json":
        events = [("message", read_answer(connection, timeout))]
    else:
        start = one_line(read_excerpt(connection, timeout), connection.api_key)
        raise ProtocolError(f"the answer is no event stream but {one_line(kind, connection.api_key)}: {start}")
    if events and events[0][1].rstrip() != "[DONE]":
        decode_event(*events[0], headers, connection.api_key)
    return parser, events


def log(message: str, *values: object) -> None:
    import logging

    logging.getLogger("edgee").debug(message, *values)


# ------------------------------------------------------------------------------------------------
# The client.
# ------------------------------------------------------------------------------------------------


class Edgee:
    """A client of the Edgee AI Gateway, which may be shared between threads.

    config: an API key, an EdgeeConfig, a dict with the same keys, or None to take all from the
    environment. Raises ValueError or TypeError if a setting is missing or wrong.

    Connections are kept for later requests until close(), or the end of a `with` block.
    """

    def __init__(self, config: str | EdgeeConfig | Mapping[str, Any] | None = None) -> None:
        self._settings = resolve_settings(config)
        self._connections = _Connections(self._settings.api_key)
        self._proxies: dict[str, str] | None = None  # as the environment says
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

        model: such as "gpt-5.2". input: a prompt, a list of messages, an InputObject, or a dict with
        `messages` and any other field of the request's body, which is sent as it is. timeout:
        seconds to wait for the answer, else the client's.

        Raises ValueError or TypeError for a wrong argument; APIError, NetworkError or ProtocolError
        if there is no answer.
        """
        seconds = check_timeout(timeout, self._settings.timeout)
        body, headers = build_body(model, input, stream)
        headers["Accept"] = "text/event-stream" if stream else "application/json"
        request = self._make_request("chat/completions", headers, body)
        if stream:
            return self._stream(request, seconds)
        connection, text = self._exchange(request, seconds, read_answer)
        self._connections.release(connection)
        return parse_response(parse_json(text), connection.response.headers)

    def stream(self, model: str, input: Input, *, timeout: float | None = None) -> Generator[StreamChunk, None, None]:
        """Ask for a completion; yield its chunks as they arrive (the stream method).

        Arguments as for send(); timeout: seconds to wait for the answer to begin, and then for each
        next chunk. Nothing is sent before the first chunk is asked for. Closing or dropping the
        generator frees its connection. Wrong arguments raise at once; while iterating, as send()
        does, and StreamInterruptedError if the answer is cut, after every chunk that did arrive.
        """
        return self.send(model, input, True, timeout=timeout)

    def models(self) -> list[Model]:
        """Return the models that the gateway offers; raises as send() does."""
        connection, text = self._exchange(self._make_request("models"), self._settings.timeout, read_answer)
        self._connections.release(connection)
        found = json_objects(parse_json(text).get("data"))
        return [Model(model.get("id", ""), model.get("owned_by"), model.get("created")) for model in found]

    def _make_request(
        self, path: str, headers: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> urllib.request.Request:
        from urllib.request import Request

        settings = self._settings
        every = {"Authorization": f"Bearer {settings.api_key}", "User-Agent": f"edgee-py/{__version__}"}
        if body is not None:
            every["Content-Type"] = "application/json"
        return Request(f"{settings.base_url}/v1/{path}", body, {**every, **settings.headers, **(headers or {})})

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
            proxies = urllib.request.getproxies_environment() if self._proxies is None else self._proxies
            opener = urllib.request.OpenerDirector()  # of these two handlers alone: nothing follows a redirect
            opener.add_handler(self._connections)
            opener.add_handler(urllib.request.ProxyHandler(proxies))
            self._opener = opener
        try:  # a copy, for ProxyHandler changes it
            return self._opener.open(copy.copy(request), timeout=timeout)
        except ValueError as error:
            raise NetworkError("the proxy that the environment names is not a valid URL") from error

    def _stream(self, request: urllib.request.Request, timeout: float) -> Generator[StreamChunk, None, None]:
        connection, (parser, events) = self._exchange(request, timeout, open_stream)
        headers, api_key = connection.response.headers, self._settings.api_key
        finished: dict[int, bool] = {}
        try:
            while events:
                for name, data in events:
                    if data.rstrip() == "[DONE]":
                        connection.ended = True
                        return
                    chunk = parse_chunk(decode_event(name, data, headers, api_key), headers)
                    for choice in chunk.choices:
                        if choice.finish_reason:
                            finished[choice.index] = True
                        else:
                            finished.setdefault(choice.index, False)
                    yield chunk
                events = read_events(connection, parser, timeout)
            if not finished or not all(finished.values()):
                raise StreamInterruptedError("the stream ended before the answer was complete")
        finally:
            self._connections.release(connection)


# ------------------------------------------------------------------------------------------------
# The command line: the answer on standard output, all else on standard error.
# ------------------------------------------------------------------------------------------------

_DEMO_SECONDS = 0.03  # between two words
_DEMO_ANSWER = """Once there was a file that was all there was to a client. Whoever was to trust it read it \
over a coffee, from its first line to its last, and knew what it sent, and to whom. Then they copied it, \
and went home early."""

_USAGE = """
  python -m edgee "Tell me a story"
  git diff | python -m edgee "Write a commit message" --model gpt-5.2
  python -m edgee --demo "Tell me a story"     (needs no key and no network)
  python -m edgee [options] [prompt]"""


def main(argv: list[str] | None = None) -> int:
    """Run the command line with these arguments, sys.argv's by default; return its exit status.

    0 done, 1 the gateway, the network or the stream failed, 2 wrong usage, 130 interrupted.
    """
    try:
        return run_command(parse_arguments(argv))
    except SystemExit as error:  # argparse has said why
        return int(error.code or 0)
    except KeyboardInterrupt:
        print(file=sys.stderr)
        return 130
    except EdgeeError as error:
        print(f"edgee: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        return end_output(error)


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    import argparse

    parser = argparse.ArgumentParser(prog="edgee", usage=_USAGE, description="Stream an answer from the Edgee AI Gateway.")
    add = parser.add_argument
    add("prompt", nargs="?", help="what to ask; text on standard input is put before it")
    add("-m", "--model", help="else EDGEE_MODEL, else gpt-5.2")
    add("-s", "--system", metavar="TEXT", help="a system message")
    add("-t", "--tag", action="append", default=[], help="a tag for the gateway's analytics; may be repeated")
    add("-o", "--option", nargs=2, action="append", default=[], metavar=("KEY", "VALUE"),
        help="any other field of the request; VALUE is JSON, else text; may be repeated")  # fmt: skip
    add("--input", metavar="FILE", help="a JSON file (- for standard input) with a whole input object")
    add("--json", action="store_true", help="print the JSON of each chunk, a line each")
    add("--no-stream", action="store_true", help="wait for the whole answer")
    add("--usage", action="store_true", help="end with a line on tokens, savings and time")
    add("--models", action="store_true", help="list the gateway's models")
    add("--base-url", metavar="URL", help="else EDGEE_BASE_URL, else " + _BASE_URL)
    add("--timeout", type=float, metavar="SECONDS", help="the longest wait for the next piece of an answer")
    add("--demo", action="store_true", help="ask a small gateway inside this process")
    add("--version", action="version", version=f"edgee {__version__}")
    arguments = parser.parse_args(argv)
    arguments.fail = parser.error
    return arguments


def run_command(arguments: argparse.Namespace) -> int:
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")  # text that the terminal cannot show is no reason to crash
    try:
        edgee = make_client(arguments)
        if arguments.models:
            model, body = "", {}
        else:
            body = read_question(arguments)
            model = arguments.model or body.get("model") or os.environ.get("EDGEE_MODEL") or _MODEL
            build_body(model, body, True)
    except (ValueError, TypeError, OSError) as error:
        hint = " (--demo needs none)" if "EDGEE_API_KEY" in str(error) else ""
        print(f"edgee: {error}{hint}", file=sys.stderr)
        return 2
    with edgee:
        if arguments.models:
            print(*(model.id for model in edgee.models()), sep="\n", flush=True)
        else:
            ask(edgee, model, body, arguments)
    return 0


def make_client(arguments: argparse.Namespace) -> Edgee:
    if not arguments.demo:
        return Edgee(EdgeeConfig(base_url=arguments.base_url, timeout=arguments.timeout))
    if arguments.base_url:
        raise ValueError("--demo has a gateway of its own: leave --base-url out")
    edgee = Edgee(EdgeeConfig("demo", start_demo_gateway(), arguments.timeout))
    edgee._proxies = {}
    print("edgee: this is a demo; the answer comes from this process, and from no model", file=sys.stderr)
    return edgee


def read_question(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the input object that the command line, the file and standard input amount to."""
    piped = "" if sys.stdin is None or sys.stdin.isatty() else sys.stdin.buffer.read()
    try:
        piped = piped and piped.decode("utf-8-sig").rstrip()
    except UnicodeDecodeError:
        raise ValueError("standard input is not UTF-8 text") from None
    body: dict[str, Any] = {"messages": []}
    if arguments.input:
        text, piped = (piped, "") if arguments.input == "-" else (read_file(arguments.input), piped)
        try:
            body = json.loads(text)
        except ValueError as error:
            raise ValueError(f"--input {arguments.input} is no JSON: {error}") from None
        if not isinstance(body, dict):
            raise ValueError(f"--input {arguments.input} is no JSON object")
    messages, tags = (list_member(body, name) for name in ("messages", "tags"))
    prompt = "\n\n".join(text for text in (piped, arguments.prompt) if text and text.strip())
    if arguments.system:
        messages.insert(0, {"role": "system", "content": arguments.system})
    if prompt:
        messages.append({"role": "user", "content": prompt})
    elif not arguments.input:
        raise ValueError("nothing to ask: give a prompt, or text on standard input")
    for name, value in arguments.option:
        if name in ("messages", "model", "stream"):
            raise ValueError(f"-o {name} is not possible: see --input, --model and --no-stream")
        try:
            body[name] = json.loads(value)
        except ValueError:
            body[name] = value
    if arguments.tag:
        body["tags"] = tags + arguments.tag
    if arguments.usage and not arguments.no_stream:
        body["stream_options"] = {"include_usage": True, **(body.get("stream_options") or {})}
    return {**body, "messages": messages}


def list_member(body: dict[str, Any], name: str) -> list[Any]:
    value = body.get(name) or []
    if not isinstance(value, list):
        raise TypeError(f"{name} must be a list, not {type(value).__name__}")
    return list(value)


def read_file(name: str) -> str:
    with open(name, encoding="utf-8-sig") as file:
        return file.read()


def ask(edgee: Edgee, model: str, body: dict[str, Any], arguments: argparse.Namespace) -> None:
    """Print an answer, and then what else there is to say about it."""
    start = time.monotonic()
    first_text = None
    if arguments.no_stream:
        response = edgee.send(model, body)
        if arguments.json:
            print(json.dumps(response.raw), flush=True)
        elif response.text:
            print(response.text, end="" if response.text.endswith("\n") else "\n", flush=True)
    else:
        telling = []  # the chunks that have more than text; the text would not fit in memory for ever
        last_text = "\n"
        joined = codecs.getincrementaldecoder("utf-16-le")("surrogatepass").decode  # of split surrogate pairs
        try:
            for chunk in edgee.stream(model, body):
                if chunk.text and first_text is None:
                    first_text = time.monotonic() - start
                if not telling or not chunk.text or chunk.choices[0].index or chunk.finish_reason or chunk.usage or chunk.compression or chunk.tool_calls:
                    telling.append(chunk)
                if arguments.json:
                    print(json.dumps(chunk.raw), flush=True)
                elif chunk.text and chunk.choices[0].index == 0:
                    text = joined(chunk.text.encode("utf-16-le", "surrogatepass"))
                    last_text = text or last_text
                    print(text, end="", flush=True)
        finally:
            half = joined(b"", True)
            if half or not last_text.endswith("\n"):
                print(half, flush=True)
        response = SendResponse.from_chunks(telling)
    report(response, arguments.json)
    if arguments.usage:
        print("edgee: " + usage_line(response, model, first_text, time.monotonic() - start), file=sys.stderr)


def report(response: SendResponse, printed: bool) -> None:
    """Print the tool calls, unless they were `printed` as JSON, and warn of an answer that is not all there."""
    for call in [] if printed else response.tool_calls or []:
        print(json.dumps(call), flush=True)
    for choice in response.choices:
        if choice.finish_reason in ("length", "content_filter"):
            print(f"edgee: warning: the answer is not whole: {choice.finish_reason}", file=sys.stderr)
    if len(response.choices) > 1 and not printed:
        print("edgee: warning: there is more than one choice; --json prints them all", file=sys.stderr)


def usage_line(response: SendResponse, model: str, first_text: float | None, seconds: float) -> str:
    """Return the line that --usage asks for."""
    usage, saved = response.usage, response.compression
    parts = [response.model or model, f"finish reason {response.finish_reason}"]
    if usage:
        parts.append(f"{usage.prompt_tokens} + {usage.completion_tokens} = {usage.total_tokens} tokens")
    else:
        parts.append("tokens not told")
    if saved:
        parts.append(f"{saved.saved_tokens} tokens and ${saved.cost_savings / 1e6:.6f} saved")
    if first_text is not None:
        parts.append(f"first text after {first_text:.2f} s")
    return ", ".join([*parts, f"{seconds:.2f} s in all"])


def end_output(error: OSError) -> int:
    """Return the exit status for output that could not be written; a pipe that was closed is no error."""
    if not isinstance(error, BrokenPipeError) and error.errno != errno.EINVAL:  # what Windows says of one
        print(f"edgee: {error}", file=sys.stderr)
        return 1
    # What the interpreter still flushes at its exit must have somewhere to go.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def start_demo_gateway() -> str:
    """Start a small gateway on the loopback, in a thread that ends with the process; return its base URL."""
    from http.server import BaseHTTPRequestHandler
    from socketserver import ThreadingTCPServer

    class DemoGateway(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            pass

        def handle(self) -> None:
            with contextlib.suppress(ConnectionError):  # somebody has heard enough
                super().handle()

        def do_GET(self) -> None:
            self.answer("application/json", [json.dumps({"data": [{"id": "demo", "owned_by": "edgee.py"}]})])

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
            words = f"You asked: {asked['messages'][-1]['content']}\n\n{_DEMO_ANSWER}".split(" ")
            usage = {"prompt_tokens": 8, "completion_tokens": len(words), "total_tokens": 8 + len(words)}
            common = {"id": "demo-1", "model": asked["model"]}
            if not asked.get("stream"):
                message = {"role": "assistant", "content": " ".join(words)}
                choice = {"index": 0, "message": message, "finish_reason": "stop"}
                self.answer("application/json", [json.dumps({**common, "choices": [choice], "usage": usage})])
                return
            deltas = [{"content": f" {word}"} for word in words]
            deltas[0] = {"role": "assistant", "content": words[0]}
            chunks = [{**common, "choices": [{"index": 0, "delta": delta}]} for delta in deltas]
            chunks.append({**common, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "usage": usage})
            events = [*map(json.dumps, chunks), "[DONE]"]
            self.answer("text/event-stream", [f"data: {event}\n\n" for event in events])

        def answer(self, content_type: str, pieces: list[str]) -> None:
            self.send_response(200)
            self.send_header("Content-Type", content_type)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for piece in [*pieces, ""]:
                data = piece.encode()
                self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
                time.sleep(_DEMO_SECONDS)

    server = ThreadingTCPServer(("127.0.0.1", 0), DemoGateway)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_address[1]}"


if __name__ == "__main__":
    sys.exit(main())
