#!/usr/bin/env python3
"""Stream chat completions from the Edgee AI Gateway: one file, standard library only.

    from edgee import Edgee

    edgee = Edgee("your-api-key")  # or Edgee(), with EDGEE_API_KEY in the environment
    for chunk in edgee.stream("openai/gpt-5.2", "Tell me a story"):
        print(chunk.text or "", end="", flush=True)

    response = edgee.send("openai/gpt-5.2", {"messages": [{"role": "user", "content": "Hi"}], "temperature": 0})
    print(response.text, response.usage)

With asyncio: `async for chunk in edgee.astream(…)` and `await edgee.asend(…)`. On the command line:
python -m edgee "Tell me a story". With --demo it needs no key and no network.

A wrong argument raises ValueError or TypeError before anything is sent. What goes wrong later is an EdgeeError, which
is a RuntimeError.

Licence: not chosen yet; ask before you ship it. See README.
"""

from __future__ import annotations

import codecs
import contextlib
import errno
import importlib
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

TYPE_CHECKING = False  # Importing it from typing would take 2 ms.
if TYPE_CHECKING:
    import argparse
    import base64  # At run time _import_http() imports these, and _make_tls_context() imports ssl.
    import calendar
    import email.utils
    import http.client
    import random
    import selectors
    import socket
    import ssl
    import urllib.parse
    import urllib.request
    from typing import Any, Dict, Literal, Union, overload

    _Input = Union[str, Sequence[Union["Message", Mapping[str, Any]]], Mapping[str, Any], "InputObject"]
    _StrDict = Dict[str, str]
else:
    Any = object  # typing.get_type_hints() looks it up for the dataclasses.
    _StrDict = dict

__version__ = "0.3.0"
__all__ = [
    "APIError", "Choice", "Compression", "Edgee", "EdgeeConfig", "EdgeeError", "EventStreamParser",
    "FunctionDefinition", "InputObject", "Message", "Model", "NetworkError", "ProtocolError", "RequestTimeoutError",
    "SendResponse", "StreamChoice", "StreamChunk", "StreamDelta", "StreamInterruptedError", "Tool", "ToolCall",
    "Usage", "main",
]  # fmt: skip


# ---- What goes in. A dict with the same members can be given in place of any of these. ------------------------------


@dataclass
class EdgeeConfig:
    """The settings of a client. A setting that is None is read from the environment, or has its default.

    api_key: default EDGEE_API_KEY. base_url: default EDGEE_BASE_URL, or https://edgee.io. timeout: seconds to wait, in
    each attempt, for the answer to begin and then for each next event; default 600. Connecting takes at most 10 seconds
    of this time. max_retries: how often a request may be sent again; default 2. headers: sent with every request.
    """

    api_key: str | None = field(default=None, repr=False)
    base_url: str | None = None
    timeout: float | None = None
    max_retries: int | None = None
    headers: Mapping[str, str] | None = field(default=None, repr=False)


@dataclass
class FunctionDefinition:
    """A function that the model may call. parameters: a JSON schema."""

    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None


@dataclass
class Tool:
    """A tool that the model may use. type: "function"."""

    type: str
    function: FunctionDefinition | dict[str, Any]


@dataclass
class ToolCall:
    """A call that the model made. function: {"name": str, "arguments": str of JSON}."""

    id: str
    type: str
    function: dict[str, Any]


@dataclass
class Message:
    """A message of a conversation. role: "system", "user", "assistant" or "tool", for example.

    content: text, or a list of parts (text, images). tool_call_id: in a "tool" message, the call that it answers.
    """

    role: str
    content: str | list[dict[str, Any]] | None = None
    name: str | None = None
    tool_calls: Sequence[ToolCall | dict[str, Any]] | None = None
    tool_call_id: str | None = None


@dataclass
class InputObject:
    """What to ask. A member that is None is not sent. extra_body: other fields (temperature, …), merged in last.

    tags: for the gateway's analytics. compression_model: a bundle of compression strategies, such as "claude", "codex",
    "opencode" or "cursor". tool_result_trimming, tool_surface_reduction, output_brevity: True or False override the
    settings of the API key.
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


# ---- What comes out. `raw` is the JSON as it came, with all the members that have no field here. --------------------


class _Headers(_StrDict):
    """The headers of a response: a dict. Names are stored in lower case; a look-up may use any case."""

    def __contains__(self, name: object) -> bool:
        return super().__contains__(str(name).lower())

    def __getitem__(self, name: str) -> str:
        return super().__getitem__(name.lower())

    def get(self, name: str, default: Any = None) -> Any:
        return super().get(name.lower(), default)


@dataclass
class Usage:
    """Counts of tokens. Prompt tokens include the cached ones, completion tokens those of the reasoning."""

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
    """A model of the gateway. created: in seconds since 1970."""

    id: str
    owned_by: str | None = None
    created: int | None = None


@dataclass
class StreamDelta:
    """What a chunk adds to a message. content: text; some providers send a list of parts."""

    role: str | None = None
    content: str | list[dict[str, Any]] | None = None
    tool_calls: list[dict[str, Any]] | None = None


@dataclass
class StreamChoice:
    """One choice of a chunk. finish_reason: "stop", "length", "tool_calls", "content_filter", …; None until the end."""

    index: int
    delta: StreamDelta
    finish_reason: str | None = None


@dataclass
class StreamChunk:
    """One event of a streamed answer. It usually has one choice; a chunk with `usage` may have none.

    raw: the JSON of the event. headers: of the whole response, such as X-Edgee-Provider and X-Edgee-Fallback-Used.
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
        """The text of the first choice, None if this chunk has none. A refusal is not text: see `raw`."""
        return _content_text(self.choices[0].delta.content) if self.choices else None

    @property
    def reasoning(self) -> str | None:
        """The reasoning of the first choice, None if this chunk has none."""
        return _reasoning_text(_first_message(self.raw, self.headers))

    @property
    def role(self) -> str | None:
        """The role of the first choice. It comes in the first chunk."""
        return self.choices[0].delta.role if self.choices else None

    @property
    def finish_reason(self) -> str | None:
        """Why the first choice ended. It comes in its last chunk."""
        return self.choices[0].finish_reason if self.choices else None

    @property
    def tool_calls(self) -> list[dict[str, Any]] | None:
        """Pieces of the first choice's tool calls; SendResponse.from_chunks() puts them together."""
        return self.choices[0].delta.tool_calls if self.choices else None


@dataclass
class Choice:
    """One choice of a response. message: a dict that can be sent back as it is."""

    index: int
    message: dict[str, Any]
    finish_reason: str | None = None


@dataclass
class SendResponse:
    """A whole answer. raw: its JSON. headers: of the response."""

    choices: list[Choice]
    usage: Usage | None = None
    compression: Compression | None = None
    id: str | None = None
    model: str | None = None
    raw: dict[str, Any] = field(default_factory=lambda: {}, repr=False)
    headers: Mapping[str, str] = field(default_factory=_Headers, repr=False, compare=False)

    @property
    def text(self) -> str | None:
        """The text of the first choice, None if there is none. A refusal is not text: see `message`."""
        return _content_text((self.message or {}).get("content"))

    @property
    def reasoning(self) -> str | None:
        """The reasoning of the first choice, None if there is none."""
        return _reasoning_text(self.message or {})

    @property
    def message(self) -> dict[str, Any] | None:
        """The message of the first choice."""
        return self.choices[0].message if self.choices else None

    @property
    def finish_reason(self) -> str | None:
        """Why the first choice ended."""
        return self.choices[0].finish_reason if self.choices else None

    @property
    def tool_calls(self) -> list[dict[str, Any]] | None:
        """The tool calls of the first choice, None if there are none."""
        return _as_objects((self.message or {}).get("tool_calls")) or None

    @classmethod
    def from_chunks(cls, chunks: Iterable[StreamChunk]) -> SendResponse:
        """Merge the chunks of a stream into the response that send() would have returned.

        The `raw` of each chunk is merged. A chunk made by hand has none: its fields are merged.
        """
        chunks = list(chunks)
        return _parse_response(_merge_chunks(chunks), chunks[0].headers if chunks else _Headers())


# ---- Errors ---------------------------------------------------------------------------------------------------------


class EdgeeError(RuntimeError):
    """Anything that goes wrong once a request is under way."""


class APIError(EdgeeError):
    """The gateway said no, by its HTTP status or by an event of the stream.

    status: the HTTP status, None if an event named none. code, message: what the error says. body: its text.
    headers: of the response. request_id: for questions to the gateway's support. retry_after: the seconds that the
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
    """The answer is not a chat completion: bad JSON or framing, a wrong content type, an event of over 64 MiB."""


class NetworkError(OSError, EdgeeError):  # With EdgeeError first, NetworkError.__new__() fails. Dask calls it.
    """The gateway could not be reached or the connection broke. __cause__: the standard library's error."""


class RequestTimeoutError(NetworkError, TimeoutError):
    """No connection, no answer or no next event came in time."""


class StreamInterruptedError(NetworkError):
    """The answer ended before it was complete. Every chunk that arrived was yielded before this was raised."""


# ---- The event stream: bytes in, events out; nothing here reads or waits --------------------------------------------

_MAX_EVENT_BYTES = 64 << 20  # Pictures of 40 MB were seen in one event.


