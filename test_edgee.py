"""Tests of edgee.py, in its order: python -m unittest. Real sockets on 127.0.0.1, no other traffic."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import logging
import os
import pickle
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import typing
import unittest
import weakref
from unittest import mock

import edgee
from edgee import (
    APIError,
    Edgee,
    EdgeeConfig,
    EdgeeError,
    EventStreamParser,
    FunctionDefinition,
    InputObject,
    Message,
    NetworkError,
    ProtocolError,
    RequestTimeoutError,
    SendResponse,
    StreamChoice,
    StreamChunk,
    StreamDelta,
    StreamInterruptedError,
    Tool,
    ToolCall,
)

HERE = os.path.dirname(os.path.abspath(__file__))
KEY = "sk-very-secret-0123456789"
WAIT = 10  # seconds after which a test that waits for an event has failed

# ------------------------------------------------------------------------------------------------
# A gateway that sends exact bytes, and a few ways to write them.
# ------------------------------------------------------------------------------------------------

CLOSE, RESET = object(), object()


class Received(typing.NamedTuple):
    """A request as the gateway got it; header names are lower case."""

    method: str
    path: str
    headers: typing.Dict[str, str]
    body: bytes
    connection: int
    raw: bytes


class Gateway:
    """A loopback server that answers the n-th request with the n-th answer, the last one again and again.

    An answer is a list of pieces: bytes are sent, CLOSE and RESET end the connection, a callable is
    called (and may wait for an event of the test's). Without an end the connection is kept.
    """

    def __init__(self, *answers, tls=None):
        self.answers = [answer if isinstance(answer, (list, tuple)) else [answer] for answer in answers]
        self.requests: typing.List[Received] = []
        self.connections = 0
        self.closed = threading.Semaphore(0)  # released when a client has ended a connection
        self._tls = tls
        self._lock = threading.Lock()
        self._sockets: typing.Set[socket.socket] = set()
        self._threads: typing.List[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = self._listener.getsockname()[1]
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"
        self._start(self._accept)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._listener.close() if os.name == "nt" else self._listener.shutdown(socket.SHUT_RDWR)
        with self._lock:
            for connection in self._sockets:
                with contextlib.suppress(OSError):
                    socket.socket.shutdown(connection, socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(WAIT)
        self._listener.close()

    def client(self, **settings):
        return Edgee({"api_key": KEY, "base_url": self.url, "timeout": WAIT, **settings})

    def _start(self, target, *arguments):
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                with self._lock:
                    self.connections += 1
                    number = self.connections
                    self._sockets.add(connection)
                self._start(self._serve, connection, number)

    def _serve(self, connection, number):
        plain = connection
        try:
            if self._tls:
                connection = self._tls.wrap_socket(plain, server_side=True)
                with self._lock:
                    self._sockets.discard(plain)
                    self._sockets.add(connection)
            with connection.makefile("rb") as stream:
                while True:
                    request = self._read(stream, number)
                    if request is None or not self._answer(connection, request):
                        break
        except (OSError, ValueError):
            pass  # the client went away, as many tests want it to
        finally:
            with self._lock:
                self._sockets.discard(connection)
            connection.close()
            self.closed.release()

    def _read(self, stream, number):
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            line = stream.readline()
            if not line:
                return None
            head += line
        first, *lines = head.decode("latin-1").split("\r\n")[:-2]
        method, path, _ = first.split(" ")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        body = stream.read(int(headers.get("content-length", 0)))
        return Received(method, path, headers, body, number, head + body)

    def _answer(self, connection, request):
        with self._lock:
            answer = self.answers[min(len(self.requests), len(self.answers) - 1)]
            self.requests.append(request)
        for piece in answer:
            if piece is CLOSE:
                return False
            if piece is RESET:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                return False
            if callable(piece):
                piece()
            else:
                connection.sendall(piece)
        return True


def head(status="200 OK", **headers):
    lines = [f"HTTP/1.1 {status}", *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def sized(body, status="200 OK", content_type="application/json", **headers):
    """An answer with a Content-Length."""
    if not isinstance(body, bytes):
        body = json.dumps(body).encode()
    return head(status, Content_Type=content_type, Content_Length=len(body), **headers) + body


def in_chunks(*pieces):
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces if piece)


def event(document):
    text = document if isinstance(document, str) else json.dumps(document, ensure_ascii=False)
    return f"data: {text}\n\n".encode()


STREAM_HEAD = head(Content_Type="text/event-stream", Transfer_Encoding="chunked")
OPEN_HEAD = head(Content_Type="text/event-stream", Connection="close")


def chunk(content=None, finish=None, index=0, **delta):
    if content is not None:
        delta["content"] = content
    return {"id": "c1", "model": "m", "choices": [{"index": index, "delta": delta, "finish_reason": finish}]}


def stream_of(*documents, done=True):
    """A whole streamed answer in chunked coding, a chunk for each event."""
    events = [event(document) for document in documents] + [event("[DONE]")] * done
    return STREAM_HEAD + in_chunks(*events) + b"0\r\n\r\n"


HELLO = stream_of(chunk("Hel", role="assistant"), chunk("lo"), chunk(finish="stop"))
COMPLETION = {
    "id": "c1",
    "object": "chat.completion",
    "model": "m",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
}


def text_of(chunks):
    return "".join(chunk.text or "" for chunk in chunks)


def drain(generator):
    """All that comes out of a generator, and the error that ends it."""
    chunks = []
    try:
        for chunk in generator:
            chunks.append(chunk)
    except EdgeeError as error:
        return chunks, error
    return chunks, None


class waits:
    """Within this context retries do not wait; `seconds` lists how long they would have."""

    def __enter__(self):
        self.seconds = []
        self._patch = mock.patch.object(edgee, "wait", lambda closing, seconds: self.seconds.append(seconds))
        self._patch.start()
        return self

    def __exit__(self, *error):
        self._patch.stop()


# ------------------------------------------------------------------------------------------------
# The parser, alone.
# ------------------------------------------------------------------------------------------------

PARSER_CASES = [
    # name, bytes with LF as the line end, events
    ("nothing", b"", []),
    ("one event", b"data: a\n\n", [("message", "a")]),
    ("no space after the colon", b"data:a\n\n", [("message", "a")]),
    ("one space of two is removed", b"data:  a\n\n", [("message", " a")]),
    ("a tab is kept", b"data:\ta\n\n", [("message", "\ta")]),
    ("several lines join with LF", b"data: a\ndata: b\n\n", [("message", "a\nb")]),
    ("an empty line among them counts", b"data: a\ndata\ndata: b\n\n", [("message", "a\n\nb")]),
    ("9.2.6, first example", b"data: YHOO\ndata: +2\ndata: 10\n\n", [("message", "YHOO\n+2\n10")]),
    (
        "9.2.6, second example",
        b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n",
        [("message", "first event"), ("message", "second event"), ("message", " third event")],
    ),
    # The standard fires for two empty lines too; here blank data is a keep-alive.
    ("9.2.6, third example", b"data\n\ndata\ndata\n\ndata:", []),
    ("9.2.6, fourth example", b"data:test\n\ndata: test\n\n", [("message", "test"), ("message", "test")]),
    ("an event's name", b"event: error\ndata: a\n\ndata: b\n\n", [("error", "a"), ("message", "b")]),
    ("a name without a space", b"event:ping\ndata: a\n\n", [("ping", "a")]),
    ("an empty name is none", b"event: ping\nevent:\ndata: a\n\n", [("message", "a")]),
    ("a name does not outlive its event", b"event: ping\n\ndata: a\n\n", [("message", "a")]),
    ("comments", b": hello\n:\ndata: a\n: bye\n\n", [("message", "a")]),
    ("unknown fields", b"foo: bar\ndata: a\nDATA: b\ndatax: c\n\n", [("message", "a")]),
    ("a field with a space before it is unknown", b" data: a\n\n", []),
    ("keep-alives are no events", b"data:\n\ndata: \n\nid: 1\n\nretry: 10\n\n\n\n", []),
    ("blank lines between events", b"\n\ndata: a\n\n\n\ndata: b\n\n", [("message", "a"), ("message", "b")]),
    ("a colon in a value", b"data: a: b\n\n", [("message", "a: b")]),
    ("a BOM", b"\xef\xbb\xbfdata: a\n\n", [("message", "a")]),
    ("only one BOM", b"\xef\xbb\xbf\xef\xbb\xbfdata: a\n\ndata: b\n\n", [("message", "b")]),
    ("a BOM inside is text", b"data: \xef\xbb\xbfa\n\n", [("message", "\ufeffa")]),
    ("characters of two to four bytes", "data: é€😀\n\n".encode(), [("message", "é€😀")]),
    ("bytes that are no UTF-8", b"data: a\xff\xe2\x82b\n\n", [("message", "a\ufffd\ufffdb")]),
    ("a character that a line end cuts", b"data: \xe2\x82\n\n", [("message", "\ufffd")]),
    ("NUL", b"data: a\0b\n\n", [("message", "a\0b")]),
    ("no line ends but these three", "data: a\u2028b\u2029c\x85d\x0be\x0cf\x1cg\n\n".encode(),
        [("message", "a\u2028b\u2029c\x85d\x0be\x0cf\x1cg")]),
    ("an event without its blank line waits", b"data: a\n\ndata: b\n", [("message", "a")]),
]  # fmt: skip


def cuts(data):
    """Ways to cut bytes: whole, at every place, byte by byte, and with empty pieces between."""
    yield [data]
    for n in range(1, len(data)):
        yield [data[:n], data[n:]]
    yield [data[n : n + 1] for n in range(len(data))]
    yield [piece for n in range(len(data)) for piece in (data[n : n + 1], b"")]


class ParserTest(unittest.TestCase):
    def test_every_case_with_every_line_end_in_every_cut(self):
        for name, data, expected in PARSER_CASES:
            for line_end in (b"\n", b"\r\n", b"\r"):
                with self.subTest(name, line_end=line_end):
                    for pieces in cuts(data.replace(b"\n", line_end)):
                        parser = EventStreamParser()
                        events = [event for piece in pieces for event in parser.feed(piece)]
                        self.assertEqual(events, expected, pieces)

    def test_an_event_is_returned_as_soon_as_its_blank_line_was_read(self):
        for line_end in (b"\n", b"\r\n", b"\r"):
            parser = EventStreamParser()
            for n in range(3):
                self.assertEqual(parser.feed(b"data: a" + line_end), [])
                self.assertEqual(parser.feed(line_end[:1]), [("message", "a")], (line_end, n))
                self.assertEqual(parser.feed(line_end[1:]), [])

    def test_a_mixture_of_line_ends(self):
        parser = EventStreamParser()
        self.assertEqual(parser.feed(b"data: a\rdata: b\ndata: c\r\n\rdata: d\n\r\n"), [("message", "a\nb\nc"), ("message", "d")])

    def test_finish_returns_the_event_whose_blank_line_never_came(self):
        for data, expected in [
            (b"", None),
            (b"data: a\n\n", None),
            (b"data: a\n", ("message", "a")),
            (b"data: a", ("message", "a")),
            (b"data: a\r", ("message", "a")),
            (b"event: error\ndata: a\r\n", ("error", "a")),
            (b"data: a\ndata: b", ("message", "a\nb")),
            (b": comment", None),
            (b"dat", None),
        ]:
            with self.subTest(data):
                parser = EventStreamParser()
                parser.feed(data)
                self.assertEqual(parser.finish(), expected)
                self.assertIsNone(parser.finish())

    def test_an_event_of_16_MiB_passes_and_a_byte_more_is_an_error(self):
        limit = 16 * 1024 * 1024
        for size, line_end in ((limit, b"\n"), (limit, b"\r\n")):
            self.assertEqual(len(EventStreamParser().feed(b"data: %s" % (b"x" * size) + 2 * line_end)[0][1]), size)
        with self.assertRaises(ProtocolError) as caught:
            EventStreamParser().feed(b"data: %s\n\n" % (b"x" * (limit + 1)))
        self.assertEqual(str(caught.exception), "an event of the stream is longer than 16 MiB")

    def test_nothing_that_has_no_end_is_held_beyond_the_limit(self):
        limit = 1 << 16
        for name, piece in [
            ("a line", b"data: %s" % (b"x" * 1000)),
            ("a comment", b":%s" % (b"x" * 1000)),
            ("lines", b"data: %s\n" % (b"x" * 1000)),
            ("empty lines", b"data:\n" * 1000),
            ("empty lines without a colon", b"data\n" * 1000),
            ("a byte at a time", b"x"),
        ]:
            with self.subTest(name), mock.patch.object(edgee, "_EVENT_BYTES", limit):
                parser = EventStreamParser()
                with self.assertRaises(ProtocolError):
                    for _ in range(limit + 10):
                        parser.feed(piece)
                self.assertLess(len(parser.unended) + len(parser._data), limit + 2000)
                with self.assertRaises(ProtocolError):
                    parser.feed(b"\n\ndata: a\n\n")

    def test_events_before_one_that_is_too_long_are_not_lost(self):
        parser = EventStreamParser()
        too_long = b"data: %s\n\n" % (b"x" * (17 << 20))
        self.assertEqual(parser.feed(b"data: a\n\n" + too_long + b"data: b\n\n"), [("message", "a")])
        with self.assertRaises(ProtocolError):
            parser.finish()

    def test_work_is_linear_however_the_bytes_are_cut(self):
        data = b"data: %s\n\n" % (b"x" * (4 << 20))

        def seconds(size):
            parser = EventStreamParser()
            start = time.process_time()
            count = sum(len(parser.feed(data[n : n + size])) for n in range(0, len(data), size))
            self.assertEqual(count, 1)
            return time.process_time() - start

        # Quadratic work would be 30,000 times that of one read; 10 is the promise, with room for a busy machine.
        self.assertLess(seconds(64), 40 * max(seconds(len(data)), 0.005))


# ------------------------------------------------------------------------------------------------
# Chunks, and chunks merged to a response.
# ------------------------------------------------------------------------------------------------


def merged(*raws):
    return SendResponse.from_chunks([edgee.parse_chunk(raw, {}) for raw in raws])


def with_delta(**delta):
    return {"choices": [{"index": 0, "delta": delta}]}


def calls(*pieces):
    return with_delta(tool_calls=list(pieces))


def call(identity=None, name=None, arguments=None, **more):
    """A piece of a tool call; what is None is absent."""
    function = {key: value for key, value in (("name", name), ("arguments", arguments)) if value is not None}
    return {**({} if identity is None else {"id": identity}), "function": function, **more}


TOOL_CALL_CASES = [
    # name, pieces, (id, name, arguments) of the calls that they amount to
    ("in pieces", [call("a", "f", "", index=0), call(arguments='{"x":', index=0), call(arguments="1}", index=0)],
        [("a", "f", '{"x":1}')]),
    ("the only call has index 1 (OpenRouter)", [call("a", "f", "", index=1), call(arguments="{}", index=1)],
        [("a", "f", "{}")]),
    ("parallel", [call("a", "f", "", index=0), call("b", "g", "", index=1), call(arguments="1", index=0),
        call(arguments="2", index=1)], [("a", "f", "1"), ("b", "g", "2")]),
    ("parallel calls at one index", [call("a", "f", "1", index=0), call("b", "g", "2", index=0),
        call(arguments="3", index=0)], [("a", "f", "1"), ("b", "g", "23")]),
    ("later pieces carry an empty id (Alibaba)", [call("a", "f", "", index=0), call("", None, "1", index=0),
        call("", None, "2", index=0)], [("a", "f", "12")]),
    ("id and name in every piece", [call("a", "f", "1", index=0), call("a", "f", "2", index=0)], [("a", "f", "12")]),
    ("a new id without a name is the same call", [call("a", "f", "1", index=0), call("b", None, "2", index=0)],
        [("a", "f", "12")]),
    ("whole, without an index (Mistral, GPUStack)", [call("a", "f", "1"), call("b", "f", "2")],
        [("a", "f", "1"), ("b", "f", "2")]),
    ("without an index, by id", [call("a", "f", "1"), call("b", "g", "2"), call("a", None, "3")],
        [("a", "f", "13"), ("b", "g", "2")]),
    ("without index or id", [call(None, "f", "1"), call(None, None, "2"), call(None, "g", "3")],
        [(None, "f", "12"), (None, "g", "3")]),
    ("nulls (Writer)", [{"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": None}},
        {"index": 0, "id": None, "type": None, "function": {"name": None, "arguments": "1"}},
        {"index": 0, "id": None, "type": None, "function": None}], [("a", "f", "1")]),
    ("arguments that are an object", [call("a", "f", {"x": 1}, index=0)], [("a", "f", '{"x": 1}')]),
]  # fmt: skip


class MergeTest(unittest.TestCase):
    def test_pieces_of_tool_calls_find_their_call(self):
        for name, pieces, expected in TOOL_CALL_CASES:
            for raws in ([calls(piece) for piece in pieces], [calls(*pieces)]):
                with self.subTest(name):
                    tool_calls = merged(*raws).tool_calls
                    self.assertEqual([(c.get("id"), c["function"].get("name"), c["function"]["arguments"]) for c in tool_calls], expected)
                    self.assertEqual({c["type"] for c in tool_calls}, {"function"})
                    self.assertFalse([c for c in tool_calls if "index" in c])

    def test_members_that_it_does_not_know_are_kept_in_a_tool_call(self):
        extra = {"google": {"thought_signature": "s"}}
        response = merged(calls(call("a", "f", "1", index=0, extra_content=extra)), calls(call(None, None, "2", index=0)))
        self.assertEqual(response.tool_calls, [
            {"id": "a", "type": "function", "function": {"name": "f", "arguments": "12"}, "extra_content": extra},
        ])  # fmt: skip

    def test_a_message_can_be_sent_back_as_it_is(self):
        response = merged(chunk("", role="assistant"), calls(call("a", "f", "{}", index=0)), chunk(finish="tool_calls"))
        expected = {
            "role": "assistant", "content": "",
            "tool_calls": [{"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
        }  # fmt: skip
        self.assertEqual(response.message, expected)
        with Gateway(sized(COMPLETION)) as gateway, gateway.client() as client:
            client.send("m", [response.message])
        self.assertEqual(json.loads(gateway.requests[0].body)["messages"], [expected])

    def test_what_a_message_is_made_of(self):
        for name, deltas, expected in [
            ("text", [{"role": "assistant", "content": "a"}, {"content": "b"}], {"content": "ab"}),
            ("null is nothing", [{"content": "a"}, {"content": None}], {"content": "a"}),
            ("a role that never came", [{"content": "a"}], {"content": "a"}),
            ("a role that is empty", [{"role": "assistant"}, {"role": "", "content": "a"}], {"content": "a"}),
            ("no tool calls", [{"content": "a", "tool_calls": []}], {"content": "a"}),
            ("reasoning", [{"reasoning": "a"}, {"reasoning": "b"}], {"content": None, "reasoning": "ab"}),
            ("reasoning_content", [{"reasoning_content": "a"}, {"reasoning_content": "b"}],
                {"content": None, "reasoning_content": "ab"}),
            ("refusal", [{"refusal": "a"}, {"refusal": "b"}], {"content": None, "refusal": "ab"}),
            ("the last value of others", [{"channel": "a", "name": "x"}, {"channel": "b"}],
                {"content": None, "channel": "b", "name": "x"}),
            ("lists", [{"annotations": [1]}, {"annotations": [2, 3]}], {"content": None, "annotations": [1, 2, 3]}),
            ("parts (Databricks)", [{"content": [{"type": "reasoning", "text": "r"}]},
                {"content": [{"type": "text", "text": "t"}]}],
                {"content": [{"type": "reasoning", "text": "r"}, {"type": "text", "text": "t"}]}),
            ("parts, then text (Mistral)", [{"content": ""}, {"content": [{"type": "thinking"}]}, {"content": "4"},
                {"content": "2"}], {"content": [{"type": "thinking"}, {"type": "text", "text": "42"}]}),
            ("a surrogate pair in two halves", [{"content": "\ud83d"}, {"content": "\ude00!"}], {"content": "😀!"}),
            ("half of a surrogate pair", [{"content": "\ud83d"}, {"content": "!"}], {"content": "\ud83d!"}),
        ]:  # fmt: skip
            with self.subTest(name):
                self.assertEqual(merged(*(with_delta(**delta) for delta in deltas)).message, {"role": "assistant", **expected})

    def test_a_response_is_what_send_would_have_returned(self):
        response = merged(
            {"id": "", "model": "", "object": "", "choices": [], "prompt_filter_results": [1]},
            {**chunk("Hel", role="assistant"), "object": "chat.completion.chunk", "usage": {"prompt_tokens": 1}},
            {**chunk("lo", "length"), "usage": None, "compression": {"saved_tokens": 5, "reduction": 12.5}},
            {**chunk(finish="stop"), "id": "other"},
            {**chunk(), "model": "other", "system_fingerprint": "f"},
            {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": None, "cost": 3}},
        )
        self.assertEqual((response.id, response.model, response.text), ("c1", "m", "Hello"))
        self.assertEqual(response.finish_reason, "stop")
        self.assertEqual(response.usage, edgee.Usage(1, 2, 0))
        self.assertEqual(response.compression, edgee.Compression(5, 0, 12.5, 0))
        message = {"role": "assistant", "content": "Hello"}
        self.assertEqual(response.raw, {
            "id": "c1", "model": "m", "object": "chat.completion", "prompt_filter_results": [1],
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "system_fingerprint": "f",
            "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": None, "cost": 3},
            "compression": {"saved_tokens": 5, "reduction": 12.5},
        })  # fmt: skip

    def test_choices_are_kept_apart(self):
        response = merged(chunk("a", index=1), chunk("b", index=0), chunk("c", "stop", index=1), chunk("d", "length"))
        self.assertEqual([(c.index, c.message["content"], c.finish_reason) for c in response.choices], [(0, "bd", "length"), (1, "ac", "stop")])

    def test_logprobs_are_joined(self):
        def with_logprobs(*tokens):
            return {"choices": [{"index": 0, "delta": {}, "logprobs": {"content": list(tokens), "refusal": None}}]}

        self.assertEqual(merged(with_logprobs(1), with_logprobs(2)).raw["choices"][0]["logprobs"], {"content": [1, 2]})

    def test_chunks_made_by_hand_need_no_raw(self):
        chunks = [StreamChunk([StreamChoice(0, StreamDelta("assistant", "a"))], id="x"), StreamChunk([StreamChoice(0, StreamDelta(content="b"), "stop")])]
        response = SendResponse.from_chunks(iter(chunks))
        self.assertEqual((response.text, response.finish_reason, response.id), ("ab", "stop", "x"))

    def test_no_chunks_make_an_empty_response(self):
        response = SendResponse.from_chunks([])
        self.assertEqual((response.choices, response.text, response.message, response.tool_calls), ([], None, None, None))

    def test_odd_shapes_do_not_crash_a_reader(self):
        for raw in [
            {}, {"choices": None}, {"choices": {}}, {"choices": "a"}, {"choices": [None, 1, "a", []]},
            {"choices": [{}]}, {"choices": [{"delta": None}]}, {"choices": [{"delta": []}]}, {"choices": [{"index": {}}]},
            {"choices": [{"index": None, "delta": {"content": 5, "role": [], "tool_calls": {}}, "finish_reason": {}}]},
            {"choices": [{"delta": {"content": [None, 1, "a", {"type": "text"}, {"type": "text", "text": 1}]}}]},
            {"choices": [{"delta": {"tool_calls": [None, 1, {}, {"function": 1}, {"index": "0", "id": 5, "function": {"name": []}}]}}]},
            {"usage": 1, "compression": "a", "id": 5, "model": []}, {"usage": [], "choices": [{"logprobs": 1}]},
            {"usage": {"prompt_tokens": "1", "total_tokens": True}, "choices": [{"logprobs": {"content": None}}]},
        ]:  # fmt: skip
            with self.subTest(raw):
                parsed = edgee.parse_chunk(raw, {})
                self.assertIs(parsed.raw, raw)
                for answer in (parsed, merged(raw, raw)):
                    self.assertIsNone(answer.text)
                    for name in ("finish_reason", "tool_calls", "usage", "compression"):
                        getattr(answer, name)
                    repr(answer)

    def test_the_position_stands_in_for_an_index(self):
        raw = {"choices": [{"delta": {"content": "a"}}, {"index": None, "delta": {"content": "b"}}]}
        self.assertEqual([choice.index for choice in edgee.parse_chunk(raw, {}).choices], [0, 1])

    def test_text_is_that_of_the_text_parts(self):
        parts = [{"type": "thinking", "thinking": "x"}, {"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
        parsed = edgee.parse_chunk(with_delta(content=parts), {})
        self.assertEqual((parsed.text, parsed.choices[0].delta.content), ("ab", parts))
        self.assertIsNone(edgee.parse_chunk(with_delta(content=parts[:1]), {}).text)


# ------------------------------------------------------------------------------------------------
# Settings and requests: what is sent, and what is refused before anything is.
# ------------------------------------------------------------------------------------------------

USER = {"role": "user", "content": "Hi"}
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}}
TOOL = {"type": "function", "function": {"name": "f", "parameters": PARAMETERS}}
TOOL_CALL = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}
SWITCHES = {
    "tool_result_trimming": "x-edgee-compression-tool-result-trimming",
    "tool_surface_reduction": "x-edgee-compression-tool-surface-reduction",
    "output_brevity": "x-edgee-compression-brevity",
}

BODY_CASES = [
    # name, input, the body's fields besides model
    ("a prompt", "Hi", {"messages": [USER]}),
    ("a list", [USER], {"messages": [USER]}),
    ("a tuple", (USER,), {"messages": [USER]}),
    ("dataclasses in a list", [Message("user", "Hi"), USER], {"messages": [USER, USER]}),
    ("every key of a dict", {"messages": [USER], "temperature": 0, "x": None, "edgee_tool_ids": ["a"], "stop": []},
        {"messages": [USER], "temperature": 0, "x": None, "edgee_tool_ids": ["a"], "stop": []}),
    ("model and stream of the dict lose", {"messages": [USER], "model": "other", "stream": "yes"}, {"messages": [USER]}),
    ("an InputObject", InputObject([USER], tags=["a"], tool_choice="auto", compression_model="claude"),
        {"messages": [USER], "tags": ["a"], "tool_choice": "auto", "compression_model": "claude"}),
    ("extra_body last", InputObject([USER], tags=["a"], extra_body={"tags": ["b"], "seed": 1, "model": "other"}),
        {"messages": [USER], "tags": ["b"], "seed": 1}),
    ("tools as dataclasses", InputObject([USER], tools=[Tool("function", FunctionDefinition("f", None, PARAMETERS))]),
        {"messages": [USER], "tools": [TOOL]}),
    ("tools as dicts", {"messages": [USER], "tools": [TOOL]}, {"messages": [USER], "tools": [TOOL]}),
    ("a tool's answer", [Message("assistant", tool_calls=[ToolCall("a", "function", TOOL_CALL["function"])]),
        Message("tool", "1", tool_call_id="a", name="f")], {"messages": [{"role": "assistant", "tool_calls": [TOOL_CALL]},
        {"role": "tool", "content": "1", "tool_call_id": "a", "name": "f"}]}),
    ("text that is not ASCII, and half a surrogate pair", "é😀\ud83d",
        {"messages": [{"role": "user", "content": "é😀\ud83d"}]}),
    ("switches that are no booleans", {"messages": [USER], "output_brevity": "low", "tool_result_trimming": None},
        {"messages": [USER], "output_brevity": "low", "tool_result_trimming": None}),
]  # fmt: skip

circular: typing.List[typing.Any] = []
circular.append(circular)
nested: typing.Any = []
for _ in range(100_000):
    nested = [nested]

BAD_INPUTS = [
    # model, input, timeout, the error's type and text
    ("", "Hi", None, ValueError, "model is empty"),
    (" ", "Hi", None, ValueError, "model is empty"),
    (None, "Hi", None, TypeError, "model must be a str, not NoneType"),
    ("m", None, None, TypeError, "input must be a str, a list, a dict or an InputObject, not NoneType"),
    ("m", 5, None, TypeError, "input must be a str, a list, a dict or an InputObject, not int"),
    ("m", b"Hi", None, TypeError, "input must be a str, a list, a dict or an InputObject, not bytes"),
    ("m", {}, None, ValueError, "input has no messages"),
    ("m", [], None, ValueError, "input has no messages"),
    ("m", InputObject([]), None, ValueError, "input has no messages"),
    ("m", {"messages": "Hi"}, None, TypeError, "messages must be a list, not str"),
    ("m", ["Hi"], None, TypeError, "messages[0] must be a dict or a Message, not str"),
    ("m", InputObject([USER], extra_body=[1]), None, TypeError, "extra_body must be a dict, not list"),
    ("m", {"messages": [USER], "x": float("nan")}, None, ValueError, "input cannot be sent as JSON: "),
    ("m", {"messages": [USER], "x": float("-inf")}, None, ValueError, "input cannot be sent as JSON: "),
    ("m", {"messages": [USER], "x": {1, 2}}, None, TypeError, "input cannot be sent as JSON: a set is no JSON"),
    ("m", {"messages": [USER], "x": b"a"}, None, TypeError, "input cannot be sent as JSON: a bytes is no JSON"),
    ("m", {"messages": [USER], "x": {(): 1}}, None, TypeError, "input cannot be sent as JSON: keys must be "),
    ("m", {"messages": [USER], "x": circular}, None, ValueError, "input cannot be sent as JSON: Circular "),
    ("m", {"messages": [USER], "x": nested}, None, ValueError, "input cannot be sent as JSON: "),
    ("m", "Hi", 0, ValueError, "timeout must be a positive number of seconds, not 0"),
    ("m", "Hi", float("nan"), ValueError, "timeout must be a positive number of seconds, not nan"),
    ("m", "Hi", float("inf"), ValueError, "timeout must be a positive number of seconds, not inf"),
    ("m", "Hi", "5", TypeError, "timeout must be a number of seconds, not str"),
    ("m", "Hi", True, TypeError, "timeout must be a number of seconds, not bool"),
]

URL_PROBLEM = "base_url must be http:// or https:// with a host, and have no user, query or fragment"
BAD_CONFIGS = [
    (5, TypeError, "config must be an API key, an EdgeeConfig or a dict, not int"),
    ({"api_key": KEY, "apikey": 1, "url": 2}, ValueError, "unknown setting: apikey, url"),
    (KEY + "\n", ValueError, "api_key has a character that is not visible ASCII: a space or a line end, perhaps"),
    (KEY + "é", ValueError, "api_key has a character that is not visible ASCII: a space or a line end, perhaps"),
    (f"{KEY} {KEY}", ValueError, "api_key has a character that is not visible ASCII: a space or a line end, perhaps"),
    ({"api_key": KEY.encode()}, TypeError, "api_key must be a str, not bytes"),
    *(({"api_key": KEY, "base_url": url}, ValueError, URL_PROBLEM) for url in [
        "api.edgee.ai", "ftp://a", "https://", "https:///v1", "http://a:b", "http://a:99999", "http://a b", "http://a\n",
        "http://u:p@a", "http://a?x", "http://a#x", "http://é", "http://[::1", KEY,
    ]),
    ({"api_key": KEY, "base_url": 5}, TypeError, "base_url must be a str, not int"),
    ({"api_key": KEY, "timeout": -1}, ValueError, "timeout must be a positive number of seconds, not -1"),
    ({"api_key": KEY, "timeout": "1"}, TypeError, "timeout must be a number of seconds, not str"),
    ({"api_key": KEY, "max_retries": -1}, ValueError, "max_retries must be 0 or more"),
    ({"api_key": KEY, "max_retries": 1.5}, TypeError, "max_retries must be a whole number"),
    ({"api_key": KEY, "max_retries": True}, TypeError, "max_retries must be a whole number"),
    ({"api_key": KEY, "headers": [("a", "b")]}, TypeError, "headers must be a dict, not list"),
    ({"api_key": KEY, "headers": {"a": 1}}, TypeError, "headers must be str to str: see 'a'"),
    ({"api_key": KEY, "headers": {"a b": "c"}}, ValueError, "headers has a name that cannot be sent: 'a b'"),
    ({"api_key": KEY, "headers": {"": "c"}}, ValueError, "headers has a name that cannot be sent: ''"),
    ({"api_key": KEY, "headers": {"Content-Length": "1"}}, ValueError,
        "headers has a name that cannot be sent: 'Content-Length'"),
    *(({"api_key": KEY, "headers": {"a": value}}, ValueError, "headers has a value that cannot be sent, for 'a'")
        for value in ("b\r\nc: d", "b\0", "é")),
]  # fmt: skip


class RequestTest(unittest.TestCase):
    def setUp(self):
        self.enterContext_(mock.patch.dict(os.environ))
        for name in list(os.environ):
            if name.startswith("EDGEE_") or name.lower().endswith("_proxy"):
                del os.environ[name]

    def enterContext_(self, context):  # unittest has it from 3.11 on
        self.addCleanup(context.__exit__, None, None, None)
        return context.__enter__()

    def test_bodies_are_what_was_asked_for_and_nothing_else(self):
        with Gateway(sized(COMPLETION)) as gateway, gateway.client() as client:
            for name, input, expected in BODY_CASES:
                with self.subTest(name):
                    before = copy.deepcopy(input)
                    client.send("m", input)
                    self.assertEqual(json.loads(gateway.requests[-1].body), {"model": "m", **expected})
                    self.assertFalse(set(gateway.requests[-1].headers) & set(SWITCHES.values()))
                    self.assertEqual(input, before)

    def test_stream_sends_the_same_body_with_stream_true(self):
        with Gateway(HELLO) as gateway, gateway.client() as client:
            for name, input, expected in BODY_CASES:
                for generator in (client.stream("m", input), client.send("m", input, True), client.send("m", input, stream=True)):
                    with self.subTest(name):
                        self.assertEqual(text_of(generator), "Hello")
                        self.assertEqual(json.loads(gateway.requests[-1].body), {"model": "m", "stream": True, **expected})

    def test_switches_are_headers(self):
        with Gateway(sized(COMPLETION)) as gateway, gateway.client(headers={"x-edgee-compression-brevity": "?"}) as client:
            for input in ({"messages": [USER], **dict.fromkeys(SWITCHES, True)}, InputObject([USER], **dict.fromkeys(SWITCHES, False)),
                InputObject([USER], extra_body=dict.fromkeys(SWITCHES, False))):  # fmt: skip
                client.send("m", input)
                request = gateway.requests[-1]
                value = "true" if isinstance(input, dict) else "false"
                self.assertEqual({name: request.headers[name] for name in SWITCHES.values()}, dict.fromkeys(SWITCHES.values(), value))
                self.assertEqual(json.loads(request.body), {"model": "m", "messages": [USER]})

    def test_the_head_of_a_request(self):
        common = {
            "host": None, "accept-encoding": "identity", "authorization": f"Bearer {KEY}",
            "user-agent": f"edgee-py/{edgee.__version__}", "x-a": "b",
        }  # fmt: skip
        posted = {"content-type": "application/json", "content-length": None}
        with Gateway(sized(COMPLETION), HELLO, sized({"data": []})) as gateway, gateway.client(headers={"X-A": "b"}) as client:
            client.send("m", "Hi")
            list(client.stream("m", "Hi"))
            client.models()
        for request, expected in zip(gateway.requests, [
            ("POST", "/v1/chat/completions", {**common, **posted, "accept": "application/json"}),
            ("POST", "/v1/chat/completions", {**common, **posted, "accept": "text/event-stream"}),
            ("GET", "/v1/models", common),
        ]):  # fmt: skip
            values = {name: None if name in ("host", "content-length") else value for name, value in request.headers.items()}
            self.assertEqual((request.method, request.path, values), expected)
            self.assertEqual(request.headers["host"], f"127.0.0.1:{gateway.port}")

    def test_headers_of_the_configuration_win_over_our_own(self):
        with Gateway(HELLO) as gateway, gateway.client(headers={"user-agent": "mine", "AUTHORIZATION": "Other"}) as client:
            list(client.stream("m", "Hi"))
        self.assertEqual((gateway.requests[0].headers["user-agent"], gateway.requests[0].headers["authorization"]), ("mine", "Other"))

    def test_a_base_url_may_end_in_a_slash_or_v1_and_have_a_path(self):
        with Gateway(HELLO) as gateway:
            for end, path in [("", "/v1"), ("/", "/v1"), ("/v1", "/v1"), ("/v1/", "/v1"), ("/a/b", "/a/b/v1"), ("/a/v1", "/a/v1")]:
                with gateway.client(base_url=gateway.url + end) as client:
                    list(client.stream("m", "Hi"))
                    self.assertEqual(gateway.requests[-1].path, path + "/chat/completions")

    def test_wrong_arguments_raise_from_the_call_itself(self):
        with Gateway(HELLO) as gateway, gateway.client() as client:
            for model, input, timeout, kind, text in BAD_INPUTS:
                for method in (client.send, client.stream):
                    with self.subTest(text, method=method.__name__), self.assertRaises(kind) as caught:
                        method(model, input, timeout=timeout)
                    if text.endswith(" "):  # the rest of it is the json module's
                        self.assertEqual(str(caught.exception)[: len(text)], text)
                    else:
                        self.assertEqual(str(caught.exception), text)
            self.assertEqual(gateway.connections, 0)

    def test_wrong_settings_raise_and_never_show_the_key(self):
        for config, kind, text in BAD_CONFIGS:
            for given in [config] + ([EdgeeConfig(**config)] if isinstance(config, dict) and "url" not in config else []):
                with self.subTest(text, config=repr(config)), self.assertRaises(kind) as caught:
                    Edgee(given)
                self.assertEqual(str(caught.exception), text)
                self.assertNotIn(KEY, repr(caught.exception))

    def test_settings_come_from_the_argument_else_the_environment_else_the_default(self):
        for config in (None, "", {}, EdgeeConfig(), {"api_key": None}):
            with self.assertRaises(ValueError) as caught:
                Edgee(config)
            self.assertEqual(str(caught.exception), "EDGEE_API_KEY is not set")
        settings = Edgee(KEY)._settings
        self.assertEqual((settings.base_url, settings.timeout, settings.max_retries), ("https://api.edgee.ai", 600, 2))
        with Gateway(HELLO) as gateway:
            os.environ.update(EDGEE_API_KEY="from-environment", EDGEE_BASE_URL=gateway.url)
            for config, key in [(None, "from-environment"), (KEY, KEY), ({"api_key": KEY}, KEY), (EdgeeConfig(KEY), KEY)]:
                with Edgee(config) as client:
                    list(client.stream("m", "Hi"))
                    self.assertEqual(gateway.requests[-1].headers["authorization"], f"Bearer {key}")
            os.environ["EDGEE_BASE_URL"] = "http://127.0.0.1:1"
            with Edgee({"base_url": gateway.url}) as client:
                list(client.stream("m", "Hi"))
            self.assertEqual(len(gateway.requests), 5)

    def test_the_key_is_in_no_repr(self):
        with Edgee(EdgeeConfig(KEY, headers={"x": KEY})) as client:
            shown = [EdgeeConfig(KEY, headers={"x": KEY}), client, client._settings, vars(client)]
            self.assertNotIn(KEY, repr(shown))

    def test_nothing_is_sent_before_the_first_chunk_is_asked_for(self):
        with Gateway(HELLO) as gateway, gateway.client() as client:
            generator = client.stream("m", "Hi")
            self.assertIsInstance(generator, type(n for n in ()))
            generator.close()
            self.assertEqual(gateway.connections, 0)

    def test_models(self):
        data = [{"id": "a", "owned_by": "b", "created": 1}, {"id": "c", "object": "model"}, None]
        with Gateway(sized({"object": "list", "data": data}), sized({"data": None})) as gateway, gateway.client() as client:
            self.assertEqual(client.models(), [edgee.Model("a", "b", 1), edgee.Model("c", None, None)])
            self.assertEqual(client.models(), [])

    def test_send_returns_the_response(self):
        with Gateway(sized(COMPLETION, X_Edgee_Fallback_Used="yes")) as gateway, gateway.client() as client:
            response = client.send("m", "Hi")
        self.assertEqual((response.text, response.finish_reason, response.message), ("Hello", "stop", COMPLETION["choices"][0]["message"]))
        self.assertEqual((response.id, response.model, response.usage), ("c1", "m", edgee.Usage(1, 2, 3)))
        self.assertEqual((response.raw, response.compression, response.tool_calls), (COMPLETION, None, None))
        self.assertEqual(response.headers["x-edgee-FALLBACK-used"], "yes")


# ------------------------------------------------------------------------------------------------
# Streams: what arrives is what was sent, and a cut answer is never a whole one.
# ------------------------------------------------------------------------------------------------

PIECE = '{"index": 0, "id": "call_1", "type": "function", "function": {"name": "weather", "arguments": ""}}'
ANSWER = [
    # One realistic answer: roles, text with emoji, a tool call in pieces, usage, [DONE].
    '{"id":"c1","model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}',
    '{"choices":[{"index":0,"delta":{"content":"Hé"}}]}',
    '{"choices":[{"index":0,"delta":{"content":"llo 👋"}}]}',
    '{"choices":[{"index":0,"delta":{"content":"🏽, \\"you\\""}}]}',
    '{"choices":[{"index":0,"delta":{"content":"\\n\\ud83d\\ude00 data: [DONE]"}}]}',
    '{"choices":[{"index":0,"delta":{"tool_calls":[' + PIECE + "]}}]}",
    '{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{\\"city\\":"}}]}}]}',
    '{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"\\"Paris\\"}"}}]}}]}',
    '{"choices":[{"index":0,"delta":{}}]}',
    '{"choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]}',
    '{"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":8,"total_tokens":17}}',
    "[DONE]",
]


class StreamTest(unittest.TestCase):
    def test_examples_of_the_stream_method(self):
        """Those of the document that the project was created from, as they stand there."""
        story = stream_of(chunk("Once", role="assistant"), chunk(" upon"), chunk(finish="stop"))
        refusal = sized({"error": {"message": "no such model"}}, "404 Not Found")
        for name, code, answer, printed in STREAM_METHOD_EXAMPLES:
            with self.subTest(name), Gateway(refusal if answer is None else story) as gateway, gateway.client() as client:
                with contextlib.redirect_stdout(io.StringIO()) as output:
                    exec(code, {"edgee": client})
                self.assertEqual(output.getvalue(), printed)
                self.assertEqual(json.loads(gateway.requests[0].body)["stream"], True)

    def test_an_answer_cut_at_any_byte_is_never_a_whole_one(self):
        events = [event(text) for text in ANSWER]
        body = b"".join(events)
        offsets = [len(b"".join(events[:n])) for n in range(len(events) + 1)]
        whole_at = [offset + len(one) - 2 for offset, one in zip(offsets, events)]  # its JSON, if not its blank line
        chunked = in_chunks(*events) + b"0\r\n\r\n"
        arrived = []  # how many bytes of the body are in n bytes of the chunked coding
        for text in events:
            size = b"%x\r\n" % len(text)
            sofar = arrived[-1] if arrived else 0
            arrived += [sofar] * (len(size)) + [sofar + n for n in range(1, len(text) + 1)] + [sofar + len(text)] * 2
        arrived = [0, *arrived] + [len(body)] * 5
        framings = [
            (OPEN_HEAD, body, range(len(body) + 1)),
            (head(Content_Type="text/event-stream", Content_Length=len(body)), body, range(len(body) + 1)),
            (STREAM_HEAD, chunked, arrived),
        ]
        for start, sent, bodies in framings:
            answers = [[start + sent[:n], CLOSE] for n in range(len(sent) + 1)]
            with Gateway(*answers) as gateway, gateway.client(max_retries=0) as client:
                for n, size in zip(range(len(sent) + 1), bodies):
                    chunks, error = drain(client.stream("m", "Hi"))
                    due = [json.loads(text) for text, at in zip(ANSWER[:-1], whole_at) if at <= size]
                    self.assertEqual([one.raw for one in chunks], due, (start, n))
                    # A body without a length, cut where all choices have finished and no event has begun, looks whole.
                    complete = size >= whole_at[-1] or (start is OPEN_HEAD and size in (
                        *range(whole_at[9], offsets[10] + 1), *range(whole_at[10], offsets[11] + 1)))  # fmt: skip
                    self.assertEqual(error is None, complete, (start, n, error))
                    if error:
                        self.assertIs(type(error), StreamInterruptedError, (start, n))

    def test_a_whole_answer_in_any_cut(self):
        body = b": hello\n\n" + b"".join(event(text) for text in ANSWER)
        for size in (1, 7, 100, len(body)):
            pieces = [body[n : n + size] for n in range(0, len(body), size)]
            for answer in ([STREAM_HEAD, *map(in_chunks, pieces), b"0\r\n\r\n"], [OPEN_HEAD, *pieces, CLOSE]):
                with Gateway(answer) as gateway, gateway.client() as client:
                    response = SendResponse.from_chunks(client.stream("m", "Hi"))
                self.assertEqual(response.text, 'Héllo 👋🏽, "you"\n😀 data: [DONE]')
                self.assertEqual(response.tool_calls[0]["function"], {"name": "weather", "arguments": '{"city":"Paris"}'})
                self.assertEqual((response.finish_reason, response.usage.total_tokens), ("tool_calls", 17))

    def test_how_an_answer_may_end(self):
        finished, unfinished = chunk("a", "stop"), chunk("a")
        interrupted = "the stream ended before the answer was complete"
        for name, events, error in [
            ("[DONE] alone", [unfinished, "[DONE]"], None),
            ("[DONE] with white space", [unfinished, "[DONE] \t"], None),
            ("[DONE] and nothing else", ["[DONE]"], None),
            ("every choice finished", [finished], None),
            ("finished, then null again", [finished, chunk()], None),
            ("two choices, both finished", [finished, chunk("b", "length", index=1)], None),
            ("two choices, one finished", [chunk("b", index=1), finished], interrupted),
            ("a finish reason that is empty", [chunk("a", "")], interrupted),
            ("no choice at all", [{"choices": [], "usage": {}}], interrupted),
            ("nothing", [], interrupted),
        ]:
            with self.subTest(name), Gateway([OPEN_HEAD, *map(event, events), CLOSE]) as gateway, gateway.client() as client:
                chunks, ended = drain(client.stream("m", "Hi"))
                self.assertEqual([one.raw for one in chunks], [one for one in events if type(one) is dict])
                self.assertEqual(ended and str(ended), error)
                self.assertIn(type(ended), (type(None), StreamInterruptedError))

    def test_what_comes_after_done_is_no_answer(self):
        with Gateway(stream_of(chunk("a"), "[DONE]", chunk("b"))) as gateway, gateway.client() as client:
            self.assertEqual(text_of(client.stream("m", "Hi")), "a")

    def test_done_ends_the_generator_at_once(self):
        waiting = threading.Event()
        with Gateway([STREAM_HEAD + in_chunks(event(chunk("a")), event("[DONE]")), lambda: waiting.wait(WAIT)]) as gateway:
            with gateway.client() as client:
                self.assertEqual(text_of(client.stream("m", "Hi")), "a")  # the end of the body is never sent
                waiting.set()

    def test_chunks_come_one_by_one(self):
        asked = threading.Semaphore(0)
        pieces = [piece for word in "abc" for piece in (in_chunks(event(chunk(word))), lambda: asked.acquire(timeout=WAIT))]
        with Gateway([STREAM_HEAD, *pieces, in_chunks(event("[DONE]")) + b"0\r\n\r\n"]) as gateway, gateway.client() as client:
            generator = client.stream("m", "Hi")
            for word in "abc":
                self.assertEqual(next(generator).text, word)
                asked.release()
            self.assertEqual(list(generator), [])

    def test_fields_of_a_chunk(self):
        raw = {**chunk("a", role="assistant", tool_calls=[{"index": 0}], reasoning_content="r"), "compression": {
            "saved_tokens": 1, "cost_savings": 27000, "reduction": 48.5, "time_ms": 3}, "usage": {"prompt_tokens": 5}}  # fmt: skip
        answer = STREAM_HEAD.replace(b"\r\n\r\n", b"\r\nX-Edgee-Fallback-Used: 1\r\n\r\n") + in_chunks(event(raw), event("[DONE]")) + b"0\r\n\r\n"
        with Gateway(answer) as gateway, gateway.client() as client:
            (got,) = client.stream("m", "Hi")
        self.assertEqual((got.text, got.role, got.finish_reason, got.tool_calls), ("a", "assistant", None, [{"index": 0}]))
        self.assertEqual((got.id, got.model, got.raw), ("c1", "m", raw))
        self.assertEqual((got.usage, got.compression), (edgee.Usage(5), edgee.Compression(1, 27000, 48.5, 3)))
        self.assertEqual(got.headers["x-edgee-fallback-used"], "1")
        self.assertEqual(pickle.loads(pickle.dumps(got)), got)

    def test_json_instead_of_a_stream_is_one_chunk(self):
        with Gateway(sized(COMPLETION)) as gateway, gateway.client() as client:
            (got,) = client.stream("m", "Hi")
        self.assertEqual((got.text, got.role, got.finish_reason, got.raw), ("Hello", "assistant", "stop", COMPLETION))
        self.assertEqual(SendResponse.from_chunks([got]).raw, COMPLETION)

    def test_events_that_are_errors(self):
        for name, sent, status, code, message in [
            ("OpenAI", event({"error": {"message": "Sorry", "type": "server_error", "param": None, "code": None}}), None, None, "Sorry"),
            ("OpenRouter", event({**chunk("b"), "error": {"code": 402, "message": "Pay"}}), 402, 402, "Pay"),
            ("Groq", b"event: error\n" + event({"error": {"message": "Tool", "code": "tool_use", "status_code": 400}}), 400, "tool_use", "Tool"),
            ("digits", event({"error": {"message": "a", "code": "404"}}), 404, "404", "a"),
            ("a status beside", event({"status": 418, "error": "tea"}), 418, None, "tea"),
            ("no error status", event({"error": {"message": "a", "code": 7}}), None, 7, "a"),
            ("text", b"event: error\ndata: out of\ndata: luck\n\n", None, None, "out of luck"),
            ("a message at top level", b'event: error\ndata: {"message": "a"}\n\n', None, None, "a"),
            ("an error that says nothing", event({"error": True}), None, None, '{"error": true}'),
        ]:  # fmt: skip
            with self.subTest(name), Gateway([STREAM_HEAD, in_chunks(event(chunk("a")), sent, event("[DONE]")), b"0\r\n\r\n"]) as gateway:
                with gateway.client() as client:
                    chunks, error = drain(client.stream("m", "Hi"))
                self.assertEqual(text_of(chunks), "a")
                self.assertIs(type(error), APIError)
                self.assertEqual((error.status, error.code, error.message), (status, code, message))
                self.assertEqual(str(error), f"API error: {message}" if status is None else f"API error {status}: {message}")
                self.assertEqual(len(gateway.requests), 1)

    def test_events_that_are_no_chunks(self):
        for text in ("{", "nonsense", "5", "[]", "null", '"a"', "{} {}", '{"a": 1}x', "[DONE]x", "[" * 100_000, "9" * 5000):
            with self.subTest(text[:20]), Gateway(stream_of(chunk("a"), text)) as gateway, gateway.client() as client:
                chunks, error = drain(client.stream("m", "Hi"))
                self.assertEqual(text_of(chunks), "a")
                self.assertIs(type(error), ProtocolError)
                shown = text if len(text) <= 500 else text[:500] + "…"
                self.assertEqual(str(error), f"an event of the stream is not a JSON object: {shown}")

    def test_white_space_around_json(self):
        with Gateway(stream_of(' \t{"choices":[]}  ', "\n  {}".replace("\n", ""))) as gateway, gateway.client() as client:
            self.assertEqual([one.raw for one in client.stream("m", "Hi")], [{"choices": []}, {}])


STREAM_METHOD_EXAMPLES = [
    # name, the code, None if the gateway refuses, what it prints
    ("String Input", '''
for chunk in edgee.stream("gpt-5.2", "Tell me a story"):
    if chunk.text:
        print(chunk.text, end="", flush=True)

    if chunk.finish_reason:
        print(f"\\nFinished: {chunk.finish_reason}")
''', 1, "Once upon\nFinished: stop\n"),
    ("Streaming with Messages", '''
for chunk in edgee.stream("gpt-5.2", {
    "messages": [
        {"role": "system", "content": "You are a helpful assistant."},
        {"role": "user", "content": "Write a poem about coding"}
    ]
}):
    if chunk.text:
        print(chunk.text, end="", flush=True)
''', 1, "Once upon"),
    ("Handling Multiple Choices", '''
for chunk in edgee.stream("gpt-5.2", "Give me creative ideas"):
    for choice in chunk.choices:
        if choice.delta.content:
            print(f"Choice {choice.index}: {choice.delta.content}")
''', 1, "Choice 0: Once\nChoice 0:  upon\n"),
    ("Using Convenience Properties", '''
for chunk in edgee.stream("gpt-5.2", "Explain quantum computing"):
    # Content chunks
    if chunk.text:
        print(chunk.text, end="", flush=True)

    # First chunk contains the role
    if chunk.role:
        print(f"\\nRole: {chunk.role}")

    # Last chunk contains finish reason
    if chunk.finish_reason:
        print(f"\\nFinish reason: {chunk.finish_reason}")
''', 1, "Once\nRole: assistant\n upon\nFinish reason: stop\n"),
    ("Collecting Full Response", '''
full_text = ""

for chunk in edgee.stream("gpt-5.2", "Tell me a story"):
    if chunk.text:
        full_text += chunk.text
        print(chunk.text, end="", flush=True)  # Also display as it streams

print(f"\\n\\nFull response ({len(full_text)} characters):")
print(full_text)
''', 1, "Once upon\n\nFull response (9 characters):\nOnce upon\n"),
    ("Empty Chunks", '''
for chunk in edgee.stream("gpt-5.2", "Hello"):
    if chunk.text:  # Good: Check before using
        print(chunk.text)
''', 1, "Once\n upon\n"),
    ("Using send() with stream=True", '''
for chunk in edgee.send("gpt-5.2", "Tell me a story", stream=True):
    if chunk.text:
        print(chunk.text, end="", flush=True)
''', 1, "Once upon"),
    ("Error Handling", '''
try:
    for chunk in edgee.stream("gpt-5.2", "Hello!"):
        if chunk.text:
            print(chunk.text, end="", flush=True)
except RuntimeError as error:
    # API errors: "API error {status}: {message}"
    # Network errors: Standard HTTP errors
    print(f"Stream failed: {error}")
''', None, "Stream failed: API error 404: no such model\n"),
]  # fmt: skip