class EventStreamParser:
    """A parser of server-sent events (WHATWG HTML 9.2.6, "Interpreting an event stream").

    >>> parser = EventStreamParser()
    >>> parser.feed(b'data: {"a"')
    []
    >>> parser.feed(b': 1}\\n\\n')
    [('message', '{"a": 1}')]

    The bytes may be cut anywhere. Events whose data is blank are left out: they are keep-alives. An event of more than
    64 MiB raises ProtocolError. The fields id and retry are ignored. unended: the start of a line that has not ended;
    do not change it.
    """

    def __init__(self) -> None:
        self.unended = bytearray()
        self._data_buffer: list[bytes] = []
        self._event_name = "message"
        self._held_bytes = 0  # An upper bound for the event so far. _check_length() computes it exactly.
        self._at_start = True
        self._after_cr = False

    def feed(self, data: bytes) -> list[tuple[str, str]]:
        """Return the events that these bytes complete, each as (name, data). The default name is "message"."""
        if self._after_cr or b"\r" in data:
            data = self._end_lines_with_lf(data)
        lines = data.split(b"\n")
        rest = lines.pop()  # `*lines, rest = …` would cost an eighth of this function's time.
        if lines and (self.unended or self._at_start):
            lines[0] = self._complete_line(lines[0])
        self.unended += rest
        events: list[tuple[str, str]] = []
        for line in lines:
            if line[:6] == b"data: ":  # Nearly every line: parsed here to save a call.
                self._data_buffer.append(line[6:])
            elif line:
                self._parse_field(line)
            else:
                text = b"\n".join(self._data_buffer).decode("utf-8", "replace")
                if text.strip():
                    events.append((self._event_name, text))
                self._data_buffer, self._event_name = [], "message"
        self._held_bytes += len(data)
        if self._held_bytes > _MAX_EVENT_BYTES:
            self._check_length(events)
        if not (self.unended or self._data_buffer):
            self._held_bytes = 0
        return events

    def finish(self) -> tuple[str, str] | None:
        """Return the last event if its blank line never came, else None.

        The standard drops such an event. The caller knows what its data should be, and decides whether it is whole.
        """
        events = self.feed(b"\n\n")
        return events[0] if events else None

    def _end_lines_with_lf(self, data: bytes) -> bytes:
        # A CR ends its line at once, because the next byte may never come. If an LF comes next, it belongs to the CR.
        start = 1 if self._after_cr and data.startswith(b"\n") else 0
        self._after_cr = data.endswith(b"\r") if data else self._after_cr
        return data[start:].replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _complete_line(self, end: bytes) -> bytes:
        line = bytes(self.unended) + end
        self.unended.clear()
        if self._at_start and line.startswith(codecs.BOM_UTF8):
            line = line[len(codecs.BOM_UTF8) :]
        self._at_start = False
        return line

    def _check_length(self, events: list[tuple[str, str]]) -> None:
        self._held_bytes = len(self.unended) + sum(len(value) for value in self._data_buffer)
        if max([self._held_bytes, *(len(data) for _, data in events)]) > _MAX_EVENT_BYTES:
            raise ProtocolError(f"an event of the stream is longer than {_MAX_EVENT_BYTES >> 20} MiB")

    def _parse_field(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        if value.startswith(b" "):
            value = value[1:]
        if name == b"data":
            self._data_buffer.append(value)
        elif name == b"event":
            self._event_name = value.decode("utf-8", "replace") or "message"


# ---- From events to chunks and responses ----------------------------------------------------------------------------
#
# Members may be null, absent or of another type than documented. Objects and lists are checked here, so that no reader
# of a chunk has to check them. Text and numbers are passed on as they came. Classes are compared with `is`, because
# isinstance() is slower.

_json_decoder: Any = json.JSONDecoder()
_scan_json = _json_decoder.scan_once  # json.loads() adds 0.6 µs for a chunk, a tenth of its time.


def _decode_event(name: str, data: str, headers: Any, key: str) -> dict[str, Any]:
    """Return the JSON object of an event. Raise APIError if it is an error, ProtocolError if there is no object.

    data: without white space at its start.
    """
    if name == "error":
        raise _api_error(data, headers, key)
    raw: Any
    try:
        raw, end = _scan_json(data, 0)
    except (StopIteration, ValueError, RecursionError):
        raw, end = None, 0
    rest = data[end:]  # mostly empty, so it is not stripped without need
    if raw.__class__ is not dict or (rest and rest.strip()):
        # This is not passed over, because it may be the middle of a tool call's arguments.
        raise ProtocolError(f"the gateway sent no JSON object: {_one_line(data, key)}")
    # raw.get() would cost two calls for each chunk.
    if ("error" in raw and raw["error"]) or ("object" in raw and raw["object"] == "error"):
        raise _api_error(data, headers, key)
    return raw


def _parse_chunk(raw: dict[str, Any], headers: Any, member: str) -> StreamChunk:
    """Return the chunk that the JSON of an event stands for.

    member: "delta" or "message", see _message_member(). This is one function, because a chunk spends half of its time
    here.
    """
    choices: list[StreamChoice] = []
    found: Any = raw.get("choices")
    for choice in found if found.__class__ is list else ():
        if choice.__class__ is dict:
            index, delta = choice.get("index"), choice.get(member)
            if index.__class__ is not int:
                index = len(choices)
            if delta.__class__ is not dict:
                delta = _choice_message(choice, member)
            tool_calls = delta.get("tool_calls")
            if tool_calls is not None:
                tool_calls = _as_objects(tool_calls)
            stream_delta = StreamDelta(delta.get("role"), delta.get("content"), tool_calls)
            choices.append(StreamChoice(index, stream_delta, choice.get("finish_reason")))
    compression, usage = raw.get("compression"), raw.get("usage")
    if compression is not None:
        compression = _parse_numbers(Compression, compression)
    if usage is not None:
        usage = _parse_usage(usage)
    return StreamChunk(choices, compression, usage, raw.get("id"), raw.get("model"), raw, headers)


def _parse_response(raw: dict[str, Any], headers: Any) -> SendResponse:
    """Return the response that the JSON of a whole answer stands for."""
    choices: list[Choice] = []
    for choice in _as_objects(raw.get("choices")):
        message = _choice_message(choice, "message")
        choices.append(Choice(_object_index(choice, len(choices)), message, choice.get("finish_reason")))
    usage, compression = _parse_usage(raw.get("usage")), _parse_numbers(Compression, raw.get("compression"))
    return SendResponse(choices, usage, compression, raw.get("id"), raw.get("model"), raw, headers)


def _parse_usage(value: Any) -> Usage | None:
    """Return the numbers of tokens in a JSON object, None if it is not an object or is empty."""
    usage: Usage | None = _parse_numbers(Usage, value)
    if usage:
        details = [value.get("prompt_tokens_details"), value.get("input_tokens_details"), value]
        usage.cached_tokens = _first_number("cached_tokens", details)
        details = [value.get("completion_tokens_details"), value.get("output_tokens_details"), value]
        usage.reasoning_tokens = _first_number("reasoning_tokens", details)
    return usage


def _parse_numbers(kind: Any, value: Any) -> Any:
    """Return a Usage or a Compression with the numbers of a JSON object, None if it is not an object or is empty."""
    value = _as_object(value)
    return kind(*[_first_number(member.name, [value]) for member in fields(kind)]) if value else None


def _first_number(name: str, places: list[Any]) -> Any:
    """Return the number of that name in the first of the JSON objects that has one, else 0."""
    numbers = [_as_object(place).get(name) for place in places]
    return next((number for number in numbers if type(number) in (int, float)), 0)


def _message_member(headers: Any) -> str:
    """Return the name of what holds the content of a choice: "delta" in a stream, "message" in a whole answer.

    Some providers send both. In a stream the message is then all that came so far.
    """
    return "message" if "application/json" in headers.get("content-type", "").lower() else "delta"


def _choice_message(choice: dict[str, Any], member: str) -> dict[str, Any]:
    """Return the delta or the message of a choice, as member says. If that is null or absent, return the other one."""
    found = choice.get(member)
    return _as_object(choice.get("delta" if member == "message" else "message") if found is None else found)


def _first_message(raw: dict[str, Any], headers: Any) -> dict[str, Any]:
    """Return the delta or the message of the first choice in the JSON of a chunk."""
    choices = _as_objects(raw.get("choices"))
    return _choice_message(choices[0], _message_member(headers)) if choices else {}


def _content_text(content: Any) -> str | None:
    """Return the text of a message's content, which is text or a list of parts. None if it has no text."""
    if isinstance(content, list):
        texts = [part.get("text") for part in _as_objects(content) if part.get("type") == "text"]
        content = "".join(text for text in texts if isinstance(text, str))
    return content if content and isinstance(content, str) else None


def _reasoning_text(message: dict[str, Any]) -> str | None:
    """Return the reasoning of a message or a delta, None if it has none. Providers use one of two names."""
    return _content_text(message.get("reasoning_content")) or _content_text(message.get("reasoning"))


def _parse_json(text: str) -> Any:
    """Return the value of a JSON text, None if it is no JSON."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _as_object(value: Any) -> dict[str, Any]:
    """Return the value if it is a JSON object, else an empty one."""
    return value if value.__class__ is dict else {}


def _as_objects(value: Any) -> list[dict[str, Any]]:
    """Return the objects in a JSON list, none if the value is no list."""
    return [member for member in value if member.__class__ is dict] if value.__class__ is list else []


def _object_index(value: Any, default: Any = None) -> Any:
    """Return the index of a JSON object, or the default if it has none."""
    index = _as_object(value).get("index")
    return index if index.__class__ is int else default


# ---- Merging: the pieces of a stream become a response ---------------------------------------------------------------
#
# Objects are merged member by member; null, [] and empty text do not count. Text that comes in pieces is joined, lists
# are extended. Of any other member the last value counts; of `id`, `type` and `name` the first.

# The text that comes in pieces, by the name of the object that holds it.
_PIECES_OF_TEXT: dict[str, tuple[str, ...]] = {
    "delta": ("content", "reasoning", "reasoning_content", "refusal"),
    "function": ("arguments",),
    "function_call": ("arguments",),
    "custom": ("input",),
    "audio": ("data", "transcript"),
    "reasoning_details": ("text", "summary", "thinking"),
    "thinking_blocks": ("text", "summary", "thinking"),
}
# The lists whose objects come in pieces. Those of one index and one type belong together.
_LISTS_OF_PIECES = ("executed_tools", "reasoning_details", "thinking_blocks")
_EMPTY: Any = (None, "", [], {})


def _merge_chunks(chunks: Iterable[StreamChunk]) -> dict[str, Any]:
    """Return the JSON of the response that the chunks of a stream are pieces of.

    Its choices are merged. Its id and its model are the first that came, its other members are the last that came.
    """
    merged: dict[str, Any] = {}
    pieces: dict[int, list[dict[str, Any]]] = {}  # choices by index
    for chunk in chunks:
        raw = chunk.raw or {**asdict(chunk), "raw": None, "headers": None}
        for name, value in raw.items():
            is_new = merged.get(name) in _EMPTY
            if value is not None and (is_new or (value not in _EMPTY and name not in ("id", "model"))):
                merged[name] = value
        for position, choice in enumerate(_as_objects(raw.get("choices"))):
            delta = _choice_message(choice, _message_member(chunk.headers))
            piece = {**choice, "index": None, "delta": delta, "message": None}
            pieces.setdefault(_object_index(choice, position), []).append(piece)
    choices: list[dict[str, Any]] = []
    for index in sorted(pieces):
        whole: dict[str, Any] = {"index": index, "finish_reason": None, **_merge_objects("choice", pieces[index])}
        message = whole.pop("delta")
        whole["message"] = {"role": message.pop("role", None) or "assistant", "content": None, **message}
        choices.append(whole)
    return {**merged, "object": "chat.completion", "choices": choices}


def _merge_objects(holder: str, objects: list[dict[str, Any]]) -> dict[str, Any]:
    """Merge objects member by member. holder: the name of the member that holds these objects."""
    gathered: dict[str, list[Any]] = {}
    for one in objects:
        for name, value in one.items():
            if value is not None and value != []:
                gathered.setdefault(name, []).append(value)
    merged = {name: _merge_values(holder, name, values) for name, values in gathered.items()}
    return {name: value for name, value in merged.items() if value != []}  # Some APIs refuse an empty list.


def _merge_values(holder: str, name: str, values: list[Any]) -> Any:
    """Merge the values of one member, given in the order in which they came."""
    if name == "tool_calls":
        return _merge_tool_calls([piece for value in values for piece in _as_objects(value)])
    in_pieces = name in _PIECES_OF_TEXT.get(holder, ())
    if in_pieces and name == "arguments":  # Some providers send an object, but accept only text.
        values = [value if isinstance(value, str) else json.dumps(value) for value in values]
    types = {value.__class__ for value in values}
    if types == {dict}:
        return _merge_objects(name, values)
    if types == {list} or (types == {str, list} and name == "content"):
        return _merge_lists(name, values)
    if types == {str} and in_pieces:
        return _join_text(values)
    filled = [value for value in values if value not in _EMPTY] or values
    return filled[0] if name in ("id", "type", "name") else filled[-1]


def _merge_lists(name: str, values: list[Any]) -> list[Any]:
    """Join lists. If their members come in pieces, merge these. Text between lists becomes a text part."""
    members: list[Any] = []
    for kind, run in itertools.groupby([value for value in values if value], lambda value: value.__class__):
        if kind is str:
            members.append({"type": "text", "text": _join_text(run)})
        else:
            members.extend(itertools.chain.from_iterable(run))
    if name not in _LISTS_OF_PIECES:
        return members
    groups: dict[Any, list[Any]] = {}
    types: dict[int, str] = {}  # by index; a later piece may have no type
    for position, member in enumerate(members):
        index = _object_index(member)
        if index is None:
            groups[position] = [member]
        else:
            types[index] = str(member.get("type") or types.get(index))
            groups.setdefault((index, types[index]), []).append(member)
    return [_merge_objects(name, group) if len(group) > 1 else group[0] for group in groups.values()]


def _join_text(pieces: Iterable[str]) -> str:
    """Join pieces of text. A surrogate pair that is split over two pieces becomes one character."""
    return "".join(pieces).encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")


def _merge_tool_calls(pieces: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the tool calls that the pieces belong to, ready to be sent back."""
    calls: list[list[dict[str, Any]]] = []
    known: dict[Any, list[dict[str, Any]]] = {}  # calls by index (a number) and by id (text)
    call: list[dict[str, Any]] = []  # the call of the piece before
    for piece in pieces:
        index, call_id = _object_index(piece), str(piece.get("id") or "")
        name = _as_object(piece.get("function") or piece.get("custom")).get("name")
        if call_id in known:
            call = known[call_id]
        elif index in known and not (call_id and name):  # With both it begins a call, even if the index is taken.
            call = known[index]
        elif call_id or name or not calls:
            call = []
            calls.append(call)
        call.append({**piece, "index": None})
        known.update((label, call) for label in (index, call_id) if label not in _EMPTY)
    merged = [_merge_objects("tool_calls", call) for call in calls]
    for whole in merged:  # An API asks for these members when the message is sent back.
        whole["type"] = whole.get("type") or ("custom" if "custom" in whole else "function")
        function = _as_object(whole.get("function"))
        if function:
            whole["function"] = {**function, "arguments": function.get("arguments", "")}
    return merged


# ---- What the gateway's errors say, without the key -----------------------------------------------------------------

_EXCERPT_CHARACTERS = 500
_SHORTEST_KEY_CHARACTERS = 8  # A shorter one is no key of the gateway, and may be part of any word.


def _redact(text: str, key: str) -> str:
    """Return a text without the API key."""
    return text.replace(key, "[api key]") if len(key) >= _SHORTEST_KEY_CHARACTERS else text


def _one_line(text: str, key: str) -> str:
    """Return the start of a text as one printable line without the key."""
    start = _redact(text, key)[: 20 * _EXCERPT_CHARACTERS]  # An event may have 64 MiB.
    line = " ".join("".join(character if character.isprintable() else " " for character in start).split())
    return line if len(line) <= _EXCERPT_CHARACTERS else line[:_EXCERPT_CHARACTERS] + "…"


def _api_error(
    text: str, headers: Any, key: str, status: int | None = None, reason: str = "", hint: str = ""
) -> APIError:
    """Return the error that the body of an answer or the data of an event describes, as JSON or as any text.

    status, reason: of the answer; the reason is shown if the text says nothing. hint: what to add to the message.
    """
    text = _redact(text, key)
    code, message, named_status = _find_error(_parse_json(text))
    return APIError(
        (_one_line(message or text, key) or reason or "no reason given") + hint,
        status=status or named_status,
        code=code,
        body=text,
        headers=headers,
        request_id=headers.get("x-request-id") or headers.get("request-id"),
        retry_after=_parse_retry_after(headers),
    )


def _unwrap_list(value: Any) -> Any:
    """Return the first member of a list, any other value as it is. Some gateways send their errors in a list."""
    return value[0] if value.__class__ is list and value else value


def _find_error(document: Any) -> tuple[str | int | None, str | None, int | None]:
    """Return the code, the message and the HTTP status in a JSON error, None for what it does not have.

    Gateways put errors into errors. What an inner one says wins, but a code that is text is not lost to a number. In
    one object the text of `message` comes first, then that of `msg`, `detail` and `error`.
    """
    code: str | int | None = None
    message: str | None = None
    status: int | None = None
    error: Any = _unwrap_list(document)
    while error.__class__ is dict:
        found = error.get("code")
        if found and (found.__class__ is str or (found.__class__ is int and code.__class__ is not str)):
            code = found
        for name in ("status_code", "status", "code"):  # The last one wins.
            if re.fullmatch("[45][0-9][0-9]", str(error.get(name))):
                status = int(error[name])
        inner: list[Any] = [_unwrap_list(error.get(name)) for name in ("message", "msg", "detail", "error", "errors")]
        message = next((text for text in inner if isinstance(text, str) and text.strip()), message)
        error = next((value for value in reversed(inner) if value.__class__ is dict), None)
    return code, message, status


def _parse_retry_after(headers: Any) -> float | None:
    """Return the seconds to wait by retry-after-ms or Retry-After (RFC 9110, 10.2.3), None if not given."""
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        value = headers.get(name, "")
        if re.fullmatch(r"[0-9]+(\.[0-9]+)?", value):
            return float(value) * unit
    # What is no date raises one of these, the last two in Python 3.8 and 3.9.
    with contextlib.suppress(TypeError, ValueError, OverflowError, LookupError, UnboundLocalError):
        date = email.utils.parsedate_to_datetime(headers.get("retry-after", ""))
        return max(0.0, calendar.timegm(date.utctimetuple()) - time.time())
    return None


# ---- Settings and request body: all that is checked before anything is sent -----------------------------------------

_DEFAULT_BASE_URL = "https://edgee.io"
_BASE_URL_PATTERN = re.compile(
    r"(https?)://"
    r"([\w.-]+|\[[0-9a-f]*:[0-9a-f]*:[0-9a-f:.]*\])"  # No %: urllib.request would decode it, and ask another host.
    r"(:[0-9]{1,5})?"
    r"(/[\w/.~%!$&'()*+,;=:-]*)?",
    re.ASCII | re.IGNORECASE,
)
_PORTS = {"http": 80, "https": 443}
_DEFAULT_TIMEOUT_SECONDS = 600.0
_LONGEST_TIMEOUT_SECONDS = 2_000_000.0  # poll() counts milliseconds in 32 bits: a longer time-out may end at once.
_DEFAULT_MAX_RETRIES = 2
_HEADER_NAME = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # RFC 9110, 5.1
_FRAMING_HEADERS = ("connection", "content-length", "host", "transfer-encoding")
_SWITCH_HEADERS = {
    "tool_result_trimming": "X-Edgee-Compression-Tool-Result-Trimming",
    "tool_surface_reduction": "X-Edgee-Compression-Tool-Surface-Reduction",
    "output_brevity": "X-Edgee-Compression-Brevity",
}


def _require(name: str, value: Any, types: Any, wanted: str) -> None:
    """Raise TypeError unless a setting or an argument has one of the types. The message does not show the value."""
    if not isinstance(value, types) or isinstance(value, bool):  # True is an int for Python, but no number of seconds.
        raise TypeError(f"{name} must be {wanted}, not {type(value).__name__}")


def _resolve_settings(config: Any) -> EdgeeConfig:
    """Return the complete settings: each as given, else from the environment, else the default."""
    if config is None or isinstance(config, str):
        config = EdgeeConfig(config)
    elif not isinstance(config, EdgeeConfig):
        _require("config", config, Mapping, "an API key, an EdgeeConfig or a dict")
        known = [setting.name for setting in fields(EdgeeConfig)]
        unknown = [str(name) for name in config if name not in known]
        if unknown:  # A name that may be a key in the wrong place is not shown.
            harmless = [name for name in unknown if re.fullmatch("[A-Za-z_]{1,20}", name)]
            shown = ", ".join(harmless) or "its name may be secret"
            raise ValueError(f"unknown setting: {shown}; known are {', '.join(known)}")
        config = EdgeeConfig(**config)
    key = _check_key(_given(config.api_key, "EDGEE_API_KEY"))
    base_url = _check_base_url(_given(config.base_url, "EDGEE_BASE_URL", _DEFAULT_BASE_URL))
    timeout = _check_timeout(_DEFAULT_TIMEOUT_SECONDS if config.timeout is None else config.timeout)
    max_retries = _DEFAULT_MAX_RETRIES if config.max_retries is None else config.max_retries
    _require("max_retries", max_retries, int, "a whole number")
    if max_retries < 0:
        raise ValueError("max_retries must be 0 or more")
    headers = _check_headers({} if config.headers is None else config.headers)
    return EdgeeConfig(key, base_url, timeout, max_retries, headers)


def _given(value: Any, variable: str, default: Any = None) -> Any:
    """Return a setting as given, else from the environment, else the default. An empty one counts as not given."""
    return (os.environ.get(variable) or default) if value is None or value == "" else value


def _check_key(key: Any) -> str:
    """Return the API key if a header can hold it."""
    if key is None:
        raise ValueError("EDGEE_API_KEY is not set")
    _require("api_key", key, str, "a str")
    if not re.fullmatch("[!-~]+", key):
        raise ValueError("api_key has a character that is not visible ASCII, such as a space or a line end")
    return str(key)


def _check_base_url(url: Any) -> str:
    """Return the URL without a default port, slashes at its end, /v1 and /v1/chat/completions.

    No message shows it, because it may hold a password.
    """
    _require("base_url", url, str, "a str")
    found = _BASE_URL_PATTERN.fullmatch(url)
    if not found or int((found[3] or ":0")[1:]) > 65535:
        raise ValueError("base_url must be http://host or https://host in ASCII, without user, query or fragment")
    scheme, host, port, path = found.groups("")
    scheme = scheme.lower()
    if port == f":{_PORTS[scheme]}":
        port = ""
    return f"{scheme}://{host}{port}" + re.sub(r"(/+v1)?(/+chat/+completions)?/*$", "", path)


def _check_timeout(seconds: Any) -> float:
    """Return the time limit in seconds."""
    _require("timeout", seconds, (int, float), "a number of seconds")
    if not 0 < seconds < float("inf"):
        raise ValueError(f"timeout must be a positive number of seconds, not {seconds}")
    return float(min(seconds, _LONGEST_TIMEOUT_SECONDS))


def _check_headers(headers: Any) -> dict[str, str]:
    """Return the headers if they can be sent (RFC 9110, 5.1 and 5.5). No message shows a value."""
    _require("headers", headers, Mapping, "a dict")
    for name, value in headers.items():
        _require("each name in headers", name, str, "a str")
        _require("each value in headers", value, str, "a str")
        if not re.fullmatch(_HEADER_NAME, name) or name.lower() in _FRAMING_HEADERS:
            raise ValueError("headers has a name that cannot be sent, or that only the client may set")
        if not re.fullmatch("[\t -~]*", value):
            raise ValueError(f"headers has a value that cannot be sent, for {name!r}")
    return dict(headers)


def _build_request(model: Any, input: Any, stream: bool) -> tuple[bytes, dict[str, str]]:
    """Return the body of a request, and the headers that some members of the input become."""
    _require("model", model, str, "a str")
    if not model.strip():
        raise ValueError("model is empty")
    body = {**_read_input(input), "model": model, "stream": stream}
    if not stream:  # A "stream" of the input is dropped too.
        del body["stream"]
    switches = [name for name in _SWITCH_HEADERS if isinstance(body.get(name), bool)]
    headers = {_SWITCH_HEADERS[name]: str(body.pop(name)).lower() for name in switches}
    try:
        return json.dumps(body, default=_object_members, allow_nan=False).encode("ascii"), headers
    except TypeError as error:
        raise TypeError(f"input cannot be sent as JSON: {error}") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"input cannot be sent as JSON: {error}") from error


def _read_input(input: Any) -> dict[str, Any]:
    """Return the members of the body that an input asks for, in a new dict."""
    if isinstance(input, str):
        return {"messages": [{"role": "user", "content": input}]}
    _require("input", input, (list, tuple, Mapping, InputObject), "a str, a list, a dict or an InputObject")
    asked: dict[str, Any] = {"messages": input} if isinstance(input, (list, tuple)) else _object_members(input)
    extra: Any = asked.pop("extra_body", None) or {}
    _require("extra_body", extra, Mapping, "a dict")
    asked.update(extra)
    messages = asked.get("messages")
    if not messages:
        raise ValueError("input has no messages")
    _require("messages", messages, (list, tuple), "a list")
    for position, message in enumerate(messages):
        _require(f"messages[{position}]", message, (Mapping, Message), "a dict or a Message")
    return asked


def _object_members(value: Any) -> dict[str, Any]:
    """Return the members of a dict, or those of one of the input classes that are not None."""
    if isinstance(value, (InputObject, Message, Tool, FunctionDefinition, ToolCall)):
        return {name: member for name, member in vars(value).items() if member is not None}
    _require("each value", value, Mapping, "text, a number, a list or a dict")
    return dict(value)


# ---- HTTP: connections of http.client that are kept, proxies, TLS, and a limit to every wait -------------------------
#
# A request goes through urllib.request's OpenerDirector.open(), because tools that watch urllib (OpenTelemetry) wrap
# that method and add their headers. The opener has one handler, which passes the request on to _Call.handle_open().
# No handler follows redirects.
#
# These details of http.client are not documented. They are the same from Python 3.8 to 3.14, and the tests hold them:
# HTTPConnection._create_connection and .response_class; HTTPResponse.fp, .length, and .begin() when .headers is None.

_CONNECT_SECONDS = 10.0  # All addresses of the host, a proxy's answer and TLS share them.
_KEEPALIVE_SECONDS = 60  # of silence, before TCP asks whether the other end is still there
_IDLE_CONNECTIONS, _IDLE_SECONDS = 10, 60.0
_DRAIN_SECONDS = 0.1  # The end of a body follows [DONE] within a round trip, or is not worth the wait.
_CLOCK_TICK_SECONDS = 0.02  # A clock of Windows ticks 64 times a second.
_BLOCK_BYTES = 64 << 10
_CLOSED_MESSAGE = "the client was closed before the answer was complete"


def _import_http() -> None:
    """Import what only requests need. They take 20 ms."""
    global base64, calendar, email, http, random, selectors, socket, urllib
    import base64
    import calendar
    import email.utils
    import http.client
    import random
    import selectors
    import socket
    import urllib.parse
    import urllib.request


class _Transport:
    """What the calls of one client share: the way to the gateway, and the idle connections."""

    def __init__(self, settings: Any, use_proxies: bool) -> None:  # an EdgeeConfig in which nothing is None
        self.settings = settings
        [(self.scheme, name, port, _)] = _BASE_URL_PATTERN.findall(settings.base_url)
        self.host = name + port
        self.address = name.strip("[]"), int(port[1:]) if port else _PORTS[self.scheme]
        self.idle: list[Any] = []  # (connection, its last response, when it became idle)
        self.calls: set[_Call] = set()  # the running ones
        # The next three are made for the first request.
        self.opener: Any = None
        self.context: ssl.SSLContext | None = None
        self.proxy: tuple[tuple[str, int], dict[str, str]] | None = None  # its address and the headers for it
        self._use_proxies = use_proxies
        self._lock = threading.RLock()
        self._process = os.getpid()
        weakref.finalize(self, _close_idle, self.idle).atexit = False  # At exit the system closes sockets anyway.

    def begin(self, call: _Call) -> None:
        """Register a running call. Before the first one, find the proxy and make the TLS context and the opener."""
        _import_http()
        self._forget_parent()
        self.calls.add(call)
        with self._lock:
            if not self.opener:
                self._prepare()

    def _forget_parent(self) -> None:
        """After a fork, drop what belongs to the parent process. A thread of the parent may hold its locks."""
        if self._process != os.getpid():
            self._process, self._lock, self.calls = os.getpid(), threading.RLock(), set()
            _close_idle(self.idle)

    def _prepare(self) -> None:
        """Make what all requests use."""
        self.proxy = _find_proxy(self.scheme, self.address) if self._use_proxies else None
        self.context = _make_tls_context() if self.scheme == "https" else None

        def handle_open(request: Any) -> Any:
            return request.call.handle_open(request)

        # An opener and its handler refer to each other. If they referred to this object, idle sockets would stay open
        # until the garbage collector runs.
        opener = urllib.request.OpenerDirector()
        handler: Any = urllib.request.BaseHandler()
        handler.http_open = handler.https_open = handle_open
        opener.add_handler(handler)
        self.opener = opener

    def close(self) -> None:
        """End the running calls, and close the idle connections."""
        self._forget_parent()
        for call in list(self.calls):
            call.end()
        _close_idle(self.idle)


class _Call:
    """A running request: what to send, its deadline, its connection, and its end from another thread."""

    def __init__(
        self, transport: _Transport, timeout: float, path: str, body: bytes | None = None,
        headers: Mapping[str, str] | None = None, streamed: bool = False,
    ) -> None:  # fmt: skip
        self.transport, self.timeout = transport, timeout
        self.host, self.key = transport.host, transport.settings.api_key
        self.url, self.body, self.own_headers = f"{transport.settings.base_url}/v1/{path}", body, headers or {}
        self.streamed = streamed  # The answer is wanted as a stream of events.
        self.stage, self.seconds, self.deadline = "", 0.0, 0.0  # see begin_stage()
        self.connection: Any = None  # an HTTPConnection
        self.response: Any = None  # an HTTPResponse
        self.sock: Any = None  # The connection drops its socket when the server is going to close it.
        self.headers = _Headers()  # of the response
        self.content_type = ""
        self.is_framed = False  # The head says where the body ends. Otherwise the end of the connection ends it.
        self.reused = False  # The connection was a kept one.
        self.answered = False  # The first byte of an answer came: the request may be under way, and paid.
        self.ended = False  # by end()
        # Held until end(). With an Event, a signal handler that calls close() during wait() could wait for itself.
        self._running = threading.Lock()
        self._running.acquire()
        self._step_deadline = 0.0  # when the current step on the socket times out
        # The last block restarted the stage, so the socket's time-out is that of a whole stage.
        self._restarted = False
        self._lock = threading.RLock()  # An RLock: a signal handler or the garbage collector may come in.
        self._process = os.getpid()

    def begin_stage(self, stage: str, seconds: float, since: float | None = None) -> None:
        """Begin a stage, "connect", "answer", "event" or "whole answer", which may take so many seconds."""
        self.stage, self.seconds = stage, seconds
        self.deadline = self._step_deadline = (time.monotonic() if since is None else since) + seconds

    def limit_step(self, seconds: float = float("inf")) -> None:
        """Let the next step on the socket take what is left of the stage's time, and no more than these seconds."""
        left = min(self.deadline - time.monotonic(), seconds)
        if self.ended:
            raise ConnectionAbortedError(_CLOSED_MESSAGE)
        if left <= 0:
            self._step_deadline = 0.0
            raise socket.timeout("timed out")
        self._step_deadline = time.monotonic() + left
        self.sock.settimeout(left)

    def wait(self, seconds: float) -> None:
        """Wait before the request is sent again. Raise StreamInterruptedError if the call is ended meanwhile."""
        if self._running.acquire(timeout=seconds):
            raise StreamInterruptedError(_CLOSED_MESSAGE)

    def is_alarm(self, error: Exception) -> bool:
        """Return True if a signal handler of the program raised this TimeoutError: the socket's own comes later."""
        return _is_timeout(error) and time.monotonic() < self._step_deadline - _CLOCK_TICK_SECONDS

    def request(self) -> None:
        """Send the request through the opener, and keep the head of its answer."""
        request: Any = urllib.request.Request(self.url, self.body)
        headers = {"Authorization": f"Bearer {self.key}", "User-Agent": f"edgee-py/{__version__}"}
        if self.body is not None:
            headers["Content-Type"] = "application/json"
        if self.streamed:
            headers["Accept"] = "text/event-stream"
        # Names of headers have no case. Of two with one name, add_unredirected_header() keeps the last.
        for name, value in (*headers.items(), *self.transport.settings.headers.items(), *self.own_headers.items()):
            request.add_unredirected_header(name, value)  # add_header() would show the key in an audit event.
        request.call = self  # The opener's handler finds it there.
        try:
            self.transport.opener.open(request)
        except (OSError, http.client.HTTPException) as error:
            if self.is_alarm(error):
                raise
            raise _network_error(error, self) from error
        self.headers = _Headers()
        for name, value in self.response.headers.items():
            value = _redact(value.strip(), self.key)
            self.headers[name.lower()] = f"{self.headers[name]}, {value}" if name in self.headers else value
        self.content_type = self.response.headers.get_content_type()
        self.is_framed = self.response.chunked or self.response.length is not None
        request_id = _one_line(self.headers.get("x-request-id", "none"), self.key)
        _log("%d %s, request id %s", self.response.status, _one_line(self.response.reason, self.key), request_id)

    def handle_open(self, request: Any) -> Any:
        """Send the opener's request on a kept or a new connection; return http.client's response."""
        start = time.monotonic()
        self.begin_stage("connect", min(self.timeout, _CONNECT_SECONDS))
        self.reused = self._take_idle()
        if self.reused:
            _log("on a kept connection")
        else:
            self._connect()
            _log("on a new connection, made in %.3f s", time.monotonic() - start)
        self.begin_stage("answer", self.timeout, start)
        self.answered = False
        self.limit_step()
        self._send_request(request)
        self.limit_step()
        return self._get_response()

    def _send_request(self, request: Any) -> None:
        """Send a request on the connection."""
        headers = {"Host": self.host, **dict(request.header_items())}
        if self.transport.proxy and not self.transport.context:
            request.selector = request.full_url
            headers.update(self.transport.proxy[1])
        try:
            self.connection.request(request.get_method(), request.selector, request.data, headers)
        except OSError as error:
            # A server may answer 413 and close before it has read the request. Read its answer.
            if _is_timeout(error):
                raise

    def _get_response(self) -> Any:
        """Return the response when its head has come, without the interim answers before it."""
        self.connection.response_class = self._make_response
        response = self.connection.getresponse()
        del self.connection.response_class  # It refers to this call: see _connect().
        while 101 < response.status < 200:  # http.client skips an interim answer only if it is 100.
            self.limit_step()
            response.headers = None
            response.begin()
        if self.ended:  # http.client accepts a head that was cut off.
            raise ConnectionAbortedError(_CLOSED_MESSAGE)
        return response

    def _take_idle(self) -> bool:
        """Take a kept connection that can be used. Return False if there is none."""
        until = time.monotonic() + _DRAIN_SECONDS
        for connection, response, since in _take_each(self.transport.idle):
            self.connection, self.response, self.sock = connection, response, connection.sock
            if time.monotonic() - since < _IDLE_SECONDS and self._is_reusable(until):
                return True
            self.let_go()
            if time.monotonic() >= until:
                break
        return False

    def _is_reusable(self, until: float) -> bool:
        """Return True if the connection can carry another request. Reads the rest of the last answer."""
        try:
            self.limit_step(until - time.monotonic())
            while self.response.read1(_BLOCK_BYTES):
                self.limit_step(until - time.monotonic())
            self.response.close()  # Before 3.13, read1() does not close it at the end of a body of known length.
            with selectors.DefaultSelector() as selector:
                selector.register(self.sock, selectors.EVENT_READ)
                return not selector.select(0)  # A readable idle connection is one that the server has closed.
        except (OSError, http.client.HTTPException, OverflowError) as error:  # OverflowError: see read_block()
            if self.is_alarm(error):
                raise
            return False

    def _connect(self) -> None:
        """Make a connection to the gateway, through a proxy if there is one, and over TLS if the URL says so."""
        address, context, proxy = self.transport.address, self.transport.context, self.transport.proxy
        connection: Any = http.client.HTTPConnection(*(proxy[0] if proxy else address))
        connection.set_debuglevel(0)  # Its output would show the key.
        if proxy and context:
            connection.set_tunnel(*address, proxy[1])
        connection._create_connection = self._connect_socket
        connection.response_class = self._make_response
        try:
            connection.connect()
        except UnicodeError as error:  # A label of the host's name is too long, for example.
            raise OSError(f"the host's name is not valid: {error}") from error
        del connection._create_connection  # An idle connection must not refer to this call, and so to the client.
        if self.response:  # Before Python 3.12 http.client leaves the answer of a proxy open.
            self.response.close()
        self.connection = connection
        if context:
            # HTTPSConnection would do this in connect(), where end() could not reach the socket.
            self.sock = context.wrap_socket(self.sock, server_hostname=address[0], do_handshake_on_connect=False)
            connection.sock = self.sock
            self.limit_step()
            self.sock.do_handshake()

    def _connect_socket(self, address: tuple[str, int], *_timeout_and_source: object) -> Any:
        """Return a socket that is connected to a host. Each of its addresses gets a fair share of the time."""
        self._step_deadline = float("inf")  # Looking up a name raises no TimeoutError of its own: see is_alarm().
        found = socket.getaddrinfo(*address, 0, socket.SOCK_STREAM)
        for untried, (family, kind, protocol, _, resolved) in zip(range(len(found), 0, -1), found):
            try:
                self.sock = socket.socket(family, kind, protocol)
                _set_keepalive(self.sock)
                self.limit_step((self.deadline - time.monotonic()) / untried)
                self.sock.connect(resolved)
                self.limit_step()  # A proxy's answer may take what is left.
                return self.sock
            except OSError as error:
                self.let_go()
                if untried == 1 or self.ended or self.is_alarm(error):
                    raise
        raise OSError("its name has no address")

    def _make_response(self, sock: socket.socket, **options: Any) -> Any:
        """Make the response for getresponse(), and wait for its first byte."""
        response: Any = http.client.HTTPResponse(sock, **options)
        self.response = response
        self.answered = bool(response.fp.peek(1))
        return response

    def read_block(self, restart: bool = False) -> bytes:
        """Return the next bytes of the body, b"" at its end. Raise a NetworkError if it is cut or late.

        restart: an event came, so the time for the next one begins now. Setting a socket's time-out is a system call, a
        sixth of a chunk's time. It is set only where it differs from that of the last block.
        """
        try:
            if restart:
                self.deadline = self._step_deadline = time.monotonic() + self.seconds
            if not (restart and self._restarted) and not self.response.isclosed():
                if restart:
                    self.sock.settimeout(self.seconds)  # not what is left, because it stays for the next events
                else:
                    self.limit_step()
            self._restarted = restart
            block: bytes = self.response.read1(_BLOCK_BYTES)
            # At a cut, read1() raises IncompleteRead in a chunked body, and returns b"" in one of a known length.
            if not block and (self.response.length or self.ended):
                raise http.client.IncompleteRead(b"")
            return block
        except (OSError, http.client.HTTPException, OverflowError) as error:  # OverflowError: a negative chunk size
            if self.is_alarm(error):
                raise
            raise _network_error(error, self) from error

    def let_go(self, keep: bool = False) -> None:
        """Keep the connection for another call if keep is True and the server allows it, else close it."""
        with self._lock:
            connection, response, sock = self.connection, self.response, self.sock
            self.connection = self.response = self.sock = None
            # After an interim answer that says "Connection: close" the connection has dropped its socket.
            keep = keep and not response.will_close and connection.sock is not None
            if keep and not self.ended and len(self.transport.idle) < _IDLE_CONNECTIONS:
                # In the lock, because close() ends this call first, and then closes the idle connections.
                self.transport.idle.append((connection, response, time.monotonic()))
                return
        for opened in filter(None, (connection, response, sock)):
            opened.close()

    def end(self) -> None:
        """End the call from another thread. A read that waits returns at once."""
        with self._lock:  # let_go() may give the socket to another call meanwhile.
            self.ended = True
            with contextlib.suppress(RuntimeError):  # It was ended before.
                self._running.release()
            if self.sock and self._process == os.getpid():  # A forked child leaves its parent's connection alone.
                with contextlib.suppress(OSError):  # The server has closed it.
                    # Not SSLSocket.shutdown(): a read that waits would then return encrypted bytes.
                    socket.socket.shutdown(self.sock, socket.SHUT_RDWR)


def _set_keepalive(sock: socket.socket) -> None:
    """Let TCP ask now and then whether the other end is there. Some routers drop a silent connection."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    # On macOS the option is 16 and its name TCP_KEEPALIVE, which Python knows from 3.10 on.
    option = 16 if sys.platform == "darwin" else getattr(socket, "TCP_KEEPIDLE", None)
    if option is not None:
        sock.setsockopt(socket.IPPROTO_TCP, option, _KEEPALIVE_SECONDS)


def _take_each(idle: list[Any]) -> Iterator[Any]:
    """Remove and yield the idle connections. The oldest comes first, so that none stays in the list."""
    with contextlib.suppress(IndexError):  # Other threads, and the garbage collector, may take the last one.
        while True:
            yield idle.pop(0)


def _close_idle(idle: list[Any]) -> None:
    """Close the idle connections."""
    for connection, _, _ in _take_each(idle):
        connection.close()


def _find_proxy(scheme: str, address: tuple[str, int]) -> tuple[tuple[str, int], dict[str, str]] | None:
    """Return the address of the proxy that the environment names, and the headers for it. None if it names none."""
    proxy = urllib.request.getproxies_environment().get(scheme)
    if not proxy or urllib.request.proxy_bypass("{}:{}".format(*address)):  # by NO_PROXY
        return None
    with contextlib.suppress(ValueError):  # a port that is no number, for example
        url = urllib.parse.urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        if url.scheme == "http" and url.hostname:
            user = urllib.parse.unquote(f"{url.username or ''}:{url.password or ''}").encode()
            headers = {"Proxy-Authorization": "Basic " + base64.b64encode(user).decode()} if url.username else {}
            return (url.hostname, url.port or _PORTS["http"]), headers
    # The URL is not shown, because it may hold a password.
    raise NetworkError(f"{scheme.upper()}_PROXY must be http://host:port; a socks or https proxy cannot be used")


def _make_tls_context() -> ssl.SSLContext:
    """Return a context that verifies the server with the certificates of the system or of SSL_CERT_FILE."""
    try:
        import ssl

        context = ssl.create_default_context()
        paths = ssl.get_default_verify_paths()
        # Counting certificates is slow: look at the paths first.
        if not (paths.cafile or (paths.capath and os.listdir(paths.capath)) or context.cert_store_stats()["x509_ca"]):
            with contextlib.suppress(ImportError):  # Some Pythons for macOS have no certificates of their own.
                context.load_verify_locations(importlib.import_module("certifi").where())
    except ImportError as error:
        raise NetworkError("https:// needs the ssl module, which this Python does not have") from error
    except OSError as error:
        raise NetworkError(f"cannot read the trusted certificates: {error}") from error
    context.set_alpn_protocols(["http/1.1"])
    return context


def _is_timeout(error: Exception) -> bool:
    """Return True if a wait took too long. With the errno ETIMEDOUT it is a connection that broke."""
    # Before Python 3.10 socket.timeout was no TimeoutError.
    return isinstance(error, (TimeoutError, socket.timeout)) and error.errno != errno.ETIMEDOUT


def _network_error(error: Exception, call: _Call) -> EdgeeError:
    """Return the EdgeeError that an error of the standard library means in this stage of a call."""
    if call.ended:
        return StreamInterruptedError(_CLOSED_MESSAGE)
    if call.stage == "connect":
        return _connect_error(error, call)
    if _is_timeout(error):
        return RequestTimeoutError(f"no {call.stage} from {call.host} within {call.seconds:g} s")
    kind = NetworkError if call.stage == "answer" else StreamInterruptedError
    # A status line without a line end was cut. RemoteDisconnected, a subclass of BadStatusLine, has a text of its own.
    if type(error) is http.client.BadStatusLine and not str(error).endswith("\n"):
        error = http.client.IncompleteRead(b"")
    if isinstance(error, http.client.IncompleteRead):
        return kind(f"the connection to {call.host} broke: the answer was cut")
    text = _one_line(str(error), call.key)
    if isinstance(error, http.client.HTTPException) and not isinstance(error, OSError):
        return ProtocolError(f"{call.host} did not answer in HTTP: {text}")
    return kind(f"the connection to {call.host} broke: {text}")


def _connect_error(error: Exception, call: _Call) -> NetworkError:
    """Return the error of a call whose connection could not be made."""
    reason = getattr(error, "verify_message", "")  # of an ssl.SSLCertVerificationError
    if reason:
        hint = "if its CA is your own, name the file of the CA in SSL_CERT_FILE"
        return NetworkError(f"the certificate of {call.host} is not trusted: {reason}; {hint}")
    where, proxy = call.host, call.transport.proxy
    if proxy:
        where += f" through the proxy {proxy[0][0]}:{proxy[0][1]} (see {call.transport.scheme.upper()}_PROXY)"
    if _is_timeout(error):
        return RequestTimeoutError(f"could not connect to {where}: timed out")
    return NetworkError(f"could not connect to {where}: {_one_line(str(error), call.key)}")


# ---- Answers: read to their end, and asked for again where that is safe ----------------------------------------------

_ERROR_BODY_BYTES = 64 << 10
_FIRST_BACKOFF_SECONDS, _LONGEST_BACKOFF_SECONDS, _LONGEST_RETRY_AFTER_SECONDS = 0.5, 8.0, 60.0
_STATUS_OF_CODE = {"provider_error": 502, "internal_error": 500}  # where events of this gateway name no status
_NO_CREDIT_CODES = ("usage_limit_exceeded", "insufficient_quota")
_GAVE_UP_REASONS = ("error", "abort", "network_error", "insufficient_system_resource")
_COMPRESSIONS = ("gzip", "br", "deflate", "zstd", "compress")


def _exchange(call: _Call) -> Generator[StreamChunk, None, None]:
    """Send a request, again where that is safe, and yield the chunks of its answer. A JSON answer is one chunk."""
    start = time.monotonic()
    try:
        call.transport.begin(call)
        first, rest = _send_until_answered(call)
        _log("first event after %.3f s", time.monotonic() - start)
        yield first
        count = yield from rest
        call.let_go(keep=True)
        _log("whole after %.3f s, %d chunks", time.monotonic() - start, count)
    except EdgeeError as error:
        _log("failed after %.3f s: %s", time.monotonic() - start, error)
        raise
    finally:
        call.transport.calls.discard(call)
        call.let_go()


def _send_until_answered(call: _Call) -> tuple[StreamChunk, Generator[StreamChunk, None, int]]:
    """Send a request until its answer begins or it must not be sent again. Return the first chunk, and the others."""
    attempt = 0
    while True:
        attempt += 1
        _log("%s %s, attempt %d", "GET" if call.body is None else "POST", call.url, attempt)
        try:
            call.request()
            _check_head(call)
            chunks = _read_chunks(call)
            return next(chunks), chunks
        except EdgeeError as error:
            seconds = _retry_seconds(error, attempt, call)
            if seconds is None or attempt > call.transport.settings.max_retries:
                raise
            _log("trying again in %.2f s: %s", seconds, error)
        call.let_go()
        call.wait(seconds)


def _retry_seconds(error: EdgeeError, attempt: int, call: _Call) -> float | None:
    """Return how long to wait before a request is sent again, None if it must not be sent again.

    After a kept connection that was dead, the other ones are closed.
    """
    if isinstance(error, APIError):
        status = error.status or _STATUS_OF_CODE.get(str(error.code), 0)
        no_credit = status == 429 and error.code in _NO_CREDIT_CODES and error.retry_after is None
        if no_credit or not (status in (408, 409, 429) or 500 <= status < 600):
            return None
        if error.retry_after is not None:
            return error.retry_after if error.retry_after <= _LONGEST_RETRY_AFTER_SECONDS else None
    elif not _may_be_sent_again(error, call):
        return None
    elif call.reused:  # The server closed it while it was idle, and perhaps the other ones too.
        _close_idle(call.transport.idle)
        return 0.0
    backoff = min(_FIRST_BACKOFF_SECONDS * 2.0 ** min(attempt - 1, 10), _LONGEST_BACKOFF_SECONDS)
    return backoff * random.uniform(0.75, 1.0)


def _may_be_sent_again(error: EdgeeError, call: _Call) -> bool:
    """Return True if sending the request again is safe and can help: no byte of an answer came."""
    if isinstance(error, (ProtocolError, StreamInterruptedError)):
        return False
    if call.stage == "connect":
        # A proxy may lock an account after three wrong passwords (407), and a bad certificate stays bad.
        cause = error.__cause__
        return not (hasattr(cause, "verify_message") or str(cause).startswith("Tunnel connection failed: 407"))
    return call.stage == "answer" and not call.answered and not isinstance(error, RequestTimeoutError)


def _check_head(call: _Call) -> None:
    """Raise unless the status is 2xx and the body is of a kind that can be read."""
    codings = {coding.lower() for coding in call.response.headers.get_all("transfer-encoding", ["identity"])}
    bad_length = "content-length" in call.headers and not call.is_framed
    if call.response.headers.defects or codings not in ({"identity"}, {"chunked"}) or bad_length:
        raise ProtocolError("the head of the answer is malformed, so the end of its body is not certain")
    encoding = _one_line(call.headers.get("content-encoding", ""), call.key).lower()
    is_compressed = any(re.sub("^x-", "", name.strip()) in _COMPRESSIONS for name in encoding.split(","))
    if not 200 <= call.response.status < 300:
        raise _status_error(call, is_compressed)
    if is_compressed:
        raise ProtocolError(f"the answer is encoded as {encoding}, which was not asked for")
    if call.streamed:
        is_expected = call.content_type in ("text/event-stream", "application/json")
    else:  # send() reads JSON under any other label.
        is_expected = call.content_type not in ("text/event-stream", "text/html")
    if not is_expected:
        raise _content_type_error(call)


def _content_type_error(call: _Call) -> EdgeeError:
    """Return the error for an answer of a wrong content type."""
    start = _one_line(_read_excerpt(call), call.key)
    if not (start or call.is_framed):  # http.client accepts a head that was cut off.
        return _network_error(http.client.IncompleteRead(b""), call)
    hint = _url_hint(call) if _is_page(call, start) else ""
    return ProtocolError(f"the answer is {_one_line(call.content_type, call.key)}: {start}{hint}")


def _status_error(call: _Call, is_compressed: bool) -> APIError:
    """Return the error for a status other than 2xx. The text of a compressed body is left out."""
    status, reason, hint = call.response.status, _one_line(call.response.reason, call.key), ""
    text = "" if is_compressed else _read_excerpt(call)
    if 300 <= status < 400:
        target = _one_line(call.headers.get("location", "nowhere"), call.key)
        text, reason = "", f"redirect to {target} not followed, because the key would go with it; check base_url"
    elif (status == 404 and _parse_json(text) is None) or _is_page(call, text):
        hint = _url_hint(call)
    return _api_error(text, call.headers, call.key, status, reason, hint)


def _is_page(call: _Call, text: str) -> bool:
    """Return True if the answer is an HTML page, by its content type or by its first text."""
    is_html = call.content_type in ("text/html", "application/xhtml+xml")
    return is_html or bool(re.match(r"\s*<(!doctype\s+)?html", text, re.IGNORECASE))


def _url_hint(call: _Call) -> str:
    """Return what to add to an error that a wrong base_url often causes."""
    return f"; check base_url: the request went to {call.url}"


def _read_excerpt(call: _Call) -> str:
    """Return the start of a body that will be shown in an error, as much of it as comes soon.

    Let go of the connection if the body has ended.
    """
    body = b""
    call.begin_stage("answer", min(call.timeout, _CONNECT_SECONDS))
    try:
        for block in iter(call.read_block, b""):
            body += block
            if len(body) >= _ERROR_BODY_BYTES:
                break
        else:
            call.let_go(keep=call.response.status >= 300)  # An error's connection is good for the next attempt.
    except EdgeeError:  # Report the status, unless the client was closed.
        if call.ended:
            raise
    return body[:_ERROR_BODY_BYTES].decode("utf-8-sig", "replace")


def _read_chunks(call: _Call) -> Generator[StreamChunk, None, int]:
    """Yield the chunks of an answer (a JSON answer is one), and return their number. Raise if it is cut."""
    headers, member = call.headers, _message_member(call.headers)
    reasons: dict[int, Any] = {}  # by choice: why it ended
    done = call.content_type != "text/event-stream"  # A JSON answer is whole, with or without a finish reason.
    count = 0
    events = _read_document(call) if done else _read_events(call)
    for name, data in events:
        if data[:1] != "{":  # Nearly all events are JSON objects.
            data = data.strip()
            if data == "[DONE]":
                done = True
                break
        chunk = _parse_chunk(_decode_event(name, data, headers, call.key), headers, member)
        for choice in chunk.choices:
            if choice.finish_reason or choice.index not in reasons:
                reasons[choice.index] = choice.finish_reason
        count += 1
        yield chunk
    events.close()  # What a signal handler raises while a generator is dropped is lost.
    for reason in reasons.values():
        if reason in _GAVE_UP_REASONS:
            raise StreamInterruptedError(f"the gateway gave up: its finish reason is {reason}")
    is_complete = reasons and (done or all(reasons.values()))
    if not count or (call.streamed and not is_complete):
        raise StreamInterruptedError("the stream ended before the answer was complete")
    return count


def _read_events(call: _Call) -> Generator[tuple[str, str], None, None]:
    """Yield the events of an answer. If it breaks or is cut, raise that after the last event that is whole."""
    parser = EventStreamParser()
    is_new = False  # The last block completed an event. Comments and keep-alives do not prolong the wait.
    call.begin_stage("event", call.timeout)
    try:
        while block := call.read_block(restart=is_new):
            is_new = False
            for event in parser.feed(block):
                if event[1][:1] == "{" or not _is_keep_alive(*event):
                    is_new = True
                    yield event
    except NetworkError:
        last = parser.finish()
        if last and _is_whole(last[1]):
            yield last
        raise
    begun = parser.unended.strip()
    last = parser.finish()
    if last and _is_whole(last[1]):
        yield last
    elif last or (begun and not begun.startswith(b":")):
        raise StreamInterruptedError(f"the answer from {call.host} was cut in the middle of an event")


def _is_whole(data: str) -> bool:
    return type(_parse_json(data)) is dict or data.strip() == "[DONE]"


def _is_keep_alive(name: str, data: str) -> bool:
    """Return True for an event of another name whose data is no object, such as a ping with the time of day."""
    return name not in ("message", "error") and not data.strip().startswith(("{", "[DONE]"))


def _read_document(call: _Call) -> Generator[tuple[str, str], None, None]:
    """Yield a JSON answer as one event."""
    body = bytearray()
    call.begin_stage("whole answer", call.timeout)
    for block in iter(call.read_block, b""):
        body += block
        if len(body) > _MAX_EVENT_BYTES:
            raise ProtocolError(f"the answer is longer than {_MAX_EVENT_BYTES >> 20} MiB")
    text = body.decode("utf-8-sig", "replace")
    if not call.is_framed and type(_parse_json(text)) is not dict:
        raise StreamInterruptedError(
            f"the answer from {call.host} ended after {len(body)} bytes, and is no JSON object"
        )
    yield "message", text


def _log(message: str, *values: object) -> None:
    """Write to the DEBUG log. If nobody has imported logging there is no handler, and the import takes time."""
    if "logging" in sys.modules:
        sys.modules["logging"].getLogger("edgee").debug(message, *values)


# ---- The client ------------------------------------------------------------------------------------------------------


class Edgee:
    """A client of the Edgee AI Gateway. Threads and event loops may share it. It cannot be pickled.

    config: an API key, an EdgeeConfig, a dict with the same keys, or None to take all from the environment. Raises
    ValueError or TypeError if a setting is missing or wrong. The settings cannot be changed later. Connections are kept
    for later requests until close(), or the end of a `with` block.
    """

    __slots__ = ("__weakref__", "_transport")  # Setting client.timeout must fail, because it would change nothing.
    _use_proxies = True

    def __init__(self, config: str | EdgeeConfig | Mapping[str, Any] | None = None) -> None:
        self._transport = _Transport(_resolve_settings(config), self._use_proxies)

    def __enter__(self) -> Edgee:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @property
    def base_url(self) -> str:
        """The URL of the gateway, without /v1. It cannot be set."""
        return str(self._transport.settings.base_url)

    def close(self) -> None:
        """Close idle connections, and end the running calls of all threads and tasks with StreamInterruptedError.

        May be called from any thread. A later call opens a new connection.
        """
        self._transport.close()

    if TYPE_CHECKING:

        @overload
        def send(
            self, model: str, input: _Input, stream: Literal[False] = False, *, timeout: float | None = None,
            headers: Mapping[str, str] | None = None,
        ) -> SendResponse: ...  # fmt: skip
        @overload
        def send(
            self, model: str, input: _Input, stream: Literal[True], *, timeout: float | None = None,
            headers: Mapping[str, str] | None = None,
        ) -> Generator[StreamChunk, None, None]: ...  # fmt: skip
        @overload
        def send(
            self, model: str, input: _Input, stream: bool, *, timeout: float | None = None,
            headers: Mapping[str, str] | None = None,
        ) -> SendResponse | Generator[StreamChunk, None, None]: ...  # fmt: skip

    def send(
        self, model: str, input: _Input, stream: bool = False, *, timeout: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> SendResponse | Generator[StreamChunk, None, None]:  # fmt: skip
        """Ask for a completion; return the whole answer, or with stream=True what stream() returns.

        model: such as "openai/gpt-5.2". input: a prompt (str), a list of messages, an InputObject, or a dict with
        `messages` and any other field of the request's body, which is sent as it is. timeout: seconds to wait for the
        answer to begin, and then for its end; default: the client's. headers: of this request; they win over the
        client's.

        Raises ValueError or TypeError for a wrong argument; APIError, NetworkError or ProtocolError if there is no
        answer.
        """
        chunks = self._make_call(model, input, bool(stream), timeout, headers)[1]
        if stream:
            return chunks
        [chunk] = chunks
        return _parse_response(chunk.raw, chunk.headers)

    def stream(
        self, model: str, input: _Input, *, timeout: float | None = None, headers: Mapping[str, str] | None = None
    ) -> Generator[StreamChunk, None, None]:
        """Ask for a completion; return a generator of its chunks, as they arrive.

        Arguments as for send(); timeout: seconds to wait for the answer to begin, and then for each next event.
        Nothing is sent before the first chunk is asked for. Closing or dropping the generator frees its connection.

        Wrong arguments raise at once. Iterating raises as send() does, and StreamInterruptedError if the answer is
        cut, after every chunk that did arrive.
        """
        return self.send(model, input, True, timeout=timeout, headers=headers)

    async def asend(
        self, model: str, input: _Input, *, timeout: float | None = None, headers: Mapping[str, str] | None = None
    ) -> SendResponse:
        """Do what send() does, for asyncio. Cancelling the task ends the request and frees its connection."""
        call, chunks = self._make_call(model, input, False, timeout, headers)
        [chunk] = [chunk async for chunk in _read_in_thread(call, chunks)]
        return _parse_response(chunk.raw, chunk.headers)

    def astream(
        self, model: str, input: _Input, *, timeout: float | None = None, headers: Mapping[str, str] | None = None
    ) -> AsyncGenerator[StreamChunk, None]:
        """Do what stream() does, for `async for`. Cancelling the task, aclose() and dropping the generator end it."""
        return _read_in_thread(*self._make_call(model, input, True, timeout, headers))

    def models(self) -> list[Model]:
        """Return the models that the gateway offers. Raises as send() does."""
        [chunk] = _exchange(_Call(self._transport, self._transport.settings.timeout, "models"))
        found = _as_objects(chunk.raw.get("data"))
        return [Model(model.get("id", ""), model.get("owned_by"), model.get("created")) for model in found]

    def _make_call(
        self, model: Any, input: Any, stream: bool, timeout: Any, headers: Any
    ) -> tuple[_Call, Generator[StreamChunk, None, None]]:
        """Check the arguments; return the call, and the generator that sends it and yields its chunks."""
        seconds = self._transport.settings.timeout if timeout is None else _check_timeout(timeout)
        body, switches = _build_request(model, input, stream)
        own_headers = {**switches, **_check_headers({} if headers is None else headers)}
        call = _Call(self._transport, seconds, "chat/completions", body, own_headers, stream)
        return call, _exchange(call)


# ---- asyncio: a thread reads, the event loop takes ------------------------------------------------------------------

_READ_AHEAD_CHUNKS = 16
_ROOM_CHECK_SECONDS = 0.25  # How often the thread looks if the call was ended, while the event loop takes nothing.


async def _read_in_thread(call: _Call, chunks: Generator[StreamChunk, None, None]) -> AsyncGenerator[StreamChunk, None]:
    """Yield the chunks that a thread of its own reads, a few ahead. End the call when this generator ends."""
    import contextvars

    queue = _Queue()
    context = contextvars.copy_context()  # A log handler or a tracer sees the task's variables.
    try:
        threading.Thread(target=context.run, args=[_read_ahead, call, chunks, queue], name="edgee", daemon=True).start()
        while True:
            outcome = await queue.take()
            if not isinstance(outcome, StreamChunk):
                break
            yield outcome
    finally:
        call.end()
        queue.add_room()
    if outcome:
        try:
            raise outcome
        finally:
            del outcome  # Its traceback holds this frame.


def _read_ahead(call: _Call, chunks: Generator[StreamChunk, None, None], queue: _Queue) -> None:
    """Put the chunks into the queue, and then None, or the error that ended them."""
    try:
        with contextlib.closing(chunks):
            for chunk in chunks:
                queue.put(chunk)
                queue.wait_for_room(call)
    except BaseException as error:  # It is raised where the chunks are awaited.
        queue.put(error)
    else:
        queue.put(None)


class _Queue:
    """What a thread has read and an event loop has not taken yet: chunks, and last an error or None."""

    def __init__(self) -> None:
        import asyncio

        self._loop, self._arrived = asyncio.get_running_loop(), asyncio.Event()
        self._outcomes: deque[Any] = deque()
        self._room = threading.Semaphore(_READ_AHEAD_CHUNKS)
        self._is_awaited = False

    def put(self, outcome: StreamChunk | BaseException | None) -> None:
        """Add an outcome. Waking the event loop costs more than a chunk, so this wakes it only if it waits."""
        self._outcomes.append(outcome)
        if self._is_awaited:
            self._is_awaited = False
            with contextlib.suppress(RuntimeError):  # The loop was closed.
                self._loop.call_soon_threadsafe(self._arrived.set)

    async def take(self) -> Any:
        """Remove and return the next outcome; wait for it if there is none."""
        while not self._outcomes:
            self._arrived.clear()
            self._is_awaited = True
            if not self._outcomes:  # The thread may have put one before it saw _is_awaited.
                await self._arrived.wait()
        self.add_room()
        return self._outcomes.popleft()

    def add_room(self) -> None:
        """Let the thread go on, if it waits for room."""
        self._room.release()

    def wait_for_room(self, call: _Call) -> None:
        """Wait until the event loop has taken enough. Raise StreamInterruptedError if the call was ended."""
        has_room = False
        while not has_room:
            has_room = self._room.acquire(timeout=_ROOM_CHECK_SECONDS)
            if call.ended or self._loop.is_closed():  # A closed loop does not end the generators that are left in it.
                raise StreamInterruptedError(_CLOSED_MESSAGE)


# ---- The command line: the answer on standard output, all else on standard error -------------------------------------

_MODEL = "openai/gpt-5.2"
_EXAMPLES = """
  %(prog)s "Tell me a story"
  git diff | %(prog)s "Write a commit message" --model openai/gpt-5.2
  %(prog)s --demo "Tell me a story"     (needs no key and no network)"""
_ENDING = """\
(*) may be repeated
environment: EDGEE_API_KEY (export EDGEE_API_KEY=YOUR-KEY), EDGEE_BASE_URL,
EDGEE_MODEL, SSL_CERT_FILE, HTTPS_PROXY, HTTP_PROXY, NO_PROXY, NO_COLOR
exit status: 0 done; 1 the gateway, the network or the stream failed;
2 wrong usage, nothing to ask, or no key; 130 interrupted"""
_TWO_WORDS = "-o and -H take two words each, as in -o temperature 0.2 and -H X-Team red"
_CUT = "the answer was cut at the token limit"
_WARNINGS = {"length": _CUT, "max_tokens": _CUT, "content_filter": "the answer was filtered"}  # by finish reason
_SILENCE_SECONDS = 2.0  # of standard input, until a line says that it is waited for
_DEMO_WORD_SECONDS = 0.02  # between two words
_DEMO_PROMPT = "Tell me a story"
_DEMO_ANSWER = """Once there was a file that was a whole client. People who had to trust it read it over a coffee, \
from its first line to its last, and knew what it sent, and to whom. Then they copied it and went home."""


def main(argv: list[str] | None = None) -> int:
    """Run the command line; return its exit status, which --help explains. argv: default: sys.argv[1:]."""
    screen = _Screen()
    if sys.stdout is None:  # It was closed when the process started.
        return screen.say("there is no standard output", 1)
    try:
        with contextlib.suppress(SystemExit):  # --help and --version raise it.
            _run_command(_make_parser().parse_args(argv), screen)
        sys.stdout.flush()
        return 0
    except (EdgeeError, ValueError, TypeError, OSError, KeyboardInterrupt) as error:
        return _tell_end(error, screen)


def _tell_end(error: BaseException, screen: _Screen) -> int:
    """Say what ended the command; return its exit status."""
    if isinstance(error, EdgeeError):
        code = getattr(error, "code", None)  # An APIError has one. It may be text, also that of the status.
        has_text = isinstance(code, str) and code not in ("", str(getattr(error, "status", "")))
        return screen.say(f"{error} ({code})" if has_text else str(error), 1)
    if isinstance(error, KeyboardInterrupt):
        return 130
    if not isinstance(error, OSError):
        return screen.say(str(error), 2)
    # Writing to standard output failed. Without this the flush at exit would fail too, and Python would say so.
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    first = error.__context__  # It had ended the command, and then the end of the line could not be written.
    if isinstance(first, (EdgeeError, KeyboardInterrupt)):
        return _tell_end(first, screen)
    is_closed = error.errno in (errno.EPIPE, errno.EINVAL)  # Windows says EINVAL for a closed pipe.
    return 0 if is_closed else screen.say(str(error), 1)


class _Screen:
    """Standard output and standard error. On a terminal that shows both, each begins on a new line."""

    def __init__(self) -> None:
        self._shows_answer = sys.stdout is not None and sys.stdout.isatty()
        self._shows_errors = sys.stderr is not None and sys.stderr.isatty()
        plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" or not self._shows_errors
        # The old console of Windows, which has no WT_SESSION, would show the codes.
        plain = plain or (os.name == "nt" and "WT_SESSION" not in os.environ)
        self._reasoning_format = "{}" if plain else "\x1b[2m{}\x1b[0m"
        self._in_answer = False  # Standard output is in the middle of a line.
        self._line_end = ""  # what ends the line that standard error is in the middle of
        self._clock_word = ""  # what the clock says before the seconds
        self._clock_over = threading.Event()
        self._lock = threading.RLock()  # The clock's thread writes too.

    def say(self, text: str, status: int = 0) -> int:
        """Write a line to standard error; return the status."""
        with self._lock:
            self._begin_error_line()
            self._write_error(f"edgee: {_printable(' '.join(text.splitlines()))}\n")
        return status

    def print_answer(self, text: str) -> None:
        """Write a piece of the answer to standard output."""
        if text:
            self._clock_over.set()
            self._end_error_line()
            print(_printable(text) if self._shows_answer else text, end="", flush=True)
            self._in_answer = not text.endswith("\n")

    def print_reasoning(self, text: str) -> None:
        """Write a piece of the model's reasoning to standard error, dim on a terminal."""
        self._clock_over.set()
        if self._line_end != "\n":  # This is the first piece.
            self._begin_error_line()
        self._write_error(self._reasoning_format.format(_printable(text)))
        self._line_end = "" if text.endswith("\n") else "\n"

    def end_lines(self) -> None:
        """End the lines that standard output and standard error are in the middle of."""
        self._clock_over.set()
        self._end_error_line()
        if self._in_answer:
            self.print_answer("\n")

    def show_clock(self, word: str) -> None:
        """Count the seconds on a terminal, as in "waiting, 12 s", until a piece of the answer is written."""
        if self._shows_errors and not self._clock_word:
            threading.Thread(target=self._count_seconds, daemon=True).start()
        self._clock_word = word

    def _count_seconds(self) -> None:
        for seconds in itertools.count(1):
            if self._clock_over.wait(1.0):
                return
            with self._lock:
                if not self._clock_over.is_set():
                    text = f"{self._clock_word}, {seconds} s"
                    self._write_error(f"\r{text}")
                    self._line_end = f"\r{' ' * len(text)}  \r"  # Two more erase the ^C that Ctrl-C shows.

    def _begin_error_line(self) -> None:
        self._end_error_line()
        if self._in_answer and self._shows_answer and self._shows_errors:
            print(flush=True)
            self._in_answer = False

    def _end_error_line(self) -> None:
        with self._lock:
            self._write_error(self._line_end)
            self._line_end = ""

    def _write_error(self, text: str) -> None:
        if text and sys.stderr is not None:  # With file=None print() would write to standard output.
            with contextlib.suppress(OSError):  # There is nowhere to report it.
                print(text, end="", file=sys.stderr, flush=True)


def _printable(text: str) -> str:
    """Replace what could control a terminal: all control characters but LF and TAB."""
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", "\ufffd", text)


def _make_parser() -> argparse.ArgumentParser:
    import argparse

    def fail(message: str) -> None:
        raise ValueError(f"{_TWO_WORDS if '2 arguments' in message else message}; see {name} --help")

    name = f"python -m {__spec__.name}" if __spec__ else f"python {sys.argv[0]}"
    about = "Stream an answer from the Edgee AI Gateway to standard output."
    parser: Any = argparse.ArgumentParser(name, _EXAMPLES, about, _ENDING)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.error = fail  # argparse's own writes several lines and ends the process.
    add = parser.add_argument
    flag: Any = {"action": "store_true"}
    many: Any = {"action": "append", "default": []}
    add("prompt", nargs="*", help="what to ask; text on standard input is put before it")
    add("-m", "--model", help=f"default: that of --input, else EDGEE_MODEL, else {_MODEL}")
    add("-s", "--system", metavar="TEXT", help="a system message")
    add("-t", "--tag", help="a tag for the gateway's analytics (*)", **many)
    add("-o", "--option", metavar=("KEY", "VALUE"), help="any other field, VALUE as JSON or text (*)", nargs=2, **many)
    add("-H", "--header", metavar=("NAME", "VALUE"), help="a header to send (*)", nargs=2, **many)
    add("--input", metavar="FILE", help="a JSON file, or -, with a whole input object or a list of messages")
    add("--json", help="print each chunk as a line of JSON", **flag)
    add("--no-stream", help="wait for the whole answer", **flag)
    add("--reasoning", help="show the model's reasoning, on standard error", **flag)
    add("-u", "--usage", help="end with a line on tokens, savings and time", **flag)
    add("--models", help="list the gateway's models", **flag)
    add("--base-url", metavar="URL", help=f"default: EDGEE_BASE_URL, else {_DEFAULT_BASE_URL}")
    add("--timeout", metavar="SECONDS", help="the longest wait for the answer, and for each next event", type=float)
    add("--demo", help="answer from this process, without a model", **flag)
    add("-v", "--verbose", help="write the DEBUG log to standard error", **flag)
    add("--version", action="version", version=f"edgee {__version__}")
    return parser  # type: ignore[no-any-return]


def _run_command(arguments: argparse.Namespace, screen: _Screen) -> None:
    """Do what the arguments say: print an answer, or the list of models."""
    if any("=" in name or ":" in name for name, _ in (*arguments.option, *arguments.header)):
        raise ValueError(_TWO_WORDS)
    if any(name == "stream" for name, _ in arguments.option):
        raise ValueError("-o stream cannot be used: answers are streamed unless --no-stream is given")
    _set_output_encoding()
    with contextlib.ExitStack() as stack:
        stack.callback(screen.end_lines)
        if arguments.verbose:
            _show_log(screen, stack)
        client = _open_client(arguments, screen, stack)
        if arguments.models:
            screen.show_clock("waiting")
            for model in client.models():
                screen.print_answer(f"{model.id}\n")
        else:
            _print_answer(client, _read_question(arguments, screen), arguments, screen)


def _set_output_encoding() -> None:
    """Write UTF-8 to pipes and files unless PYTHONIOENCODING is set; write ? for what the encoding lacks."""
    output: Any = sys.stdout
    chosen = os.environ.get("PYTHONIOENCODING", "")
    if hasattr(output, "reconfigure"):  # A caller of main() may have replaced it.
        encoding = None if chosen or output.isatty() else "utf-8"
        output.reconfigure(encoding=encoding, errors=None if ":" in chosen else "replace")


def _show_log(screen: _Screen, stack: contextlib.ExitStack) -> None:
    """Write the DEBUG log to standard error, until the stack is closed."""
    import logging

    logger = logging.getLogger("edgee")
    handler: Any = logging.Handler()

    def emit(record: logging.LogRecord) -> None:
        screen.say(record.getMessage())

    handler.emit = emit
    stack.callback(logger.setLevel, logger.level)
    stack.callback(logger.removeHandler, handler)
    logger.setLevel(logging.DEBUG)
    logger.addHandler(handler)


def _open_client(arguments: argparse.Namespace, screen: _Screen, stack: contextlib.ExitStack) -> Edgee:
    """Return a client of the gateway or of the demo. The stack closes it."""
    settings = EdgeeConfig(None, arguments.base_url, arguments.timeout, None, dict(arguments.header))
    if arguments.demo:
        if arguments.base_url:
            raise ValueError("--demo cannot be used with --base-url")
        screen.say("this is a demo: the answer comes from this process, not from a model")
        settings.api_key, settings.base_url = "demo", stack.enter_context(_serve_demo())
        return stack.enter_context(_DemoClient(settings))
    if not os.environ.get("EDGEE_API_KEY"):
        raise ValueError("EDGEE_API_KEY is not set: export EDGEE_API_KEY=YOUR-KEY, or try --demo")
    return stack.enter_context(Edgee(settings))


def _read_question(arguments: argparse.Namespace, screen: _Screen) -> dict[str, Any]:
    """Return the request's body, from the arguments, the file of --input and standard input."""
    body = _read_input_file(arguments.input, screen)
    for name, value in arguments.option:
        found = _parse_json(value)
        body[name] = value if found is None and value != "null" else found
    # After --input - standard input is empty.
    prompt = "\n\n".join(text for text in (_read_standard_input(screen), " ".join(arguments.prompt)) if text.strip())
    if not (prompt or arguments.input):
        if not arguments.demo:
            raise ValueError("nothing to ask: give a prompt, or text on standard input; --demo needs none")
        prompt = _DEMO_PROMPT
    system = [{"role": "system", "content": arguments.system}] if arguments.system else []
    user = [{"role": "user", "content": prompt}] if prompt else []
    body["messages"] = [*system, *_list_member(body, "messages"), *user]
    if arguments.tag:
        body["tags"] = [*_list_member(body, "tags"), *arguments.tag]
    if arguments.usage and not arguments.no_stream:
        body["stream_options"] = {"include_usage": True, **_as_object(body.get("stream_options"))}
    body["model"] = arguments.model or body.get("model") or os.environ.get("EDGEE_MODEL") or _MODEL
    return body


def _list_member(body: dict[str, Any], name: str) -> list[Any]:
    """Return the list of that name in an input object, an empty one if there is none."""
    found: Any = body.get(name) or []
    _require(name, found, list, "a list")
    return list(found)


def _read_input_file(name: str | None, screen: _Screen) -> dict[str, Any]:
    """Return the input object in a JSON file, or on standard input if its name is "-"."""
    if name is None:
        return {}
    try:
        if name == "-":
            asked = json.loads(_read_standard_input(screen))
        else:
            with open(name, "rb") as file:
                asked = json.loads(file.read())
    except (OSError, ValueError, RecursionError) as error:  # A JSONDecodeError names the line and the column.
        raise ValueError(f"--input {name} cannot be read: {error}") from error
    _require("--input", asked, (dict, list), "a JSON object or a list of messages")
    return {"messages": asked} if isinstance(asked, list) else dict(asked)


def _read_standard_input(screen: _Screen) -> str:
    """Return the text on standard input, "" if it is a terminal. If its end does not come, say what is waited for."""
    if sys.stdin is None or sys.stdin.isatty():
        return ""
    timer = threading.Timer(_SILENCE_SECONDS, screen.say, ["waiting for standard input; use < /dev/null for none"])
    timer.daemon = True
    timer.start()
    try:
        data: Any = getattr(sys.stdin, "buffer", sys.stdin).read()
    finally:
        timer.cancel()
    try:
        return (data.decode("utf-8-sig") if isinstance(data, bytes) else str(data)).rstrip()
    except UnicodeDecodeError as error:
        raise ValueError(f"standard input is not text in UTF-8: {error}") from error


class _Summary:
    """What is told about an answer after its text."""

    def __init__(self, model: str) -> None:
        self.model = model
        self.usage: Usage | None = None
        self.compression: Compression | None = None
        self.finish_reason: str | None = None  # of the first choice
        self.indexes: list[int] = []  # of the choices, in the order in which they came
        self.tool_calls: list[dict[str, Any]] = []  # the pieces of the first choice's
        self.start = time.monotonic()
        self.first_text_seconds: float | None = None

    def add(self, chunk: StreamChunk) -> tuple[str, str]:
        """Take in a chunk; return the text and the reasoning that it adds to the first choice."""
        self.model, self.usage = chunk.model or self.model, chunk.usage or self.usage
        self.compression = chunk.compression or self.compression
        text = reasoning = ""
        for choice, raw in zip(chunk.choices, _as_objects(chunk.raw.get("choices"))):
            if choice.index not in self.indexes:
                self.indexes.append(choice.index)
            if choice.index == self.indexes[0]:
                message = _choice_message(raw, _message_member(chunk.headers))
                text += _content_text(choice.delta.content) or _content_text(message.get("refusal")) or ""
                reasoning += _reasoning_text(message) or ""
                self.finish_reason = choice.finish_reason or self.finish_reason
                self.tool_calls += choice.delta.tool_calls or []
        if text and self.first_text_seconds is None:
            self.first_text_seconds = time.monotonic() - self.start
        return text, reasoning

    def find_warning(self, all_shown: bool) -> str | None:
        """Return a warning about the answer, or None. all_shown: its JSON was printed."""
        cut = _WARNINGS.get(str(self.finish_reason).lower())
        if cut or all_shown:
            return cut
        if self.first_text_seconds is None and not self.tool_calls:
            return "the answer has no text; --json shows all of it"
        if len(self.indexes) > 1:
            return f"{len(self.indexes)} choices came, and only the first is shown; --json shows all"
        return None

    def usage_line(self) -> str:
        """Return the line that --usage asks for."""
        parts: list[str] = []
        if self.usage:
            cached = f" ({self.usage.cached_tokens} cached)" if self.usage.cached_tokens else ""
            reasoning = f" ({self.usage.reasoning_tokens} reasoning)" if self.usage.reasoning_tokens else ""
            parts += [f"{self.usage.prompt_tokens} tokens in{cached}", f"{self.usage.completion_tokens} out{reasoning}"]
        if self.compression:
            dollars = self.compression.cost_savings / 1e6
            parts.append(f"saved {self.compression.saved_tokens} tokens (${dollars:.6f})")
        if self.first_text_seconds is not None:
            parts.append(f"first text after {self.first_text_seconds:.2f} s")
        return f"{self.model}: " + ", ".join([*parts, f"{time.monotonic() - self.start:.2f} s in all"])


def _join(decoder: codecs.IncrementalDecoder, text: str) -> str:
    """Return the text, but keep back the first half of a character that is split in two surrogates."""
    return decoder.decode(text.encode("utf-16-le", "surrogatepass"))


def _print_answer(client: Edgee, body: dict[str, Any], arguments: argparse.Namespace, screen: _Screen) -> None:
    """Send the request; print the answer as it comes, then tool calls, a warning and the line of --usage."""
    summary = _Summary(body["model"])
    text_decoder, reasoning_decoder = (codecs.getincrementaldecoder("utf-16-le")("surrogatepass") for _ in range(2))
    if not arguments.json:
        screen.show_clock("waiting")
    answer = client.send(body["model"], body, not arguments.no_stream)
    if isinstance(answer, SendResponse):
        chunks: Iterable[StreamChunk] = [_parse_chunk(answer.raw, answer.headers, "message")]
    else:
        chunks = answer
    for chunk in chunks:
        text, reasoning = summary.add(chunk)
        if arguments.json:
            screen.print_answer(json.dumps(chunk.raw) + "\n")
            continue
        if reasoning and arguments.reasoning:
            screen.print_reasoning(_join(reasoning_decoder, reasoning))
        elif reasoning:
            screen.show_clock("thinking")
        screen.print_answer(_join(text_decoder, text))
    screen.print_answer(text_decoder.decode(b"", True))
    screen.end_lines()
    for call in [] if arguments.json else _merge_tool_calls(summary.tool_calls):
        screen.print_answer(json.dumps(call) + "\n")
    warning = summary.find_warning(all_shown=arguments.json)
    if warning:
        screen.say(f"warning: {warning}")
    if arguments.usage:
        screen.say(summary.usage_line())


# ---- The demo: a gateway inside the process -------------------------------------------------------------------------


class _DemoClient(Edgee):
    """A client without a proxy: none could reach the demo's gateway."""

    __slots__ = ()
    _use_proxies = False


def _make_demo_chunks(prompt: str) -> Iterator[dict[str, Any]]:
    """Yield the JSON of the chunks of the demo's answer, a word each."""
    words = re.findall(r"\s*\S+", f"You asked: {prompt}\n\n{_DEMO_ANSWER}")
    for word in words:
        time.sleep(_DEMO_WORD_SECONDS)
        yield {"model": "demo", "choices": [{"index": 0, "delta": {"content": word}}]}
    counts = {"prompt_tokens": len(prompt.split()), "completion_tokens": len(words)}
    yield {"model": "demo", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "usage": counts}


def _answer_demo(handler: Any, content_type: str, pieces: Iterable[str]) -> None:
    """Write an answer of the demo's gateway. The end of the connection ends it."""
    handler.send_response_only(200)  # send_response() writes a line to standard error as well.
    handler.send_header("Content-Type", content_type)
    with contextlib.suppress(OSError):  # The client has left.
        handler.end_headers()
        for piece in pieces:
            handler.wfile.write(piece.encode())


@contextlib.contextmanager
def _serve_demo() -> Generator[str, None, None]:
    """Run a gateway on the loopback; yield its URL."""
    import http.server
    import socketserver

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            _answer_demo(self, "application/json", ['{"data": [{"id": "demo"}]}'])

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            chunks = _make_demo_chunks(_content_text(body["messages"][-1].get("content")) or "")
            if body.get("stream"):
                events = itertools.chain(map(json.dumps, chunks), ["[DONE]"])
                _answer_demo(self, "text/event-stream", (f"data: {data}\n\n" for data in events))
            else:
                whole = SendResponse.from_chunks(_parse_chunk(chunk, {}, "delta") for chunk in chunks)
                _answer_demo(self, "application/json", [json.dumps(whole.raw)])

    # http.server.HTTPServer looks up its own name, which can hang without a network.
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=[0.05], daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()


if __name__ == "__main__":
    status = main()
    if status == 130 and os.name == "posix":  # A shell ends its loop only if SIGINT ended the process.
        import signal

        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    sys.exit(status)
