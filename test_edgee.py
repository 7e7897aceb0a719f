"""Tests of edgee.py, in its order: python -m unittest. Real sockets on 127.0.0.1, no other traffic."""

from __future__ import annotations

import collections
import contextlib
import copy
import dataclasses
import gc
import hashlib
import http.client
import importlib.util
import io
import json
import logging
import os
import pickle
import random
import re
import shutil
import signal
import socket
import ssl
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
import tracemalloc
import types
import typing
import unittest
import warnings
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

# A certificate for 127.0.0.1 and localhost that signs itself, good until 2126, and its key: for these tests alone.
CERTIFICATE = """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgbBlTqMFpZJGbDQvA
dMaruvJjUwUw4O0YCPFB1cuoN1ShRANCAARuL2cy5s8g//z+lLUTUKGiZHmvX2/T
fafR8+FtHyGh1tKKkQZGqvem5UdOjq6rWkoTYg55G+4Nu7jGuld5f+Ez
-----END PRIVATE KEY-----
-----BEGIN CERTIFICATE-----
MIIBszCCAVmgAwIBAgIUB/BF+y+iBFfmIr7gbKM24QmvyY8wCgYIKoZIzj0EAwIw
IDEeMBwGA1UEAwwVZWRnZWUucHkgdGVzdCBnYXRld2F5MCAXDTI2MTEyMjE3MzUw
NFoYDzIxMjYxMDI5MTczNTA0WjAgMR4wHAYDVQQDDBVlZGdlZS5weSB0ZXN0IGdh
dGV3YXkwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAARuL2cy5s8g//z+lLUTUKGi
ZHmvX2/TfafR8+FtHyGh1tKKkQZGqvem5UdOjq6rWkoTYg55G+4Nu7jGuld5f+Ez
o28wbTAdBgNVHQ4EFgQUSEjmVoQKpNoRFQrE+zm8eId7J90wHwYDVR0jBBgwFoAU
SEjmVoQKpNoRFQrE+zm8eId7J90wGgYDVR0RBBMwEYcEfwAAAYIJbG9jYWxob3N0
MA8GA1UdEwEB/wQFMAMBAf8wCgYIKoZIzj0EAwIDSAAwRQIgM74mgUnaJPFT1N2V
5m3+r2FZ9xYZQndXfVplR5eJf+4CIQCWgT0QP34TcHEiFsDtTAtIILPxS4PzLGGI
nRUrQXVUCQ==
-----END CERTIFICATE-----
"""


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

    An answer is bytes or a list of pieces, or a function that makes such a list of the request. Bytes
    are sent, CLOSE and RESET end the connection, a callable is called (and may wait for the test).
    Without an end the connection is kept.
    """

    def __init__(self, *answers, tls=None):
        self.answers = [[answer] if isinstance(answer, bytes) else answer for answer in answers]
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
        for piece in answer(request) if callable(answer) else answer:
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


def tls_context():
    """A server's TLS context, and an environment in which clients trust it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE_FILE)
    return context, mock.patch.dict(os.environ, {"SSL_CERT_FILE": CERTIFICATE_FILE})


ENVIRONMENT = mock.patch.dict(os.environ)


def setUpModule():
    """Write the certificate; clear what would lead the client elsewhere than to these tests' gateways."""
    global CERTIFICATE_FILE
    ENVIRONMENT.start()
    for name in list(os.environ):
        if name.startswith(("EDGEE_", "SSL_CERT_")) or name.lower().endswith("_proxy"):
            del os.environ[name]
    with tempfile.NamedTemporaryFile("w", suffix=".pem", delete=False) as file:
        file.write(CERTIFICATE)
    CERTIFICATE_FILE = file.name


def tearDownModule():
    os.remove(CERTIFICATE_FILE)
    ENVIRONMENT.stop()


class waits:
    """Within this context retries do not wait; `seconds` lists how long they would have."""

    def __enter__(self):
        self.seconds = []
        self._patch = mock.patch.object(edgee._Call, "pause", lambda call, seconds: self.seconds.append(seconds))
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
        self.assertEqual(
            parser.feed(b"data: a\rdata: b\ndata: c\r\n\rdata: d\n\r\n"), [("message", "a\nb\nc"), ("message", "d")]
        )

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
        def seconds(size):
            data = b"data: %s\n\n" % (b"x" * size)
            parser = EventStreamParser()
            start = time.process_time()
            count = sum(len(parser.feed(data[n : n + 64])) for n in range(0, len(data), 64))
            self.assertEqual(count, 1)
            return time.process_time() - start

        # Linear work makes this 8, quadratic work 64.
        self.assertLess(min(seconds(4 << 20) for _ in range(2)), 24 * min(seconds(1 << 19) for _ in range(3)))


# ------------------------------------------------------------------------------------------------
# Chunks, and chunks merged to a response.
# ------------------------------------------------------------------------------------------------


def merged(*raws):
    return SendResponse.from_chunks([edgee.parse_chunk(raw, {}, "delta") for raw in raws])


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
    ("a tail at an index that nothing started", [call("A", "f", '{"a": ', index=0), call(None, None, "1}", index=0),
        call("B", "g", "", index=0), {"index": 1, "function": {"arguments": '{"b": 2}'}}],
        [("A", "f", '{"a": 1}'), ("B", "g", '{"b": 2}')]),
    ("the id decides, before the name comes", [call("x", None, '{"a"'), call("x", None, ": 1}"), call("x", "f"),
        call("y", None, '{"b": 2}'), call("y", "g")], [("x", "f", '{"a": 1}'), ("y", "g", '{"b": 2}')]),
    ("a known id at another index", [call("a", "f", "1", index=0), call("b", "g", "2", index=1), call("a", None, "3", index=1)],
        [("a", "f", "13"), ("b", "g", "2")]),
    ("arguments that are an object", [call("a", "f", {"x": 1}, index=0)], [("a", "f", '{"x": 1}')]),
]  # fmt: skip


class MergeTest(unittest.TestCase):
    def test_pieces_of_tool_calls_find_their_call(self):
        for name, pieces, expected in TOOL_CALL_CASES:
            for raws in ([calls(piece) for piece in pieces], [calls(*pieces)]):
                with self.subTest(name):
                    tool_calls = merged(*raws).tool_calls
                    self.assertEqual(
                        [(c.get("id"), c["function"].get("name"), c["function"]["arguments"]) for c in tool_calls],
                        expected,
                    )
                    self.assertEqual({c["type"] for c in tool_calls}, {"function"})
                    self.assertFalse([c for c in tool_calls if "index" in c])

    def test_members_that_it_does_not_know_are_kept_in_a_tool_call(self):
        extra = {"google": {"thought_signature": "s"}}
        response = merged(
            calls(call("a", "f", "1", index=0, extra_content=extra)), calls(call(None, None, "2", index=0))
        )
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
                self.assertEqual(
                    merged(*(with_delta(**delta) for delta in deltas)).message, {"role": "assistant", **expected}
                )

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

    def test_nested_members_are_merged_by_one_rule(self):
        """Objects member by member, text that comes in pieces joined, lists by index and type."""
        for name, deltas, expected in [
            ("blocks of reasoning (OpenRouter)", [
                {"reasoning_details": [{"type": "reasoning.text", "index": 0, "text": "Let me"}]},
                {"reasoning_details": [{"type": "reasoning.text", "index": 0, "text": " count."}]},
                {"reasoning_details": [{"index": 0, "signature": "c2ln"}]},
            ], {"reasoning_details": [{"type": "reasoning.text", "index": 0, "text": "Let me count.", "signature": "c2ln"}]}),
            ("blocks of another type or without an index stay apart", [
                {"reasoning_details": [{"type": "a", "index": 0, "text": "1"}, {"type": "b", "index": 0, "text": "2"}]},
                {"reasoning_details": [{"type": "a", "text": "3"}, {"type": "a", "index": 1, "text": "4"}]},
                {"reasoning_details": [{"type": "a", "index": 0, "text": "5"}]},
            ], {"reasoning_details": [{"type": "a", "index": 0, "text": "15"}, {"type": "b", "index": 0, "text": "2"},
                {"type": "a", "text": "3"}, {"type": "a", "index": 1, "text": "4"}]}),
            ("an entry that comes again, with its output (Groq)", [
                {"executed_tools": [{"index": 0, "type": "search", "arguments": '{"q": 1}'}]},
                {"executed_tools": [{"index": 0, "type": "search", "arguments": '{"q": 1}', "output": "found"}]},
            ], {"executed_tools": [{"index": 0, "type": "search", "arguments": '{"q": 1}', "output": "found"}]}),
            ("function_call", [{"function_call": {"name": "f", "arguments": ""}}, {"function_call": {"arguments": '{"a":'}},
                {"function_call": {"arguments": " 1}"}}], {"function_call": {"name": "f", "arguments": '{"a": 1}'}}),
            ("audio", [{"audio": {"id": "x", "data": "YQ", "transcript": "a"}}, {"audio": {"data": "Yg", "transcript": "b", "expires_at": 5}}],
                {"audio": {"id": "x", "data": "YQYg", "transcript": "ab", "expires_at": 5}}),
            ("an empty text does not win", [{"name": "n", "channel": "c"}, {"name": "", "channel": ""}], {"name": "n", "channel": "c"}),
            ("the last number stands, 0 too", [{"x": 5}, {"x": 0}], {"x": 0}),
            ("hostile indexes", [{"things": [{"index": 10**30, "a": 1}, {"index": -1, "a": 2}, {"index": {}, "a": 3}]}],
                {"things": [{"index": 10**30, "a": 1}, {"index": -1, "a": 2}, {"index": {}, "a": 3}]}),
        ]:  # fmt: skip
            with self.subTest(name):
                message = merged(*(with_delta(**delta) for delta in deltas)).message
                self.assertEqual(message, {"role": "assistant", "content": None, **expected})

    def test_calls_that_are_no_function_keep_their_shape(self):
        piece = {"index": 0, "id": "c1", "type": "custom", "custom": {"name": "sql", "input": ""}}
        more = [calls({"index": 0, "custom": {"input": text}}) for text in ("SELECT ", "1")]
        self.assertEqual(
            merged(calls(piece), *more).tool_calls,
            [{"id": "c1", "type": "custom", "custom": {"name": "sql", "input": "SELECT 1"}}],
        )

    def test_merging_is_linear_also_with_hostile_indexes(self):
        def seconds(index_of):
            chunks = [
                edgee.parse_chunk(calls(call(None, None, "x", index=index_of(n))), {}, "delta") for n in range(20_000)
            ]
            start = time.process_time()
            response = SendResponse.from_chunks(chunks)
            self.assertEqual(sum(len(one["function"]["arguments"]) for one in response.tool_calls), 20_000)
            return time.process_time() - start

        good = seconds(lambda n: 0)
        self.assertLess(seconds(lambda n: n * (2**61 - 1)), 10 * good + 1)  # which all have one hash

    def test_more_choices_than_1024_are_refused(self):
        edgee.parse_chunk({"choices": [{}] * 1024}, {}, "delta")
        for parse, more in ((edgee.parse_chunk, ["delta"]), (edgee.parse_response, [])):
            with self.assertRaises(ProtocolError) as caught:
                parse({"choices": [{}] * 1025}, {}, *more)
            self.assertEqual(str(caught.exception), "the answer has more than 1024 choices")

    def test_reasoning_has_two_names(self):
        for delta, expected in [
            ({"reasoning_content": "a", "reasoning": "b"}, "a"), ({"reasoning_content": "", "reasoning": "b"}, "b"),
            ({"reasoning_content": {"x": 1}}, None), ({}, None),
        ]:  # fmt: skip
            parsed = edgee.parse_chunk(with_delta(**delta), {}, "delta")
            self.assertEqual((parsed.reasoning, SendResponse.from_chunks([parsed]).reasoning), (expected, expected))

    def test_the_finer_counts_of_usage_have_two_names(self):
        for prompt, completion in [
            ("prompt_tokens_details", "completion_tokens_details"),
            ("input_tokens_details", "output_tokens_details"),
        ]:
            usage = {"prompt_tokens": 9, prompt: {"cached_tokens": 4}, completion: {"reasoning_tokens": 3}}
            self.assertEqual(edgee.parse_chunk({"usage": usage}, {}, "delta").usage, edgee.Usage(9, 0, 0, 4, 3))
        odd = {"prompt_tokens": 10**400, "completion_tokens": "1", "total_tokens": True, "prompt_tokens_details": [1]}
        self.assertEqual(edgee.parse_chunk({"usage": odd}, {}, "delta").usage, edgee.Usage())

    def test_headers_are_json_and_found_in_any_case(self):
        with Gateway(sized(COMPLETION, X_Edgee_Provider="p", x_EDGEE_b="1")) as gateway, gateway.client() as client:
            (got,) = client.stream("m", "Hi")
        for twin in (got, pickle.loads(pickle.dumps(got)), copy.deepcopy(got), dataclasses.replace(got, id="x"),
            SendResponse.from_chunks([got])):  # fmt: skip
            self.assertEqual((twin.headers["X-Edgee-PROVIDER"], twin.headers.get("X-edgee-B")), ("p", "1"))
            self.assertTrue("X-EDGEE-provider" in twin.headers and "x" not in twin.headers)
            self.assertEqual(json.loads(json.dumps(dataclasses.asdict(twin)))["headers"]["x-edgee-provider"], "p")

    def test_a_json_answer_to_stream_is_read_as_a_message(self):
        message = {"role": "assistant", "content": "Paris.", "reasoning": "r"}
        for finish in ("stop", "", None):
            choice = {
                "index": 0,
                "finish_reason": finish,
                "message": message,
                "delta": {"role": "assistant", "content": ""},
            }
            with self.subTest(finish), Gateway(sized({"choices": [choice]})) as gateway, gateway.client() as client:
                (got,) = client.stream("m", "Hi")
                self.assertEqual((got.text, got.reasoning, got.raw), ("Paris.", "r", {"choices": [choice]}))
                self.assertEqual(SendResponse.from_chunks([got]).message, message)
                self.assertEqual(client.send("m", "Hi").message, message)

    def test_choices_are_kept_apart(self):
        response = merged(chunk("a", index=1), chunk("b", index=0), chunk("c", "stop", index=1), chunk("d", "length"))
        self.assertEqual(
            [(c.index, c.message["content"], c.finish_reason) for c in response.choices],
            [(0, "bd", "length"), (1, "ac", "stop")],
        )

    def test_logprobs_are_joined(self):
        def with_logprobs(*tokens):
            return {"choices": [{"index": 0, "delta": {}, "logprobs": {"content": list(tokens), "refusal": None}}]}

        self.assertEqual(merged(with_logprobs(1), with_logprobs(2)).raw["choices"][0]["logprobs"], {"content": [1, 2]})

    def test_chunks_made_by_hand_need_no_raw(self):
        chunks = [
            StreamChunk([StreamChoice(0, StreamDelta("assistant", "a"))], id="x"),
            StreamChunk([StreamChoice(0, StreamDelta(content="b"), "stop")]),
        ]
        response = SendResponse.from_chunks(iter(chunks))
        self.assertEqual((response.text, response.finish_reason, response.id), ("ab", "stop", "x"))

    def test_no_chunks_make_an_empty_response(self):
        response = SendResponse.from_chunks([])
        self.assertEqual(
            (response.choices, response.text, response.message, response.tool_calls), ([], None, None, None)
        )

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
                parsed = edgee.parse_chunk(raw, {}, "delta")
                self.assertIs(parsed.raw, raw)
                for answer in (parsed, merged(raw, raw)):
                    self.assertIsNone(answer.text)
                    for name in ("finish_reason", "tool_calls", "usage", "compression"):
                        getattr(answer, name)
                    repr(answer)

    def test_the_position_stands_in_for_an_index(self):
        raw = {"choices": [{"delta": {"content": "a"}}, {"index": None, "delta": {"content": "b"}}]}
        self.assertEqual([choice.index for choice in edgee.parse_chunk(raw, {}, "delta").choices], [0, 1])

    def test_text_is_that_of_the_text_parts(self):
        parts = [{"type": "thinking", "thinking": "x"}, {"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
        parsed = edgee.parse_chunk(with_delta(content=parts), {}, "delta")
        self.assertEqual((parsed.text, parsed.choices[0].delta.content), ("ab", parts))
        self.assertIsNone(edgee.parse_chunk(with_delta(content=parts[:1]), {}, "delta").text)


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
    ("mappings that are no dicts", collections.ChainMap({"messages": [collections.ChainMap(USER)]}), {"messages": [USER]}),
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
    ({"api_key": KEY, "apikey": 1, "url": 2}, ValueError, "unknown setting: apikey, url is none of api_key, base_url, timeout, max_retries, headers"),
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
    ({"api_key": KEY, "max_retries": 1.5}, TypeError, "max_retries must be a whole number, not float"),
    ({"api_key": KEY, "max_retries": True}, TypeError, "max_retries must be a whole number, not bool"),
    ({"api_key": KEY, "headers": [("a", "b")]}, TypeError, "headers must be a dict, not list"),
    ({"api_key": KEY, "headers": {"a": 1}}, TypeError, "headers must be str to str: see header 1"),
    ({"api_key": KEY, "headers": {"a b": "c"}}, ValueError, "headers has a name that cannot be sent: see header 1"),
    ({"api_key": KEY, "headers": {"": "c"}}, ValueError, "headers has a name that cannot be sent: see header 1"),
    ({"api_key": KEY, "headers": {"Content-Length": "1"}}, ValueError,
        "headers has a name that cannot be sent: see header 1"),
    *(({"api_key": KEY, "headers": {"a": value}}, ValueError, "headers has a value that cannot be sent, for 'a'")
        for value in ("b\r\nc: d", "b\0", "é")),
]  # fmt: skip


@mock.patch.dict(os.environ)  # put back after each test
class RequestTest(unittest.TestCase):
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
                for generator in (
                    client.stream("m", input),
                    client.send("m", input, True),
                    client.send("m", input, stream=True),
                ):
                    with self.subTest(name):
                        self.assertEqual(text_of(generator), "Hello")
                        self.assertEqual(
                            json.loads(gateway.requests[-1].body), {"model": "m", "stream": True, **expected}
                        )

    def test_switches_are_headers(self):
        with Gateway(sized(COMPLETION)) as gateway, gateway.client(
            headers={"x-edgee-compression-brevity": "?"}
        ) as client:
            for input in ({"messages": [USER], **dict.fromkeys(SWITCHES, True)}, InputObject([USER], **dict.fromkeys(SWITCHES, False)),
                InputObject([USER], extra_body=dict.fromkeys(SWITCHES, False))):  # fmt: skip
                client.send("m", input)
                request = gateway.requests[-1]
                value = "true" if isinstance(input, dict) else "false"
                self.assertEqual(
                    {name: request.headers[name] for name in SWITCHES.values()}, dict.fromkeys(SWITCHES.values(), value)
                )
                self.assertEqual(json.loads(request.body), {"model": "m", "messages": [USER]})

    def test_the_head_of_a_request(self):
        common = {
            "host": None, "accept-encoding": "identity", "authorization": f"Bearer {KEY}",
            "user-agent": f"edgee-py/{edgee.__version__}", "x-a": "b",
        }  # fmt: skip
        posted = {"content-type": "application/json", "content-length": None}
        with Gateway(sized(COMPLETION), HELLO, sized({"data": []})) as gateway, gateway.client(
            headers={"X-A": "b"}
        ) as client:
            client.send("m", "Hi")
            list(client.stream("m", "Hi"))
            client.models()
        for request, expected in zip(gateway.requests, [
            ("POST", "/v1/chat/completions", {**common, **posted}),
            ("POST", "/v1/chat/completions", {**common, **posted, "accept": "text/event-stream"}),
            ("GET", "/v1/models", common),
        ]):  # fmt: skip
            values = {
                name: None if name in ("host", "content-length") else value for name, value in request.headers.items()
            }
            self.assertEqual((request.method, request.path, values), expected)
            self.assertEqual(request.headers["host"], f"127.0.0.1:{gateway.port}")

    def test_headers_of_the_configuration_win_over_our_own(self):
        with Gateway(HELLO) as gateway, gateway.client(
            headers={"user-agent": "mine", "AUTHORIZATION": "Other"}
        ) as client:
            list(client.stream("m", "Hi"))
        self.assertEqual(
            (gateway.requests[0].headers["user-agent"], gateway.requests[0].headers["authorization"]), ("mine", "Other")
        )

    def test_a_base_url_may_end_in_a_slash_or_v1_and_have_a_path(self):
        with Gateway(HELLO) as gateway:
            for end, path in [
                ("", "/v1"),
                ("/", "/v1"),
                ("/v1", "/v1"),
                ("/v1/", "/v1"),
                ("/a/b", "/a/b/v1"),
                ("/a/v1", "/a/v1"),
            ]:
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
            for given in [config] + (
                [EdgeeConfig(**config)] if isinstance(config, dict) and "url" not in config else []
            ):
                with self.subTest(text, config=repr(config)), self.assertRaises(kind) as caught:
                    Edgee(given)
                self.assertEqual(str(caught.exception), text)
                self.assertNotIn(KEY, repr(caught.exception))

    def test_settings_come_from_the_argument_else_the_environment_else_the_default(self):
        for config in (None, "", {}, EdgeeConfig(), {"api_key": None}):
            with self.assertRaises(ValueError) as caught:
                Edgee(config)
            self.assertEqual(str(caught.exception), "EDGEE_API_KEY is not set")
        settings = Edgee(KEY)._transport.settings
        self.assertEqual((settings.base_url, settings.timeout, settings.max_retries), ("https://edgee.io", 600, 2))
        with Gateway(HELLO) as gateway:
            os.environ.update(EDGEE_API_KEY="from-environment", EDGEE_BASE_URL=gateway.url)
            for config, key in [
                (None, "from-environment"),
                (KEY, KEY),
                ({"api_key": KEY}, KEY),
                (EdgeeConfig(KEY), KEY),
            ]:
                with Edgee(config) as client:
                    list(client.stream("m", "Hi"))
                    self.assertEqual(gateway.requests[-1].headers["authorization"], f"Bearer {key}")
            os.environ["EDGEE_BASE_URL"] = "http://127.0.0.1:1"
            with Edgee({"base_url": gateway.url}) as client:
                list(client.stream("m", "Hi"))
            self.assertEqual(len(gateway.requests), 5)

    def test_the_key_is_in_no_repr(self):
        with Edgee(EdgeeConfig(KEY, headers={"x": KEY})) as client:
            shown = [EdgeeConfig(KEY, headers={"x": KEY}), client, client._transport.settings, vars(client)]
            self.assertNotIn(KEY, repr(shown))

    def test_nothing_is_sent_before_the_first_chunk_is_asked_for(self):
        with Gateway(HELLO) as gateway, gateway.client() as client:
            generator = client.stream("m", "Hi")
            self.assertIsInstance(generator, type(n for n in ()))
            generator.close()
            self.assertEqual(gateway.connections, 0)

    def test_models(self):
        data = [{"id": "a", "owned_by": "b", "created": 1}, {"id": "c", "object": "model"}, None]
        with Gateway(
            sized({"object": "list", "data": data}), sized({"data": None})
        ) as gateway, gateway.client() as client:
            self.assertEqual(client.models(), [edgee.Model("a", "b", 1), edgee.Model("c", None, None)])
            self.assertEqual(client.models(), [])

    def test_send_returns_the_response(self):
        with Gateway(sized(COMPLETION, X_Edgee_Fallback_Used="yes")) as gateway, gateway.client() as client:
            response = client.send("m", "Hi")
        self.assertEqual(
            (response.text, response.finish_reason, response.message),
            ("Hello", "stop", COMPLETION["choices"][0]["message"]),
        )
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
            with self.subTest(name), Gateway(
                refusal if answer is None else story
            ) as gateway, gateway.client() as client:
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
                self.assertEqual(
                    response.tool_calls[0]["function"], {"name": "weather", "arguments": '{"city":"Paris"}'}
                )
                self.assertEqual((response.finish_reason, response.usage.total_tokens), ("tool_calls", 17))

    def test_how_an_answer_may_end(self):
        finished, unfinished = chunk("a", "stop"), chunk("a")
        interrupted = "the stream ended before the answer was complete"
        for name, events, error in [
            ("[DONE] alone", [unfinished, "[DONE]"], None),
            ("[DONE] with white space", [unfinished, "[DONE] \t"], None),
            ("[DONE] and nothing else", ["[DONE]"], "the stream ended before the answer was complete"),
            (
                "[DONE] after a chunk without choices",
                [{"choices": []}, "[DONE]"],
                "the stream ended before the answer was complete",
            ),
            *(
                (
                    f"the gateway gave up: {reason}",
                    [chunk("a", reason), "[DONE]"],
                    f"the gateway gave up: its finish reason is {reason}",
                )
                for reason in ("error", "abort", "network_error", "insufficient_system_resource")
            ),
            ("it gave up, without [DONE]", [chunk("a", "error")], "the gateway gave up: its finish reason is error"),
            ("every choice finished", [finished], None),
            ("finished, then null again", [finished, chunk()], None),
            ("two choices, both finished", [finished, chunk("b", "length", index=1)], None),
            ("two choices, one finished", [chunk("b", index=1), finished], interrupted),
            ("a finish reason that is empty", [chunk("a", "")], interrupted),
            ("no choice at all", [{"choices": [], "usage": {}}], interrupted),
            ("nothing", [], interrupted),
        ]:
            with self.subTest(name), Gateway(
                [OPEN_HEAD, *map(event, events), CLOSE]
            ) as gateway, gateway.client() as client:
                chunks, ended = drain(client.stream("m", "Hi"))
                self.assertEqual([one.raw for one in chunks], [one for one in events if type(one) is dict])
                self.assertEqual(ended and str(ended), error)
                self.assertIn(type(ended), (type(None), StreamInterruptedError))

    def test_what_comes_after_done_is_no_answer(self):
        with Gateway(stream_of(chunk("a"), "[DONE]", chunk("b"))) as gateway, gateway.client() as client:
            self.assertEqual(text_of(client.stream("m", "Hi")), "a")

    def test_done_ends_the_generator_at_once(self):
        waiting = threading.Event()
        with Gateway(
            [STREAM_HEAD + in_chunks(event(chunk("a")), event("[DONE]")), lambda: waiting.wait(WAIT)]
        ) as gateway:
            with gateway.client() as client:
                self.assertEqual(text_of(client.stream("m", "Hi")), "a")  # the end of the body is never sent
                waiting.set()

    def test_chunks_come_one_by_one(self):
        asked = threading.Semaphore(0)
        pieces = [
            piece for word in "abc" for piece in (in_chunks(event(chunk(word))), lambda: asked.acquire(timeout=WAIT))
        ]
        with Gateway(
            [STREAM_HEAD, *pieces, in_chunks(event("[DONE]")) + b"0\r\n\r\n"]
        ) as gateway, gateway.client() as client:
            generator = client.stream("m", "Hi")
            for word in "abc":
                self.assertEqual(next(generator).text, word)
                asked.release()
            self.assertEqual(list(generator), [])

    def test_fields_of_a_chunk(self):
        raw = {**chunk("a", role="assistant", tool_calls=[{"index": 0}], reasoning_content="r"), "compression": {
            "saved_tokens": 1, "cost_savings": 27000, "reduction": 48.5, "time_ms": 3}, "usage": {"prompt_tokens": 5}}  # fmt: skip
        answer = (
            STREAM_HEAD.replace(b"\r\n\r\n", b"\r\nX-Edgee-Fallback-Used: 1\r\n\r\n")
            + in_chunks(event(raw), event("[DONE]"))
            + b"0\r\n\r\n"
        )
        with Gateway(answer) as gateway, gateway.client() as client:
            (got,) = client.stream("m", "Hi")
        self.assertEqual(
            (got.text, got.role, got.finish_reason, got.tool_calls), ("a", "assistant", None, [{"index": 0}])
        )
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
            ("an object that is an error", event({"object": "error", "message": "engine died", "code": 500}), 500, 500, "engine died"),
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
            with self.subTest(name), Gateway(
                [STREAM_HEAD, in_chunks(event(chunk("a")), sent, event("[DONE]")), b"0\r\n\r\n"]
            ) as gateway:
                with gateway.client() as client:
                    chunks, error = drain(client.stream("m", "Hi"))
                self.assertEqual(text_of(chunks), "a")
                self.assertIs(type(error), APIError)
                self.assertEqual((error.status, error.code, error.message), (status, code, message))
                self.assertEqual(
                    str(error), f"API error: {message}" if status is None else f"API error {status}: {message}"
                )
                self.assertEqual(len(gateway.requests), 1)

    def test_events_that_are_no_chunks(self):
        for text in (
            "{",
            "nonsense",
            "5",
            "[]",
            "null",
            '"a"',
            "{} {}",
            '{"a": 1}x',
            "[DONE]x",
            "[" * 100_000,
            "9" * 5000,
        ):
            with self.subTest(text[:20]), Gateway(stream_of(chunk("a"), text)) as gateway, gateway.client() as client:
                chunks, error = drain(client.stream("m", "Hi"))
                self.assertEqual(text_of(chunks), "a")
                self.assertIs(type(error), ProtocolError)
                shown = text if len(text) <= 500 else text[:500] + "…"
                self.assertEqual(str(error), f"the gateway sent no JSON object: {shown}")

    def test_white_space_around_json(self):
        with Gateway(stream_of(' \t{"choices":[{}]}  ', "  {}")) as gateway, gateway.client() as client:
            self.assertEqual([one.raw for one in client.stream("m", "Hi")], [{"choices": [{}]}, {}])


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


# ------------------------------------------------------------------------------------------------
# Faults: errors of the gateway, retries, time, answers that are none.
# ------------------------------------------------------------------------------------------------


class ErrorTest(unittest.TestCase):
    def test_error_bodies_give_one_readable_line(self):
        page = "<html>\r\n<head><title>502 Bad Gateway</title></head>\n\n<body>\tnginx</body></html>"
        for name, body, code, message in [
            (
                "OpenAI",
                {"error": {"message": "No\nsuch\tmodel", "type": "t", "code": "model_not_found"}},
                "model_not_found",
                "No such model",
            ),
            ("error is a string", {"error": "No"}, None, "No"),
            ("error is a list", {"error": [{"message": "No", "code": 7}]}, 7, "No"),
            ("error is a list of strings", {"error": ["No", "No!"]}, None, "No"),
            ("message at top level", {"message": "No", "code": "c"}, "c", "No"),
            ("error beside message", {"error": True, "message": "No"}, None, "No"),
            ("detail", {"detail": "No"}, None, "No"),
            (
                "FastAPI",
                {"detail": [{"loc": ["body"], "msg": "field required", "type": "missing"}]},
                None,
                "field required",
            ),
            ("nested", {"error": {"error": {"message": "No", "code": "c"}}}, "c", "No"),
            ("too deep", b'{"error":' * 90000, None, ('{"error":' * 90000)[:500] + "…"),
            ("null", {"error": None, "message": None}, None, '{"error": null, "message": null}'),
            ("a list", [{"error": {"message": "No"}}], None, "No"),
            (
                "HTML",
                page.encode(),
                None,
                "<html> <head><title>502 Bad Gateway</title></head> <body> nginx</body></html>; is base_url right? URL was asked",
            ),
            ("empty", b"", None, "Bad Gateway"),
            ("white space", b" \r\n ", None, "Bad Gateway"),
            ("not UTF-8", b"caf\xe9", None, "caf\ufffd"),
            ("terminal escapes", b"\x1b[31mred\x07", None, "[31mred"),
            ("long", b"x" * 501, None, "x" * 500 + "…"),
        ]:
            with self.subTest(name), Gateway(sized(body, "502 Bad Gateway", X_Request_ID="r1")) as gateway:
                with gateway.client(max_retries=0) as client, self.assertRaises(APIError) as caught:
                    client.send("m", "Hi")
                error = caught.exception
                message = message.replace("URL", f"{gateway.url}/v1/chat/completions")
                self.assertEqual(
                    (error.status, error.code, error.message, error.request_id), (502, code, message, "r1")
                )
                self.assertEqual(str(error), f"API error 502: {message}")
                self.assertEqual(error.headers["x-REQUEST-id"], "r1")
                text = (body if isinstance(body, bytes) else json.dumps(body).encode()).decode("utf-8", "replace")
                self.assertEqual(error.body, text[: 64 * 1024])

    def test_stream_and_models_raise_the_same_error(self):
        with Gateway(
            sized({"error": "No"}, "401 Unauthorized", Request_ID="r2")
        ) as gateway, gateway.client() as client:
            for ask in (lambda: list(client.stream("m", "Hi")), client.models):
                with self.assertRaises(APIError) as caught:
                    ask()
                self.assertEqual((str(caught.exception), caught.exception.request_id), ("API error 401: No", "r2"))

    def test_an_endless_or_cut_or_silent_error_body_is_an_error_all_the_same(self):
        endless = [head("500 Oops", Connection="close"), *([b"x" * 65536] * 64)]
        for name, answer, body in [
            ("endless", [*endless, lambda: None], "x" * 65536),
            ("cut", [head("500 Oops", Content_Length=100) + b"abc", CLOSE], "abc"),
            ("reset", [head("500 Oops", Content_Length=100), RESET], ""),
            ("gzip", [sized(b"\x1f\x8b", "500 Oops", Content_Encoding="gzip")], ""),
        ]:
            with self.subTest(name), Gateway(answer) as gateway, gateway.client(max_retries=0) as client:
                with self.assertRaises(APIError) as caught:
                    client.send("m", "Hi")
                self.assertEqual((caught.exception.status, caught.exception.body), (500, body))
        never = threading.Event()
        with Gateway([head("500 Oops", Content_Length=100) + b"abc", lambda: never.wait(WAIT)]) as gateway:
            with gateway.client(max_retries=0, timeout=0.5) as client, self.assertRaises(APIError) as caught:
                client.send("m", "Hi")
            never.set()
        self.assertEqual(str(caught.exception), "API error 500: abc")

    def test_redirects_are_refused_and_the_key_goes_nowhere_else(self):
        with Gateway(HELLO) as other:
            for status in ("301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"):
                for location in (other.url, f"http://localhost:{other.port}/v1/chat/completions"):
                    with Gateway(sized(b"", status, Location=location)) as gateway, gateway.client() as client:
                        for ask in (
                            lambda: client.send("m", "Hi"),
                            lambda: list(client.stream("m", "Hi")),
                            client.models,
                        ):
                            with self.subTest(status), self.assertRaises(APIError) as caught:
                                ask()
                            self.assertEqual(str(caught.exception), f"API error {status[:3]}: redirect to {location} not followed,"
                                " for the key would go with it; see base_url")  # fmt: skip
                        self.assertEqual(len(gateway.requests), 3)
            self.assertEqual((other.connections, other.requests), (0, []))

    def test_text_that_repeats_the_key_is_redacted(self):
        echo = f"bad key {KEY}!"
        long = "x" * 480 + KEY  # would be cut in the middle of it
        escaped = "".join(f"\\u{ord(c):04X}" if n % 2 else c for n, c in enumerate(KEY))
        for name, answer in [
            ("JSON escapes", sized(f'{{"error": {{"message": "bad {escaped}"}}}}'.encode(), "401 Unauthorized")),
            ("JSON escapes in what is no JSON", stream_of(f"bad {escaped}")),
            ("a body that is cut in it", sized(f"bad {KEY[:-5]}".encode(), "401 Unauthorized")),
            ("a body that is cut in an escape", sized(f"bad {escaped[:-3]}".encode(), "401 Unauthorized")),
            ("an error", sized({"error": {"message": echo, "code": KEY}}, "401 Unauthorized", X_Request_Id=KEY)),
            ("a long error", sized(long.encode(), "401 Unauthorized")),
            ("a reason", head(f"401 {KEY}", Content_Length=0)),
            ("a redirect", sized(b"", "307 Temporary", Location=f"http://127.0.0.1:1/?key={KEY}")),
            ("a page", sized(echo.encode(), content_type="text/html")),
            ("a content type", sized(b"", content_type=f"text/{KEY}")),
            ("an encoding", sized(b"", Content_Encoding=KEY)),
            ("an error event", stream_of({"error": {"message": echo}})),
            ("an event that is no JSON", stream_of(echo)),
            ("a long event that is no JSON", stream_of(long)),
            ("JSON that is none", sized(("{" + echo + "}").encode())),
            ("no HTTP", [f"{KEY} 200 OK\r\n\r\n".encode(), CLOSE]),
        ]:
            for method in ("send", "stream"):
                with self.subTest(name, method=method), Gateway(answer) as gateway, gateway.client(
                    max_retries=0
                ) as client:
                    with self.assertRaises(EdgeeError) as caught, self.assertLogs("edgee", "DEBUG") as logs:
                        answer_or_generator = getattr(client, method)("m", "Hi")
                        list(answer_or_generator) if method == "stream" else None
                    error = caught.exception
                    shown = [
                        str(error),
                        repr(error),
                        logs.output,
                        vars(error),
                    ]
                    self.assertNotIn(KEY[:8], repr(shown))
                    self.assertNotIn(f"{ord(KEY[3]):04X}{KEY[4]}", repr(shown))
                    self.assertEqual(len(gateway.requests), 1)

    def test_the_debug_output_of_http_client_does_not_show_the_key(self):
        with mock.patch.object(http.client.HTTPConnection, "debuglevel", 1), Gateway(HELLO) as gateway:
            with gateway.client() as client, contextlib.redirect_stdout(io.StringIO()) as output:
                list(client.stream("m", "Hi"))
        self.assertEqual(output.getvalue(), "")

    def test_errors_survive_pickle_and_copy(self):
        with Gateway(
            sized({"error": {"message": "No", "code": "c"}}, "429 Slow", Retry_After="90", X_Request_Id="r")
        ) as gateway:
            with gateway.client() as client, self.assertRaises(APIError) as caught:
                client.send("m", "Hi")
        errors = [caught.exception] + [
            kind("text")
            for kind in (EdgeeError, NetworkError, RequestTimeoutError, StreamInterruptedError, ProtocolError)
        ]
        for error in errors:
            for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
                self.assertIs(type(twin), type(error))
                self.assertEqual((str(twin), twin.args), (str(error), error.args))
        twin = pickle.loads(pickle.dumps(errors[0]))
        self.assertEqual((twin.status, twin.code, twin.body, twin.request_id, twin.retry_after, twin.headers["retry-after"]),
            (429, "c", errors[0].body, "r", 90, "90"))  # fmt: skip

    def test_the_tree_of_errors(self):
        for error, bases in [
            (EdgeeError, [RuntimeError]), (APIError, [EdgeeError]), (ProtocolError, [EdgeeError]), (NetworkError, [EdgeeError, OSError]),
            (RequestTimeoutError, [NetworkError, TimeoutError]), (StreamInterruptedError, [NetworkError]),
        ]:  # fmt: skip
            self.assertEqual([base for base in bases if not issubclass(error, base)], [])

    def test_the_log_says_what_was_sent_what_came_and_why_a_retry_waits(self):
        with Gateway(
            sized(b"", "503 Busy", X_Request_Id="r1"), HELLO
        ) as gateway, gateway.client() as client, waits() as waited:
            with self.assertLogs("edgee", "DEBUG") as logs:
                list(client.stream("m", "Hi"))
        url = f"{gateway.url}/v1/chat/completions"
        self.assertEqual([record.getMessage() for record in logs.records], [
            f"POST {url}, attempt 1", "503 Busy, request id r1", f"trying again in {waited.seconds[0]:.2f} s: API error 503: Busy",
            f"POST {url}, attempt 2", "200 OK, request id None",
        ])  # fmt: skip
        self.assertEqual({record.levelno for record in logs.records}, {logging.DEBUG})


RETRY_CASES = [
    # name, answer, how often it is asked with 2 retries, the waits if they are given by the gateway
    *((f"{status}", sized(b"", f"{status} X"), 3, None) for status in (408, 409, 429, 500, 502, 503, 504)),
    *((f"{status}", sized(b"", f"{status} X"), 1, []) for status in (400, 401, 402, 403, 404, 413, 422, 501, 505, 529)),
    ("retry-after in seconds", sized(b"", "503 X", Retry_After="7"), 3, [7, 7]),
    ("retry-after in ms", sized(b"", "503 X", Retry_After_Ms="1500", Retry_After="9"), 3, [1.5, 1.5]),
    ("retry-after of 0", sized(b"", "429 X", Retry_After="0"), 3, [0, 0]),
    ("retry-after of 60", sized(b"", "429 X", Retry_After="60"), 3, [60, 60]),
    ("retry-after of over 60", sized(b"", "429 X", Retry_After="61"), 1, []),
    ("retry-after in the past", sized(b"", "429 X", Retry_After="Wed, 21 Oct 2015 07:28:00 GMT"), 3, [0, 0]),
    ("retry-after far in the future", sized(b"", "429 X", Retry_After="Wed, 21 Oct 2115 07:28:00 GMT"), 1, []),
    *((f"retry-after {value!r}", sized(b"", "503 X", Retry_After=value), 3, None) for value in
        ("soon", "-1", "nan", "inf", "1e5", "", "Wed, 99 Oct 99999 99:99:99 GMT", "²")),
    ("no credit", sized({"error": {"code": "insufficient_quota"}}, "429 X"), 1, []),
    ("a usage limit", sized({"error": {"code": "usage_limit_exceeded"}}, "429 X"), 1, []),
    ("a usage limit with a retry-after", sized({"error": {"code": "usage_limit_exceeded"}}, "429 X", Retry_After="3"), 3, [3, 3]),
    ("another code of 429", sized({"error": {"code": "rate_limit_exceeded"}}, "429 X"), 3, None),
    ("closed without a byte", [CLOSE], 3, None),
    ("reset without a byte", [RESET], 3, None),
    ("closed after a byte", [b"H", CLOSE], 1, []),
    ("reset after a byte", [b"H", lambda: time.sleep(0.02), RESET], 1, []),
    ("closed in the head", [b"HTTP/1.1 200 OK\r\nContent-", CLOSE], 1, []),
    ("closed after the head", [STREAM_HEAD, CLOSE], 1, []),
    ("a first event with a status", stream_of({"error": {"code": 503, "message": "Busy"}}), 3, None),
    ("a first event with digits", [OPEN_HEAD, b": wait\n\n", event({"error": {"code": "429", "message": "Busy"}}), CLOSE], 3, None),
    *((f"a first event with the code {code}", stream_of({"error": {"code": code, "message": "Busy"}}), 3, None)
        for code in ("provider_error", "internal_error")),
    ("a first event with another status", stream_of({"error": {"code": 400, "message": "Busy"}}), 1, []),
    ("a first event without a status", stream_of({"error": {"message": "Busy"}}), 1, []),
    ("a second event with a status", stream_of(chunk("a"), {"error": {"code": 503, "message": "Busy"}}), 1, []),
    ("JSON with a status", sized({"error": {"code": 503, "message": "Busy"}}), 3, None),
    ("no HTTP", [b"nonsense\r\n\r\n", CLOSE], 1, []),
    ("no event stream", sized(b"", content_type="text/html"), 1, []),
]  # fmt: skip


class RetryTest(unittest.TestCase):
    def test_what_is_tried_again_and_after_which_wait(self):
        for name, answer, asked, given in RETRY_CASES:
            with self.subTest(name), Gateway(answer) as gateway, gateway.client() as client, waits() as waited:
                error = drain(client.stream("m", "Hi"))[1]
                self.assertIsInstance(error, EdgeeError)
                self.assertEqual(len(gateway.requests), asked, error)
                if given is None:
                    given = [seconds for seconds in waited.seconds if 0.375 <= seconds <= 1]
                self.assertEqual(waited.seconds, given)
                self.assertEqual(len(waited.seconds), asked - 1)

    def test_the_wait_doubles_up_to_8_seconds_with_jitter(self):
        with Gateway(sized(b"", "503 Busy")) as gateway, gateway.client(max_retries=8) as client, waits() as waited:
            drain(client.stream("m", "Hi"))
        for seconds, longest in zip(waited.seconds, [0.5, 1, 2, 4, 8, 8, 8, 8]):
            self.assertTrue(0.75 * longest <= seconds <= longest, waited.seconds)
        self.assertGreater(len({round(seconds, 9) for seconds in waited.seconds[4:]}), 1)

    def test_the_request_that_is_tried_again_is_byte_for_byte_the_first(self):
        input = {"messages": [Message("user", "é")], "x": {"b": 1, "a": 2}, "output_brevity": True}
        with Gateway([CLOSE], sized(b"", "503 Busy"), HELLO) as gateway, gateway.client() as client, waits():
            self.assertEqual(text_of(client.stream("m", input)), "Hello")
        self.assertEqual(len({request.raw for request in gateway.requests}), 1)
        self.assertEqual(len(gateway.requests), 3)

    def test_send_and_models_try_again_too(self):
        for answer, ask in [
            (sized(COMPLETION), lambda client: client.send("m", "Hi").raw),
            (sized({"data": []}), lambda client: client.models()),
        ]:
            with Gateway([CLOSE], answer) as gateway, gateway.client() as client, waits() as waited:
                ask(client)
                self.assertEqual((len(gateway.requests), len(waited.seconds)), (2, 1))

    def test_max_retries_of_0_tries_once(self):
        with Gateway(sized(b"", "503 Busy")) as gateway, gateway.client(max_retries=0) as client, waits():
            self.assertIsInstance(drain(client.stream("m", "Hi"))[1], APIError)
            self.assertEqual(len(gateway.requests), 1)

    def test_a_connection_that_cannot_be_made_is_tried_again(self):
        with socket.create_server(("127.0.0.1", 0)) as server:
            url = f"http://127.0.0.1:{server.getsockname()[1]}"
        with Edgee({"api_key": KEY, "base_url": url}) as client, waits() as waited, self.assertRaises(
            NetworkError
        ) as caught:
            client.send("m", "Hi")
        self.assertEqual(len(waited.seconds), 2)
        self.assertRegex(str(caught.exception), rf"^could not connect to {url[7:]}: ")
        self.assertIsInstance(caught.exception.__cause__, ConnectionRefusedError)

    def test_a_host_that_has_no_address_is_a_network_error(self):
        for host in ("no-such-host.invalid", "a..b", "x" * 70):
            with self.subTest(host), Edgee({"api_key": KEY, "base_url": f"http://{host}", "max_retries": 0}) as client:
                with self.assertRaises(NetworkError) as caught:
                    client.send("m", "Hi")
                self.assertRegex(str(caught.exception), f"^could not connect to {host}: ")

    def test_close_ends_the_wait_for_a_retry(self):
        with Gateway(sized(b"", "503 Busy", Retry_After="50")) as gateway, gateway.client() as client:
            results = []
            thread = threading.Thread(target=lambda: results.append(drain(client.stream("m", "Hi"))[1]))
            with self.assertLogs("edgee", "DEBUG") as logs:
                thread.start()
                while not any("trying again" in line for line in logs.output):
                    time.sleep(0.005)
                client.close()
                thread.join(WAIT)
            closed = "the client was closed before the answer was complete"
            self.assertEqual((type(results[0]), str(results[0])), (StreamInterruptedError, closed))


def in_thread(function):
    """Start a function; return a function that waits for what it returns, or raises what it raised."""
    results = []

    def run():
        try:
            results.append(function())
        except BaseException as error:
            results.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()

    def result():
        thread.join(4 * WAIT)
        if not results:
            raise AssertionError(f"still not done after {4 * WAIT} seconds")
        if isinstance(results[0], BaseException):
            raise results[0]
        return results[0]

    return result


class TimeTest(unittest.TestCase):
    def test_nothing_keeps_a_stalled_answer_alive(self):
        """Each server goes on until the client has gone; without a limit of its own it never would."""

        stop = threading.Event()
        cases = [
            # what the server sends first, what it then sends again and again, what the client waits for
            (b"", b"", "answer"),
            (b"", b"H", "answer"),
            (b"HTTP/1.1 100 Continue\r\n\r\n" * 10, b"", "answer"),
            (STREAM_HEAD + b"5;", b"x", "event"),
            (STREAM_HEAD, in_chunks(b": ping\n\n"), "event"),
            (OPEN_HEAD + b"data: ", b"x", "event"),
            *((OPEN_HEAD + before, warm, "event") for before in (b"", event(chunk("a")))
                for warm in (b"", b": ping\n\n", b"data:\n\n", b"\n")),
        ]  # fmt: skip

        class Dripping(Gateway):
            def _answer(self, connection, request):
                start, warm, _ = cases[int(json.loads(request.body)["model"])]
                self.requests.append(request)
                connection.sendall(start)
                while not stop.wait(0.02):
                    connection.sendall(warm)

        with Dripping() as gateway, gateway.client(timeout=1) as client, waits() as waited:
            results = [in_thread(lambda n=n: drain(client.stream(str(n), "Hi"))) for n in range(len(cases))]
            try:
                outcomes = [result() for result in results]
            finally:
                stop.set()
            for (chunks, error), (start, warm, waited_for) in zip(outcomes, cases):
                with self.subTest(start=start, warm=warm):
                    self.assertIs(type(error), RequestTimeoutError)
                    self.assertEqual(str(error), f"no {waited_for} from {gateway.url[7:]} within 1 s")
                    self.assertIsInstance(error, TimeoutError)
                    self.assertEqual(text_of(chunks), "a" * (b'"a"' in start))
            # It may be under way, and paid for, and so is not sent again.
            self.assertEqual((len(gateway.requests), waited.seconds), (len(cases), []))

    def test_an_answer_that_send_waits_for_times_out_too(self):
        stop = threading.Event()
        for start, text in [(b"", "answer"), (sized(COMPLETION)[:-5], "whole answer")]:
            with Gateway([start, lambda: stop.wait(WAIT)]) as gateway, gateway.client(timeout=WAIT) as client:
                with self.assertRaises(RequestTimeoutError) as caught:
                    client.send("m", "Hi", timeout=0.5)  # of the call, not of the configuration
                self.assertEqual(str(caught.exception), f"no {text} from {gateway.url[7:]} within 0.5 s")
                stop.set()

    def test_the_wait_begins_anew_with_each_event_and_not_while_the_caller_thinks(self):
        """Virtual time: each event takes 9 of 10 seconds, and so does the caller with each chunk."""
        clock = [1000.0]
        with mock.patch.object(edgee.time, "monotonic", lambda: clock[0]):
            pieces = [in_chunks(event(chunk(word))) for word in "abc"]
            with Gateway([STREAM_HEAD, *pieces, in_chunks(event("[DONE]"))]) as gateway, gateway.client(
                timeout=10
            ) as client:
                generator = client.stream("m", "Hi")
                for word in "abc":
                    self.assertEqual(next(generator).text, word)
                    clock[0] += 9.0
                self.assertEqual(list(generator), [])

    def test_connecting_gives_up_after_a_share_of_10_seconds(self):
        tried = []

        def connect_socket(sock, address, call, seconds):
            tried.append((address[0], round(seconds, 1)))
            clock[0] += seconds
            raise socket.timeout("timed out")

        clock = [1000.0]

        addresses = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (f"192.0.2.{n}", 80)) for n in (1, 2)]
        with mock.patch.object(socket, "getaddrinfo", lambda *_, **__: addresses), mock.patch.object(
            edgee, "connect_socket", connect_socket
        ), mock.patch.object(edgee.time, "monotonic", lambda: clock[0]):
            for timeout, shares in [(600, [5.0, 5.0]), (1, [0.5, 0.5])]:
                tried.clear()
                with waits() as waited, Edgee(
                    {"api_key": KEY, "base_url": "http://black.hole", "timeout": timeout}
                ) as client:
                    with self.assertRaises(RequestTimeoutError) as caught:
                        client.send("m", "Hi")
                self.assertEqual(str(caught.exception), "could not connect to black.hole: timed out")
                self.assertEqual(
                    (tried, len(waited.seconds)), ([("192.0.2.1", shares[0]), ("192.0.2.2", shares[1])] * 3, 2)
                )

    def test_a_timeout_longer_than_sockets_can_wait_is_cut_to_what_they_can(self):
        with Gateway(HELLO) as gateway, gateway.client(timeout=1e300) as client:
            self.assertEqual(text_of(client.stream("m", "Hi", timeout=10**15)), "Hello")

    def test_a_kept_connection_that_falls_silent_times_out_and_is_not_asked_twice(self):
        stop = threading.Event()
        with Gateway([HELLO], [lambda: stop.wait(WAIT)]) as gateway, gateway.client() as client:
            list(client.stream("m", "Hi"))
            self.assertIs(type(drain(client.stream("m", "Hi", timeout=0.3))[1]), RequestTimeoutError)
            stop.set()
            self.assertEqual((gateway.connections, len(gateway.requests)), (1, 2))

    def test_sockets_have_keepalive(self):
        with Gateway(HELLO) as gateway, gateway.client() as client:
            generator = client.stream("m", "Hi")
            next(generator)
            (call,) = client._transport._calls
            sock = call.wire.sock
            self.assertTrue(sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE))
            self.assertTrue(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            if hasattr(socket, "TCP_KEEPIDLE"):
                self.assertEqual(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE), 60)
            generator.close()


class CloseTest(unittest.TestCase):
    def test_close_from_another_thread_ends_a_blocked_stream(self):
        server_tls, environment = tls_context()
        for name, tls, start, delivered in [
            ("waiting for the answer", None, b"", 0),
            ("in a chunked body", None, STREAM_HEAD + in_chunks(event(chunk("a", "stop"))), 1),
            ("in a body without a length", None, OPEN_HEAD + event(chunk("a", "stop")), 1),
            ("over TLS", server_tls, OPEN_HEAD + event(chunk("a", "stop")), 1),
        ]:
            waiting, stop = threading.Event(), threading.Event()
            answer = [start, waiting.set, lambda: stop.wait(WAIT)]
            with self.subTest(name), environment, Gateway(
                answer, HELLO, tls=tls
            ) as gateway, gateway.client() as client:
                generator = client.stream("m", "Hi")
                chunks = [next(generator)] if delivered else []
                result = in_thread(lambda: drain(generator))
                self.assertTrue(waiting.wait(WAIT))
                client.close()
                more, error = result()
                chunks += more
                self.assertEqual(
                    (type(error), str(error)),
                    (StreamInterruptedError, "the client was closed before the answer was complete"),
                )
                self.assertEqual(len(chunks), delivered)
                stop.set()
                self.assertEqual(text_of(client.stream("m", "Hi")), "Hello")  # on a new connection
                self.assertEqual(gateway.connections, 2)

    def test_close_while_a_connection_is_being_made(self):
        def close_and_connect(*arguments):
            client.close()
            return connect(*arguments)

        connect = edgee.open_socket
        with Gateway(HELLO) as gateway, gateway.client() as client:
            with mock.patch.object(edgee, "open_socket", close_and_connect), self.assertRaises(
                StreamInterruptedError
            ) as caught:
                client.send("m", "Hi")
            self.assertEqual(str(caught.exception), "the client was closed before the answer was complete")
            self.assertEqual(gateway.connections, 0)

    def test_a_generator_that_is_closed_or_dropped_frees_its_connection_at_once(self):
        def close(generators):
            generators[0].close()

        def leave_a_loop(generators):
            for _ in generators.pop():
                break

        def raise_inside(generators):
            with self.assertRaises(KeyError):
                generators[0].throw(KeyError)

        for end in (close, list.clear, leave_a_loop, raise_inside):
            stop = threading.Event()
            with Gateway(
                [STREAM_HEAD, in_chunks(event(chunk("a"))) * 2, lambda: stop.wait(WAIT)], HELLO
            ) as gateway, gateway.client() as client:
                generators = [client.stream("m", "Hi")]
                next(generators[0])
                end(generators)
                self.assertEqual([call for call in client._transport._calls if call.wire], [])
                stop.set()
                self.assertTrue(gateway.closed.acquire(timeout=WAIT))  # the server has seen it
                self.assertEqual(text_of(client.stream("m", "Hi")), "Hello")
                self.assertEqual(gateway.connections, 2)

    def test_a_client_that_is_dropped_unclosed_leaves_no_socket(self):
        with Gateway(HELLO) as gateway, self.assertWarnsNothing():
            client = gateway.client()
            list(client.stream("m", "Hi"))
            dropped = weakref.ref(client)
            del client
            self.assertIsNone(dropped())
            self.assertTrue(gateway.closed.acquire(timeout=WAIT))
            client = gateway.client()  # and in a cycle
            client.cycle = client
            list(client.stream("m", "Hi"))
            del client
            gc.collect()
            self.assertTrue(gateway.closed.acquire(timeout=WAIT))

    @contextlib.contextmanager
    def assertWarnsNothing(self):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield
            gc.collect()
        self.assertEqual([str(warning.message) for warning in caught], [])

    def test_a_stream_outlives_the_name_of_its_client(self):
        with Gateway(HELLO) as gateway:
            self.assertEqual(text_of(gateway.client().stream("m", "Hi")), "Hello")


BIG_HEADERS = {f"X-{n}": "x" * 10_000 for n in range(10)}

NO_ANSWERS = [
    # name, answer, what stream() raises, what send() raises
    ("[DONE] alone", sized(b"[DONE]"), *[(ProtocolError, "the gateway sent no JSON object: [DONE]")] * 2),
    ("a page", sized(b"<p>Log\nin</p>", content_type="text/html; charset=utf-8"),
        *[(ProtocolError, "the answer is text/html: <p>Log in</p>; is base_url right? http://HOST/v1/chat/completions was asked")] * 2),
    ("204", head("204 No Content"), (ProtocolError, "the answer is of no content type: "),
        (ProtocolError, "the gateway sent no JSON object: ")),
    ("an empty stream", [OPEN_HEAD, CLOSE], (StreamInterruptedError, "the stream ended before the answer was complete"),
        (StreamInterruptedError, "the answer of HOST was cut after 0 bytes")),
    ("a list", sized(b"[1]"), (ProtocolError, "the gateway sent no JSON object: [1]"), (ProtocolError, "the gateway sent no JSON object: [1]")),
    ("a number that is too long", sized(b'{"a": ' + b"9" * 5000 + b"}"), *[(ProtocolError, "the gateway sent no JSON object: " + ('{"a": ' + "9" * 5000)[:500] + "…")] * 2)
        if sys.version_info >= (3, 11) else ("an array", sized(b"[]"), *[(ProtocolError, "the gateway sent no JSON object: []")] * 2),
    ("bad JSON", sized(b'{"a" 1}'), (ProtocolError, 'the gateway sent no JSON object: {"a" 1}'), (ProtocolError, 'the gateway sent no JSON object: {"a" 1}')),
    ("gzip", sized(b"\x1f\x8b", content_type="text/event-stream", Content_Encoding="gzip"),
        (ProtocolError, "the answer is encoded as gzip, which was not asked for"), (ProtocolError, "the answer is encoded as gzip, which was not asked for")),
    ("garbage", [b"\x00\x01garbage\r\n\r\n", CLOSE], (ProtocolError, "what came is no HTTP answer: garbage"),
        (ProtocolError, "what came is no HTTP answer: garbage")),
    ("another protocol", [b"SSH-2.0-OpenSSH_9.2\r\n", CLOSE], (ProtocolError, "what came is no HTTP answer: SSH-2.0-OpenSSH_9.2"),
        (ProtocolError, "what came is no HTTP answer: SSH-2.0-OpenSSH_9.2")),
    ("a header of 100 KB", [head(X="x" * 100_000), CLOSE],
        (ProtocolError, "a line of the answer's head is longer than 64 KiB"),
        (ProtocolError, "a line of the answer's head is longer than 64 KiB")),
    ("101 headers", [head(**{f"X_{n}": 1 for n in range(101)}), CLOSE], (ProtocolError, "the answer has more than 100 headers"),
        (ProtocolError, "the answer has more than 100 headers")),
    ("a Content-Length too long", [sized(COMPLETION)[:-1], CLOSE], (StreamInterruptedError, "the connection to HOST broke: the body is shorter than was announced"),
        (StreamInterruptedError, "the connection to HOST broke: the body is shorter than was announced")),
    ("a Content-Length too short", [head(Content_Type="application/json", Content_Length=9) + json.dumps(COMPLETION).encode(), CLOSE],
        *[(ProtocolError, 'the gateway sent no JSON object: {"id": "c')] * 2),
    ("a chunk size that is none", [STREAM_HEAD + b"zz\r\nabc", CLOSE], (StreamInterruptedError, "the connection to HOST broke: the size of a chunk is missing or no number"),
        (StreamInterruptedError, "the connection to HOST broke: the size of a chunk is missing or no number")),
]  # fmt: skip


class NoAnswerTest(unittest.TestCase):
    def test_answers_that_are_none(self):
        for name, answer, *expected in NO_ANSWERS:
            for ask, (kind, text) in zip(
                (lambda client: list(client.stream("m", "Hi")), lambda client: client.send("m", "Hi")), expected
            ):
                with self.subTest(name), Gateway(answer) as gateway, gateway.client() as client, waits():
                    with self.assertRaises(EdgeeError) as caught:
                        ask(client)
                    self.assertEqual(
                        (type(caught.exception), str(caught.exception)), (kind, text.replace("HOST", gateway.url[7:]))
                    )
                    self.assertEqual(len(gateway.requests), 1)

    def test_json_cut_at_any_byte_is_a_network_error(self):
        body = json.dumps({**COMPLETION, "x": "}é\\", "y": [True, {}]}, ensure_ascii=False).encode()
        with Gateway(
            *([head(Content_Type="application/json") + body[:n], CLOSE] for n in range(1, len(body) + 1))
        ) as gateway:
            with gateway.client(max_retries=0) as client:
                for n in range(1, len(body)):
                    with self.assertRaises(NetworkError, msg=body[:n]):
                        client.send("m", "Hi")
                self.assertEqual(client.send("m", "Hi").text, "Hello")

    def test_what_may_come_before_or_around_an_answer(self):
        hints = (
            b"HTTP/1.1 100 Continue\r\n\r\n"
            + head("103 Early Hints", Link="</a>; rel=preload")
            + head("102 Processing")
        )
        big = STREAM_HEAD[:-2] + head(**BIG_HEADERS).split(b"\r\n", 1)[1]
        odd = STREAM_HEAD + b"".join(
            b"%04X ;a=b\r\n%s\r\n" % (len(one), one) for one in map(event, [chunk("Hello"), "[DONE]"])
        )
        old = OPEN_HEAD.replace(b"1.1", b"1.0") + event(chunk("Hello")) + event("[DONE]")
        for name, answer in [
            ("1xx", hints + HELLO), ("100 KB of headers", big + HELLO[len(STREAM_HEAD):]), ("chunk extensions and a trailer", odd + b"0\r\nX: y\r\n\r\n"),
            ("HTTP/1.0", [old, CLOSE]), ("201", HELLO.replace(b"200 OK", b"201 Created")), ("no reason", HELLO.replace(b" OK", b"")),
            *((coding, HELLO.replace(b"\r\n", f"\r\nContent-Encoding: {coding}\r\n".encode(), 1)) for coding in ("identity", "none", "UTF-8")),
            ("parameters of the type", HELLO.replace(b"text/event-stream", b"Text/Event-Stream;charset=UTF-8")),
        ]:  # fmt: skip
            with self.subTest(name), Gateway(answer) as gateway, gateway.client() as client:
                self.assertEqual(text_of(client.stream("m", "Hi")), "Hello")

    def test_an_answer_that_comes_before_the_request_was_read_is_not_lost(self):
        """A server may say 413 and hang up while a large body is still being sent."""
        with socket.create_server(("127.0.0.1", 0)) as server:

            def serve():
                connection, _ = server.accept()
                with connection:
                    connection.recv(1000)
                    connection.sendall(sized({"error": "too large"}, "413 Too Large", Connection="close"))
                    connection.shutdown(socket.SHUT_WR)
                    while connection.recv(1 << 20):
                        pass

            result = in_thread(serve)
            with Edgee({"api_key": KEY, "base_url": f"http://127.0.0.1:{server.getsockname()[1]}"}) as client:
                with self.assertRaises(APIError) as caught:
                    client.send("m", "x" * (8 << 20))
            self.assertEqual((str(caught.exception), result()), ("API error 413: too large", None))

    def test_memory_stays_within_a_small_multiple_of_the_limit(self):
        block = b"x" * 65536
        limit = 1 << 20
        for name, answer, kind in [
            ("an endless line", [OPEN_HEAD + b"data: ", *[block] * 640], ProtocolError),
            ("endless empty lines", [OPEN_HEAD, *[b"data:\n" * 10_000] * 640], ProtocolError),
            (
                "an endless JSON answer",
                [head(Content_Type="application/json") + b'{"a": "', *[block] * 640],
                ProtocolError,
            ),
            ("an endless page", [head(Content_Type="text/html"), *[block] * 640], ProtocolError),
            ("an endless error body", [head("500 Oops"), *[block] * 640], APIError),
            (
                "an event just under the limit",
                [OPEN_HEAD + b'data: {"choices":[{}],"a":"', *[block] * 15, b'"}\n\n', event("[DONE]"), CLOSE],
                type(None),
            ),
        ]:
            with self.subTest(name), mock.patch.object(edgee, "_EVENT_BYTES", limit), Gateway(
                [*answer, CLOSE]
            ) as gateway, gateway.client(max_retries=0) as client:
                tracemalloc.start()
                error = drain(client.stream("m", "Hi"))[1]
                peak = tracemalloc.get_traced_memory()[1]
                tracemalloc.stop()
                self.assertIs(type(error), kind)
                self.assertLess(peak, 8 * limit)


# ------------------------------------------------------------------------------------------------
# TLS, proxies, kept connections, threads; and everything at once.
# ------------------------------------------------------------------------------------------------


class Proxy(Gateway):
    """A forward proxy: `seen` is all that clients sent to it, `refusal` what it answers instead of serving."""

    def __init__(self, refusal=None):
        self.seen = []
        self.refusal = refusal
        super().__init__()

    def _serve(self, connection, number):
        stream = connection.makefile("rb")
        request = self._read(stream, number)
        self.seen.append(request)
        if self.refusal:
            connection.sendall(self.refusal)
        else:
            tunnel = request.method == "CONNECT"
            host, port = (request.path if tunnel else request.headers["host"]).rsplit(":", 1)
            upstream = socket.create_connection((host, int(port)))
            self._sockets.add(upstream)
            connection.sendall(head("200 Connection established")) if tunnel else upstream.sendall(request.raw)
            self._start(self._pump, upstream, connection)
            self._pump(stream.raw, upstream)
            upstream.close()
        stream.close()
        connection.close()

    @staticmethod
    def _pump(source, target):
        read = source.recv if isinstance(source, socket.socket) else source.read
        with contextlib.suppress(OSError, ValueError):
            while True:
                data = read(65536)
                if not data:
                    break
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)


@mock.patch.dict(os.environ)  # put back after each test
class TLSAndProxyTest(unittest.TestCase):
    def test_a_certificate_is_trusted_by_ssl_cert_file_alone(self):
        server_tls, environment = tls_context()
        with Gateway(HELLO, tls=server_tls) as gateway:
            with gateway.client() as client, waits() as waited, self.assertRaises(NetworkError) as caught:
                client.send("m", "Hi")
            self.assertRegex(str(caught.exception), rf"^the certificate of {gateway.url[8:]} is not trusted: self[- ]signed certificate;"
                " if you trust it, name its CA's file in SSL_CERT_FILE$")  # fmt: skip
            self.assertIsInstance(caught.exception.__cause__, ssl.SSLCertVerificationError)
            self.assertEqual(waited.seconds, [])
            with environment:
                with gateway.client() as client:
                    self.assertEqual(text_of(client.stream("m", "Hi")), "Hello")
        self.assertEqual(len(gateway.requests), 1)

    def test_certifi_stands_in_where_the_system_has_no_certificates(self):
        server_tls, _ = tls_context()
        certifi = types.SimpleNamespace(where=lambda: CERTIFICATE_FILE)
        nowhere = {"SSL_CERT_FILE": os.devnull, "SSL_CERT_DIR": os.devnull}
        with mock.patch.dict(os.environ, nowhere), Gateway(HELLO, tls=server_tls) as gateway:
            with mock.patch.dict(sys.modules, {"certifi": certifi}), gateway.client() as client:
                self.assertEqual(text_of(client.stream("m", "Hi")), "Hello")
            with mock.patch.dict(sys.modules, {"certifi": None}), gateway.client() as client:
                self.assertRegex(str(drain(client.stream("m", "Hi"))[1]), "is not trusted")

    def test_a_server_that_speaks_no_tls_is_tried_again_and_named(self):
        class Plain(Gateway):
            def _serve(self, connection, number):
                connection.sendall(sized(b"", "400 Bad"))
                super()._serve(connection, number)

        with Plain(HELLO) as gateway:
            with gateway.client(base_url=gateway.url.replace("http", "https")) as client, waits() as waited:
                with self.assertRaises(NetworkError) as caught:
                    client.send("m", "Hi")
        self.assertRegex(str(caught.exception), f"^could not connect to {gateway.url[7:]}: ")
        self.assertEqual((len(waited.seconds), gateway.connections, gateway.requests), (2, 3, []))

    def test_ten_requests_make_one_handshake_also_when_the_end_of_the_body_is_late(self):
        server_tls, environment = tls_context()
        late = [HELLO[:-5], lambda: time.sleep(0.005), HELLO[-5:]]
        for answer in ([HELLO], late, [sized(COMPLETION)]):
            # On a busy machine 5 ms may become more than the tenth of a second that is allowed.
            with environment, mock.patch.object(edgee, "_DRAIN_SECONDS", WAIT), Gateway(
                answer, tls=server_tls
            ) as gateway, gateway.client() as client:
                for _ in range(10):
                    list(client.stream("m", "Hi"))
                self.assertEqual((len(gateway.requests), gateway.connections), (10, 1))

    def test_twenty_requests_of_ten_threads_make_at_most_ten_handshakes(self):
        server_tls, environment = tls_context()
        with environment, Gateway(HELLO, tls=server_tls) as gateway, gateway.client() as client:
            results = [in_thread(lambda: [text_of(client.stream("m", "Hi")) for _ in range(2)]) for _ in range(10)]
            self.assertEqual([result() for result in results], [["Hello"] * 2] * 10)
            self.assertLessEqual(gateway.connections, 10)

    def test_https_goes_through_a_proxy_that_never_sees_the_key(self):
        server_tls, environment = tls_context()
        with environment, Gateway(HELLO, tls=server_tls) as gateway, Proxy() as proxy:
            os.environ["HTTPS_PROXY"] = proxy.url.replace("//", "//user:pass%21@")
            with gateway.client() as client:
                for _ in range(2):
                    self.assertEqual(text_of(client.stream("m", "Hi")), "Hello")
                client.close()
            (seen,) = proxy.seen
            self.assertEqual((seen.method, seen.path), ("CONNECT", gateway.url[8:]))
            self.assertEqual(seen.headers["proxy-authorization"], "Basic dXNlcjpwYXNzIQ==")
            self.assertNotIn("authorization", seen.headers)
            self.assertNotIn(KEY, repr(proxy.seen))
            self.assertEqual({request.headers.get("proxy-authorization") for request in gateway.requests}, {None})
            self.assertEqual(gateway.requests[0].headers["authorization"], f"Bearer {KEY}")

    def test_http_goes_through_a_proxy_unless_no_proxy_names_the_host(self):
        with Gateway(HELLO) as gateway, Proxy() as proxy:
            os.environ["http_proxy"] = proxy.url
            with gateway.client() as client:
                self.assertEqual(text_of(client.stream("m", "Hi")), "Hello")
            self.assertEqual(proxy.seen[0].path, f"{gateway.url}/v1/chat/completions")
            os.environ["NO_PROXY"] = "127.0.0.1"
            with gateway.client() as client:
                self.assertEqual(text_of(client.stream("m", "Hi")), "Hello")
            self.assertEqual((len(proxy.seen), len(gateway.requests)), (1, 2))

    def test_a_refusal_of_the_proxy_names_its_status(self):
        for status, asked in [("407 Proxy Authentication Required", 1), ("503 Unavailable", 3)]:
            with Proxy(refusal=head(status, Content_Length=0, Connection="close")) as proxy:
                os.environ["HTTPS_PROXY"] = os.environ["HTTP_PROXY"] = proxy.url
                with Edgee({"api_key": KEY, "base_url": "https://gateway.invalid"}) as client, waits() as waited:
                    with self.assertRaises(NetworkError) as caught:
                        client.send("m", "Hi")
                self.assertEqual(
                    str(caught.exception),
                    f"the proxy {proxy.url[7:]} that HTTPS_PROXY names refused: {status}",
                )
                self.assertEqual((len(proxy.seen), len(waited.seconds)), (asked, asked - 1))
                with Edgee({"api_key": KEY, "base_url": "http://gateway.invalid"}) as client, waits():
                    with self.assertRaises(APIError) as caught:
                        client.send("m", "Hi")
                self.assertEqual(str(caught.exception), f"API error {status[:3]}: {status[4:]}")
                self.assertEqual(len(proxy.seen), 2 * asked)

    def test_a_proxy_that_is_no_url_is_a_network_error(self):
        for url in ("http://a:b", "http://", "http:///x"):
            os.environ["HTTP_PROXY"] = url
            with self.subTest(url), Edgee(
                {"api_key": KEY, "base_url": "http://gateway.invalid", "max_retries": 0}
            ) as client:
                with self.assertRaises(NetworkError):
                    client.send("m", "Hi")


class KeptConnectionTest(unittest.TestCase):
    def test_a_connection_is_used_again_after_every_answer_that_ended(self):
        answers = [HELLO, sized(COMPLETION), sized({"error": "No"}, "404 Not Found"), sized(COMPLETION), HELLO,
            sized(b"", "503 Busy"), STREAM_HEAD + in_chunks(event(chunk("a")), event("[DONE]"), b": bye\n\n") + b"0\r\nX: y\r\n\r\n", HELLO]  # fmt: skip
        with Gateway(*answers) as gateway, gateway.client() as client, waits():
            for _ in answers[1:]:
                drain(client.stream("m", "Hi"))
            self.assertEqual((len(gateway.requests), gateway.connections), (len(answers), 1))

    def test_a_connection_that_died_while_idle_is_replaced_without_an_error(self):
        for name, end in [
            ("closed", [CLOSE]),
            ("reset", [RESET]),
            ("garbage", [b"HTTP/1.1 200 OK\r\n\r\n", lambda: gateway.closed.release()]),
            ("a timeout's answer", [head("408 Timeout"), CLOSE]),
        ]:
            with self.subTest(name), Gateway([HELLO, *end], HELLO) as gateway, gateway.client(
                max_retries=0
            ) as client, waits() as waited:
                list(client.stream("m", "Hi"))
                self.assertTrue(gateway.closed.acquire(timeout=WAIT))  # all of it was sent
                self.assertEqual(text_of(client.stream("m", "Hi")), "Hello")
                self.assertEqual((gateway.connections, waited.seconds), (2, []))

    def test_a_server_that_closes_when_the_next_request_comes_is_asked_again_at_once(self):
        with Gateway(HELLO, [CLOSE], HELLO) as gateway, gateway.client() as client, waits() as waited:
            for _ in range(2):
                self.assertEqual(text_of(client.stream("m", "Hi")), "Hello")
            self.assertEqual((gateway.connections, len(gateway.requests), waited.seconds), (2, 3, [0.0]))

    def test_with_max_retries_of_0_a_request_is_sent_once_also_on_a_kept_connection(self):
        with Gateway(HELLO, [CLOSE], HELLO) as gateway, gateway.client(max_retries=0) as client:
            list(client.stream("m", "Hi"))
            self.assertIs(type(drain(client.stream("m", "Hi"))[1]), NetworkError)
            self.assertEqual(len(gateway.requests), 2)

    def test_what_is_not_kept(self):
        stop = threading.Event()
        closing = STREAM_HEAD.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n") + HELLO[len(STREAM_HEAD) :]
        endless = [HELLO[:-5], lambda: stop.wait(WAIT)]
        flood = [HELLO[:-5], *[in_chunks(b": x\n" * 10_000)] * 400]
        for name, answer in [
            ("Connection: close", closing),
            ("no end of the body within 0.1 s", endless),
            ("a flood after [DONE]", flood),
        ]:
            with self.subTest(name), Gateway(answer, HELLO) as gateway, gateway.client() as client:
                for _ in range(2):
                    self.assertEqual(text_of(client.stream("m", "Hi")), "Hello")
                stop.set()
                self.assertEqual(gateway.connections, 2)

    def test_none_is_kept_for_over_60_seconds(self):
        with Gateway(HELLO) as gateway, gateway.client() as client:
            list(client.stream("m", "Hi"))
            client._transport._idle[0].idle_since -= 61
            list(client.stream("m", "Hi"))
            self.assertEqual(gateway.connections, 2)

    def test_a_few_are_kept_at_most(self):
        with Gateway(HELLO) as gateway, gateway.client() as client:
            generators = [client.stream("m", "Hi") for _ in range(12)]
            for generator in generators:
                next(generator)
            for generator in generators:
                list(generator)
            self.assertEqual((gateway.connections, len(client._transport._idle)), (12, 10))

    def test_after_close_a_call_opens_a_new_connection(self):
        with Gateway(HELLO) as gateway, gateway.client() as client:
            for n in (1, 2):
                list(client.stream("m", "Hi"))
                client.close()
                client.close()
                self.assertTrue(gateway.closed.acquire(timeout=WAIT))
                self.assertEqual(gateway.connections, n)

    @unittest.skipUnless(hasattr(os, "fork"), "needs fork()")
    def test_a_forked_child_uses_no_connection_of_its_parent(self):
        with Gateway(HELLO) as gateway, gateway.client() as client:
            list(client.stream("m", "Hi"))
            running = client.stream("m", "Hi")
            next(running)
            with client._transport._lock, warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of 3.12: this process has threads
                child = os.fork()
                if not child:
                    status = 1
                    try:
                        status = 0 if text_of(client.stream("m", "Hi")) == "Hello" and not client.close() else 2
                    finally:
                        os._exit(status)
            self.assertEqual(os.waitpid(child, 0)[1], 0)
            self.assertEqual(text_of(running), "lo")
            list(client.stream("m", "Hi"))
            self.assertEqual((gateway.connections, len(gateway.requests)), (2, 4))


class EverythingAtOnceTest(unittest.TestCase):
    def test_64_threads_share_a_client_and_no_answer_is_mixed_up(self):
        """Each answer repeats its question; some are cut, reset, refused or late."""

        def answer_to(request):
            number = int(json.loads(request.body)["messages"][0]["content"])
            words = [f"{number}-{n};" for n in range(20)]
            whole = stream_of(*map(chunk, words))
            return [
                [whole], [whole[:-5], lambda: time.sleep(0.001), whole[-5:]], [whole[:300], CLOSE], [whole[:400], RESET],
                [sized(b"", "500 Oops")], [STREAM_HEAD.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n") + whole[len(STREAM_HEAD):], CLOSE],
                [whole],
            ][number % 7]  # fmt: skip

        def ask(first):
            for number in range(first, 2560, 64):
                chunks, error = drain(client.stream("m", str(number)))
                whole = "".join(f"{number}-{n};" for n in range(20))
                if text_of(chunks) != whole if error is None else not whole.startswith(text_of(chunks)):
                    return number, text_of(chunks), error
                if (error is None) != (number % 7 in (0, 1, 5, 6)):
                    return number, error
            return None

        with Gateway(answer_to) as gateway, gateway.client(max_retries=0, timeout=30) as client:
            results = [in_thread(lambda n=n: ask(n)) for n in range(64)]
            self.assertEqual([result() for result in results], [None] * 64)
            self.assertEqual(len(gateway.requests), 2560)
            self.assertEqual([call for call in client._transport._calls if call.wire], [])

    def test_mutated_streams_are_an_error_or_what_was_sent(self):
        """Valid answers with bytes changed, dropped, doubled or cut, from a fixed seed; nothing may hang."""
        chance = random.Random(20261122)
        whole = OPEN_HEAD + b": hello\n\n" + b"".join(map(event, ANSWER))
        chunked = STREAM_HEAD + in_chunks(*map(event, ANSWER)) + b"0\r\n\r\n"
        sent = [json.loads(text) for text in ANSWER[:-1]]

        def mutate(data):
            data = bytearray(data)
            for _ in range(chance.choice((0, 1, 1, 2, 8))):
                at = chance.randrange(len(data))
                kind = chance.randrange(5)
                if kind == 0:
                    data[at] = chance.randrange(256)
                elif kind == 1:
                    del data[at : at + chance.randrange(1, 40)]
                elif kind == 2:
                    data[at:at] = data[at : at + chance.randrange(1, 40)]
                elif kind == 3:
                    data[at:at] = chance.choice(
                        (b"\r", b"\n", b"\r\n", b"\n\n", b"\0", b"\xff", b"data: ", b"0\r\n", b"[DONE]", b"}", b'"')
                    )
                else:
                    del data[at:]
                if not data:
                    break
            pieces, at = [], 0
            while at < len(data):
                size = chance.choice((1, 7, 100, 1000))
                pieces.append(bytes(data[at : at + size]))
                at += size
            return bytes(data), [*pieces, chance.choice((CLOSE, CLOSE, RESET))]

        cases = [mutate(chance.choice((whole, chunked))) for _ in range(1500)]
        untouched = ended = 0
        with Gateway(*(pieces for _, pieces in cases)) as gateway, gateway.client(max_retries=0, timeout=5) as client:
            for data, _ in cases:
                before = len(gateway.requests)
                chunks, error = drain(client.stream("m", "Hi"))  # lets only EdgeeErrors pass
                self.assertEqual(len(gateway.requests), before + 1)
                client.close()  # the next request must not meet the end of this one's connection
                self.assertNotIsInstance(error, RequestTimeoutError, data)
                if data in (whole, chunked) and error is None:
                    untouched += 1
                    self.assertEqual([one.raw for one in chunks], sent)
                elif error is None:
                    ended += 1
                    self.assertTrue(b"[DONE]" in data or b"finish_reason" in data, data)
        self.assertGreater(untouched, 100)
        self.assertGreater(ended, 20)


# ------------------------------------------------------------------------------------------------
# The command line, and the file as a whole.
# ------------------------------------------------------------------------------------------------


class Terminal(io.TextIOWrapper):
    """Standard input that is a terminal, where nobody types."""

    def __init__(self):
        super().__init__(io.BytesIO())

    def isatty(self):
        return True


class Output(io.TextIOWrapper):
    """Standard output, which a test may say is a terminal."""

    terminal = False

    def isatty(self):
        return self.terminal


def run(*arguments, stdin=None, **environment):
    """Run main() in this process; return its status, standard output and standard error."""
    output = Output(io.BytesIO(), encoding="utf-8")
    errors = io.StringIO()
    piped = (
        Terminal()
        if stdin is None
        else io.TextIOWrapper(io.BytesIO(stdin if isinstance(stdin, bytes) else stdin.encode()))
    )
    with mock.patch.dict(os.environ, environment), mock.patch("sys.stdin", piped):
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
            status = edgee.main(list(arguments))
    output.flush()
    return status, output.buffer.getvalue().decode(), errors.getvalue()


def command(*arguments, module="edgee.py", **options):
    """Start the command line in a process of its own, with nothing in its environment."""
    clean = {name: value for name, value in os.environ.items() if name in ("PATH", "SYSTEMROOT", "TEMP")}
    options.setdefault("stdin", subprocess.DEVNULL)
    start = [module] if module.endswith(".py") else ["-m", module]
    return subprocess.Popen([sys.executable, *start, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        cwd=options.pop("cwd", HERE), env={**clean, **options.pop("env", {})}, **options)  # fmt: skip


class CommandTest(unittest.TestCase):
    def ask(self, *arguments, answer=HELLO, **options):
        """Run the command against a gateway; return status, output, errors and the body that was sent."""
        with Gateway(answer) as gateway:
            status, output, errors = run(*arguments, EDGEE_API_KEY=KEY, EDGEE_BASE_URL=gateway.url, **options)
        self.assertNotIn(KEY, output + errors)
        return (
            status,
            output,
            errors,
            json.loads(gateway.requests[0].body) if gateway.requests and gateway.requests[0].body else None,
        )

    def test_the_answer_is_on_standard_output_and_ends_with_a_line_end(self):
        for answer in (HELLO, stream_of(chunk("Hello\n"))):
            body = {"model": "openai/gpt-5.2", "messages": [USER], "stream": True}
            self.assertEqual(self.ask("Hi", answer=answer), (0, "Hello\n", "", body))

    def test_what_is_asked(self):
        file = os.path.join(tempfile.mkdtemp(), "input.json")
        self.addCleanup(shutil.rmtree, os.path.dirname(file))
        with open(file, "w", encoding="utf-8") as written:
            json.dump(
                {"messages": [{"role": "user", "content": "é"}], "seed": 1, "model": "from-file", "tags": ["a"]},
                written,
            )
        said = {"role": "user", "content": "é"}
        for arguments, stdin, environment, expected in [
            (["Hi"], None, {}, {"messages": [USER]}),
            ([], "Hi\n", {}, {"messages": [USER]}),
            (["Hi"], "", {}, {"messages": [USER]}),
            (["Hi"], "  indented\n\n", {}, {"messages": [{"role": "user", "content": "  indented\n\nHi"}]}),
            (["Hi"], "\ufeffé".encode(), {}, {"messages": [{"role": "user", "content": "é\n\nHi"}]}),
            (["Say", "Hi"], None, {}, {"messages": [{"role": "user", "content": "Say Hi"}]}),
            (["--input", "-"], '[{"role": "user", "content": "Hi"}]', {}, {"messages": [USER]}),
            (["Hi", "-m", "x"], None, {"EDGEE_MODEL": "y"}, {"messages": [USER], "model": "x"}),
            (["Hi"], None, {"EDGEE_MODEL": "y"}, {"messages": [USER], "model": "y"}),
            (["Hi"], None, {"EDGEE_MODEL": ""}, {"messages": [USER], "model": "openai/gpt-5.2"}),
            (["Hi", "-s", "Be brief"], None, {}, {"messages": [{"role": "system", "content": "Be brief"}, USER]}),
            (["Hi", "-t", "a", "--tag", "b"], None, {}, {"messages": [USER], "tags": ["a", "b"]}),
            (["Hi", "-o", "temperature", "0.5", "-o", "stop", '["x"]', "-o", "user", "me", "-o", "n", "null"], None, {},
                {"messages": [USER], "temperature": 0.5, "stop": ["x"], "user": "me", "n": None}),
            (["Hi", "--usage"], None, {}, {"messages": [USER], "stream_options": {"include_usage": True}}),
            (["Hi", "--usage", "-o", "stream_options", '{"x": 1}'], None, {}, {"messages": [USER], "stream_options": {"include_usage": True, "x": 1}}),
            (["--input", file], "", {"EDGEE_MODEL": "y"}, {"messages": [said], "seed": 1, "model": "from-file", "tags": ["a"]}),
            (["--input", file, "Hi", "-t", "b", "-m", "x", "-s", "S"], None, {}, {"messages": [{"role": "system", "content": "S"}, said, USER],
                "seed": 1, "model": "x", "tags": ["a", "b"]}),
            (["--input", "-", "Hi"], '{"messages": []}', {}, {"messages": [USER]}),
        ]:  # fmt: skip
            with self.subTest(arguments, stdin=stdin):
                status, output, errors, body = self.ask(*arguments, stdin=stdin, **environment)
                self.assertEqual((status, output), (0, "Hello\n"))
                self.assertEqual({"model": "openai/gpt-5.2", **expected, "stream": True}, body)

    def test_wrong_usage_is_status_2_and_a_line_on_standard_error(self):
        folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, folder)
        file = os.path.join(folder, "list.json")
        with open(file, "w", encoding="utf-8") as written:
            written.write("1")
        for arguments, stdin, line in [
            ([], "", "edgee: nothing to ask: give a prompt, or text on standard input"),
            ([" "], " \n", "edgee: nothing to ask: give a prompt, or text on standard input"),
            ([], b"\xff", "edgee: standard input is not UTF-8 text"),
            (["--input", os.path.join(folder, "none")], None, f"edgee: --input {folder}"),
            (["--input", file], None, f"edgee: --input {file} holds no object and no list of messages"),
            (
                ["--input", "-"],
                "{",
                "edgee: --input -: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)",
            ),
            (["--input", "-"], "{}", "edgee: input has no messages"),
            (["--input", "-"], '{"messages": [1]}', "edgee: messages[0] must be a dict or a Message, not int"),
            (["--input", "-", "Hi"], '{"messages": "x"}', "edgee: messages must be a list, not str"),
            (["--input", "-", "Hi", "-t", "a"], '{"tags": "x"}', "edgee: tags must be a list, not str"),
            (
                ["Hi", "-o", "stream", "false"],
                None,
                "edgee: -o stream is not possible: see --input, --model and --no-stream",
            ),
            (["Hi", "-o", "a=b", "c"], None, "edgee: -o takes a KEY and a VALUE: -o a b"),
            (["Hi", "-o", "x", "NaN"], None, "edgee: input cannot be sent as JSON: "),
            (["Hi", "--timeout", "-1"], None, "edgee: timeout must be a positive number of seconds, not -1.0"),
            (["Hi", "--base-url", "nonsense"], None, "edgee: " + URL_PROBLEM),
            (
                ["Hi", "--demo", "--base-url", "http://a"],
                None,
                "edgee: --demo has a gateway of its own: leave --base-url out",
            ),
        ]:
            with self.subTest(arguments, stdin=stdin):
                status, output, errors = run(
                    *arguments, stdin=stdin, EDGEE_API_KEY=KEY, EDGEE_BASE_URL="http://127.0.0.1:1"
                )
                self.assertEqual((status, output, errors.count("\n")), (2, "", 1))
                self.assertEqual(errors[: len(line)], line)
        status, output, errors = run()
        self.assertEqual(
            (status, output, errors.split("\n")[0]),
            (2, "", "edgee: nothing to ask: give a prompt, or text on standard input"),
        )
        self.assertRegex(errors, r"(?s)usage:.*\n.* --demo\n.* export EDGEE_API_KEY=…\n$")
        status, _, errors = run("Hi")
        self.assertEqual(
            (status, errors), (2, "edgee: EDGEE_API_KEY is not set: export EDGEE_API_KEY=…, or try --demo\n")
        )
        for arguments in (["--nonsense"], ["--timeout", "x"]):
            status, output, errors = run(*arguments)
            self.assertEqual((status, output), (2, ""))
            self.assertRegex(errors, "^edgee: .*; see python -m edgee --help\n$")

    def test_what_does_not_read_standard_input(self):
        class Unread(io.RawIOBase):
            def readable(self):
                return True

            def readinto(self, buffer):
                raise AssertionError("standard input was read")

        with Gateway(sized({"data": [{"id": "a"}, {"id": "b"}]})) as gateway:
            for arguments, expected in [
                (["-h"], "usage: "),
                (["--version"], f"edgee {edgee.__version__}\n"),
                (["--models"], "a\nb\n"),
            ]:
                with mock.patch.object(
                    sys.modules[__name__], "Terminal", lambda: io.TextIOWrapper(io.BufferedReader(Unread()))
                ):
                    status, output, errors = run(*arguments, EDGEE_API_KEY=KEY, EDGEE_BASE_URL=gateway.url)
                self.assertEqual((status, output[: len(expected)], errors), (0, expected, ""))

    def test_the_help_opens_with_examples_and_names_every_option(self):
        output = run("-h")[1]
        self.assertRegex(output, r'^usage: *\n  python -m edgee "Tell me a story"\n')
        for option in ("--model", "--system", "--tag", "--option", "--input", "--json", "--no-stream", "--usage", "--models", "--base-url", "--header",
            "--timeout", "--version", "--demo", "-h"):  # fmt: skip
            self.assertIn(option, output)

    def test_the_help_names_the_command_as_it_was_run_and_ends_with_environment_and_statuses(self):
        for module, name in [("edgee", "python -m edgee"), ("edgee.py", "python edgee.py")]:
            process = command("-h", module=module)
            output = process.communicate(timeout=WAIT)[0].decode()
            self.assertRegex(output, rf'^usage: *\n  {name} "Tell me a story"')
            self.assertRegex(output, r"(?s)environment: EDGEE_API_KEY.*exit status: 0 done.*130 interrupted\s*$")

    def test_headers_of_the_command_line_are_sent(self):
        with Gateway(HELLO) as gateway:
            status, *_ = run(
                "Hi", "-H", "X-A", "b", "--header", "User-Agent", "me", EDGEE_API_KEY=KEY, EDGEE_BASE_URL=gateway.url
            )
        headers = gateway.requests[0].headers
        self.assertEqual((status, headers["x-a"], headers["user-agent"]), (0, "b", "me"))

    def test_json(self):
        raws = [chunk("Hé", role="assistant"), chunk(finish="stop")]
        status, output, errors, _ = self.ask("Hi", "--json", answer=stream_of(*raws))
        self.assertEqual((status, [json.loads(line) for line in output.splitlines()], errors), (0, raws, ""))
        status, output, errors, body = self.ask("Hi", "--json", "--no-stream", answer=sized(COMPLETION))
        self.assertEqual((status, json.loads(output), errors, "stream" in body), (0, COMPLETION, "", False))

    def test_no_stream(self):
        self.assertEqual(self.ask("Hi", "--no-stream", answer=sized(COMPLETION))[:3], (0, "Hello\n", ""))

    def test_usage(self):
        numbers = {"usage": {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12},
            "compression": {"saved_tokens": 3, "cost_savings": 27000}}  # fmt: skip
        end = r"m, 5\+7 tokens, saved 3 \(\$0.027000\), text after \d\.\d\d s, \d\.\d\d s in all\n"
        answers = [
            (
                [],
                stream_of(chunk("Hello"), {**chunk(finish="stop"), **numbers}),
                end,
            ),
            (["--no-stream"], sized({**COMPLETION, **numbers}), end),
            ([], stream_of(chunk("Hello")), r"m, text after \d\.\d\d s, \d\.\d\d s in all\n"),
        ]
        for more, answer, expected in answers:
            status, output, errors, _ = self.ask("Hi", "--usage", *more, answer=answer)
            self.assertEqual((status, output), (0, "Hello\n"))
            self.assertRegex(errors, f"^edgee: {expected}$")

    def test_warnings_of_an_answer_that_is_not_all_there(self):
        for reason in ("length", "content_filter", "new\x1b"):
            shown = reason.replace("\x1b", "")
            expected = (0, "Hel\n", f"edgee: warning: the answer may not be whole: {shown}\n")
            self.assertEqual(self.ask("Hi", answer=stream_of(chunk("Hel"), chunk(finish=reason)))[:3], expected)
        two = stream_of(chunk("a"), chunk("b", index=1))
        self.assertEqual(
            self.ask("Hi", answer=two)[:3],
            (0, "a\n", "edgee: warning: there is more than one choice; --json prints them all\n"),
        )

    def test_tool_calls_are_printed_as_json(self):
        answer = stream_of(
            chunk(tool_calls=[call("a", "f", "{", index=0)]),
            chunk(tool_calls=[call(None, None, "}", index=0)]),
            chunk(finish="tool_calls"),
        )
        printed = json.dumps({"id": "a", "function": {"name": "f", "arguments": "{}"}, "type": "function"}) + "\n"
        self.assertEqual(self.ask("Hi", answer=answer)[:3], (0, printed, ""))

    def test_a_failure_is_status_1_and_a_line_after_what_arrived(self):
        cut = [STREAM_HEAD + in_chunks(event(chunk("Hel"))), CLOSE]
        status, output, errors, _ = self.ask("Hi", answer=cut)
        self.assertEqual((status, output), (1, "Hel\n"))
        self.assertRegex(
            errors, r"^edgee: the connection to 127\.0\.0\.1:\d+ broke: the size of a chunk is missing or no number\n$"
        )
        refused = sized({"error": "No\nmodel"}, "404 Not Found")
        self.assertEqual(self.ask("Hi", answer=refused)[:3], (1, "", "edgee: API error 404: No model\n"))

    @unittest.skipUnless(os.path.exists("/dev/full"), "needs /dev/full")
    def test_output_that_cannot_be_written_is_a_failure(self):
        with Gateway(HELLO) as gateway, open("/dev/full", "wb") as full:
            environment = {**os.environ, "EDGEE_API_KEY": KEY, "EDGEE_BASE_URL": gateway.url}
            process = subprocess.run([sys.executable, "edgee.py", "Hi"], cwd=HERE, env=environment, stdin=subprocess.DEVNULL, stdout=full,
                stderr=subprocess.PIPE, timeout=WAIT)  # fmt: skip
        self.assertEqual((process.returncode, process.stderr), (1, b"edgee: [Errno 28] No space left on device\n"))

    def test_text_that_cannot_be_shown_is_replaced(self):
        answer = stream_of(json.dumps(chunk("é \ud83d")), json.dumps(chunk("\ude00 \ud83d")))
        self.assertEqual(self.ask("Hi", answer=answer)[:2], (0, "é 😀 ?\n"))
        with Gateway(answer) as gateway:
            process = command(
                "Hi", env={"EDGEE_API_KEY": KEY, "EDGEE_BASE_URL": gateway.url, "PYTHONIOENCODING": "ascii"}
            )
            output, errors = process.communicate(timeout=WAIT)
        self.assertEqual((process.returncode, output.split(), errors), (0, [b"?", b"?", b"?"], b""))

    def test_control_characters_reach_a_pipe_and_no_terminal(self):
        evil, shown = "\x1b]0;pwned\x07a\tb\n", "\ufffd]0;pwned\ufffda\tb\n"
        for more, answer in [
            ([], stream_of(chunk(evil))),
            (["--no-stream"], sized({"choices": [{"message": {"content": evil}}]})),
        ]:
            self.assertEqual(self.ask("Hi", *more, answer=answer)[:3], (0, evil, ""))
            with mock.patch.object(Output, "terminal", True):
                self.assertEqual(self.ask("Hi", *more, answer=answer)[:3], (0, shown, ""))

    def test_the_demo_needs_no_key_and_no_network(self):
        proxy = {"http_proxy": "http://127.0.0.1:1", "EDGEE_BASE_URL": "http://127.0.0.1:1", "EDGEE_API_KEY": KEY}
        with mock.patch.object(edgee, "_DEMO_SECONDS", 0):
            for more in ([], ["--no-stream"]):
                status, output, errors = run("--demo", "Tell me a story", "--usage", *more, **proxy)
                self.assertEqual((status, output.split("\n")[0]), (0, "You asked: Tell me a story"))
                self.assertRegex(errors, "^edgee: this is a demo.*\nedgee: openai/gpt-5.2, 8\\+51 tokens, ")
            self.assertEqual(run("--demo", "--models", **proxy)[:2], (0, "demo\n"))

    def test_words_come_one_by_one_and_a_closed_pipe_ends_quietly(self):
        asked = threading.Semaphore(0)
        pieces = [
            piece for word in "abc" for piece in (in_chunks(event(chunk(word))), lambda: asked.acquire(timeout=WAIT))
        ]
        with Gateway([STREAM_HEAD, *pieces, in_chunks(event(chunk("d")), event("[DONE]"))]) as gateway:
            process = command("Hi", env={"EDGEE_API_KEY": KEY, "EDGEE_BASE_URL": gateway.url})
            for word in b"abc":
                self.assertEqual(process.stdout.read(1), bytes([word]))
                if word == ord("c"):
                    process.stdout.close()
                asked.release()
            self.assertEqual((process.wait(WAIT), process.stderr.read()), (0, b""))
            process.stderr.close()

    @unittest.skipIf(os.name == "nt", "no SIGINT for another process")
    def test_ctrl_c_ends_the_process_as_sigint_does_without_a_traceback(self):
        # What a shell starts in the background ignores SIGINT, and so would our child.
        self.addCleanup(signal.signal, signal.SIGINT, signal.signal(signal.SIGINT, signal.default_int_handler))
        stop = threading.Event()
        with Gateway([STREAM_HEAD + in_chunks(event(chunk("abc"))), lambda: stop.wait(WAIT)]) as gateway:
            process = command("Hi", env={"EDGEE_API_KEY": KEY, "EDGEE_BASE_URL": gateway.url})
            self.assertEqual(process.stdout.read(3), b"abc")
            process.send_signal(signal.SIGINT)
            output, errors = process.communicate(timeout=WAIT)
            stop.set()
        self.assertEqual((process.returncode, output, errors.strip()), (-signal.SIGINT, b"\n", b""))


class FileTest(unittest.TestCase):
    def test_what_a_chunk_costs_in_calls(self):
        """Counted, not timed: at most 14 of Python's and 31 of C's for each chunk of a burst."""
        with Gateway(stream_of(*[chunk(" word")] * 2000)) as gateway, gateway.client() as client:
            list(client.stream("m", "Hi"))
            generator = client.stream("m", "Hi")
            next(generator)
            counts = collections.Counter()
            profile = sys.getprofile()
            sys.setprofile(lambda frame, kind, argument: counts.update((kind,)))
            try:
                for _ in range(1900):
                    next(generator)
            finally:
                sys.setprofile(profile)
            generator.close()
        self.assertLessEqual(counts["call"] / 1900, 14)
        self.assertLessEqual((counts["c_call"] - 1900) / 1900, 31)  # less this loop's own call of next()

    def test_importing_brings_in_little_and_does_nothing(self):
        code = (
            "import sys; before = set(sys.modules); import edgee; new = set(sys.modules) - before\n"
            "unwanted = {'http', 'ssl', 'socket', 'email', 'logging', 'argparse', 'typing', '_ssl', '_socket', 'urllib.request'}\n"
            "print(sorted(unwanted & (new | {name.split('.')[0] for name in new if not name.startswith('urllib')})))"
        )
        output = subprocess.run(
            [sys.executable, "-S", "-W", "error", "-c", code], cwd=HERE, stdout=subprocess.PIPE, check=True, env={}
        ).stdout
        self.assertEqual(output, b"[]\n".replace(b"\n", os.linesep.encode()))

    def test_it_works_under_any_name_and_at_any_depth(self):
        with tempfile.TemporaryDirectory() as folder:
            deep = os.path.join(folder, "a", "b", "_vendor")
            os.makedirs(deep)
            for name in ("edgee.py", "other_name.py"):
                shutil.copy(os.path.join(HERE, "edgee.py"), os.path.join(deep, name))
            commands = [command("--demo", "Hi", module=module, cwd=folder) for module in (
                "a.b._vendor.edgee", "a.b._vendor.other_name", os.path.join("a", "b", "_vendor", "other_name.py"))]  # fmt: skip
            code = "from a.b._vendor import other_name as e; import pickle; print(pickle.loads(pickle.dumps(e.APIError('x', status=1))))"
            commands.append(
                subprocess.Popen(
                    [sys.executable, "-c", code], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE
                )
            )
            for process, expected in zip(commands, [b"You asked: Hi"] * 3 + [b"API error 1: x"]):
                output, errors = process.communicate(timeout=WAIT)
                self.assertEqual((process.returncode, output.splitlines()[0]), (0, expected), errors)

    @unittest.skipIf(sys.version_info < (3, 10), "list[str] and X | Y are no types there")
    def test_type_hints_of_the_dataclasses_can_be_read(self):
        for name in edgee.__all__:
            if dataclasses.is_dataclass(getattr(edgee, name)):
                self.assertTrue(typing.get_type_hints(getattr(edgee, name)), name)

    def test_all_names_are_there_and_documented(self):
        for name in edgee.__all__:
            self.assertTrue(getattr(edgee, name).__doc__, name)


class ReadmeTest(unittest.TestCase):
    """README's own words, taken from it and tried."""

    @classmethod
    def setUpClass(cls):
        with open(os.path.join(HERE, "README.md"), encoding="utf-8") as file:
            cls.text = file.read()

    def blocks(self, language):
        return re.findall(rf"^```{language}\n(.*?)^```$", self.text, re.MULTILINE | re.DOTALL)

    @staticmethod
    def answer(request):
        """What a gateway that knows the weather says."""
        if request.method == "GET":
            return [sized({"data": [{"id": "gpt-5.2"}]})]
        asked = json.loads(request.body)
        if asked["model"] == "no-such-model":
            return [
                sized(
                    {"error": {"message": "no such model", "code": "model_not_found"}},
                    "404 Not Found",
                    X_Request_Id="r1",
                )
            ]
        if not asked.get("stream"):
            return [sized(COMPLETION)]
        if "tools" in asked and asked["messages"][-1]["role"] == "user":
            pieces = [call("a", "weather", '{"city": ', index=0), call(None, None, '"Paris"}', index=0)]
            return [stream_of(*(chunk(tool_calls=[piece]) for piece in pieces), chunk(finish="tool_calls"))]
        return [
            stream_of(
                chunk(asked["messages"][-1]["content"][:16]), {**chunk(finish="stop"), "usage": COMPLETION["usage"]}
            )
        ]

    def run_block(self, command, folder, gateway):
        environment = {**os.environ, "EDGEE_API_KEY": KEY, "EDGEE_BASE_URL": gateway.url, "PYTHONPATH": folder}
        process = subprocess.run(command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, timeout=60)  # fmt: skip
        self.assertEqual(process.returncode, 0, process.stderr.decode())
        return process.stdout.decode()

    def test_every_example_runs_as_it_stands_there(self):
        printed = {
            "Ten lines": "Tell me a storyHello Usage(prompt_tokens=1, completion_tokens=2, total_tokens=3, cached_tokens=0, reasoning_tokens=0)\n",
            "Tools, usage, compression": 'weather {"city": "Paris"}\nNone None None\n',
            "Errors and retries": "404 model_not_found no such model r1\n",
            "With asyncio": "Tell me a story",
            "A tool loop": "It is sunny in P\n",
            "A fake gateway": "",
        }
        blocks = self.blocks("python")
        self.assertEqual(len(blocks), len(printed))
        with tempfile.TemporaryDirectory() as folder, Gateway(self.answer) as gateway:
            shutil.copy(os.path.join(HERE, "edgee.py"), folder)
            runs = [
                in_thread(lambda code=code: self.run_block([sys.executable, "-c", code], folder, gateway))
                for code in blocks
            ]
            for result, (name, expected) in zip(runs, printed.items()):
                with self.subTest(name):
                    self.assertEqual(result(), expected)

    @unittest.skipUnless(
        shutil.which("bash") and shutil.which("git") and shutil.which("sha256sum"), "needs a Unix shell"
    )
    def test_every_command_runs_as_it_stands_there(self):
        with tempfile.TemporaryDirectory() as folder, Gateway(self.answer) as gateway:
            shutil.copy(os.path.join(HERE, "edgee.py"), folder)
            with open(os.path.join(folder, "test_nothing.py"), "w", encoding="utf-8") as file:
                file.write(
                    "import unittest\nclass Test(unittest.TestCase):\n    def test(self): pass\n"
                )  # for `python -m unittest`
            start = f'set -e -o pipefail; git() {{ echo "a commit"; }}; python() {{ "{sys.executable}" "$@"; }}\n'
            runs = [
                in_thread(lambda block=block: self.run_block(["bash", "-c", start + block], folder, gateway))
                for block in self.blocks("sh")
            ]
            commands, copying, options = (result() for result in runs)
        self.assertIn("You asked: Tell me a story\n", commands)
        self.assertEqual(copying.splitlines()[-1], f"edgee {edgee.__version__}")
        self.assertEqual(options.splitlines()[:2], ["Tell me a story", "a commit"])
        self.assertEqual(options.splitlines()[-2:], ["Hello", "gpt-5.2"])

    def test_the_checksum_and_the_version_are_those_of_the_file(self):
        with open(os.path.join(HERE, "edgee.py"), "rb") as file:
            checksum = hashlib.sha256(file.read().replace(b"\r\n", b"\n")).hexdigest()
        self.assertIn(f"version {edgee.__version__}:\n\n    {checksum}\n", self.text)

    def test_the_tests_that_it_names_are_there(self):
        there = {name for case in list(globals().values()) if isinstance(case, type) for name in dir(case)}
        named = re.findall(r"`(test_\w+)`", self.text)
        self.assertGreater(len(named), 10)
        self.assertEqual([name for name in named if name not in there], [])

    def test_every_option_and_setting_is_in_a_table(self):
        options = re.findall(r"^  (-.*?)(?:  |$)", run("-h")[1], re.MULTILINE)
        names = {name for option in options for name in re.findall(r"--?[\w-]+", option)} - {"--help"}
        self.assertGreater(len(names), 15)
        for name in names | {setting.name for setting in dataclasses.fields(EdgeeConfig)}:
            self.assertRegex(self.text, rf"\n\|.*`{name}\b")


# ------------------------------------------------------------------------------------------------
# python test_edgee.py --bench [folder of the official package]: no test, it asserts nothing.
# ------------------------------------------------------------------------------------------------

BENCH_CHUNKS, BENCH_ROUNDS = 5000, 9
BENCH_EVENT = event({**chunk(" word"), "object": "chat.completion.chunk", "created": 1700000000, "padding": "x" * 44})


def bench_server():
    """Print a port, and stream as many chunks in a burst as a request's model says, until standard input ends."""
    burst = in_chunks(BENCH_EVENT) * 500

    def answer(request):
        number = int(json.loads(request.body)["model"])
        return [STREAM_HEAD, *[burst] * (number // 500), in_chunks(event("[DONE]")) + b"0\r\n\r\n"]

    with Gateway(answer) as gateway:
        print(gateway.port, flush=True)
        sys.stdin.read()


def bench_clients(port, official):
    """The clients that can be imported, by name: functions that read a stream of so many chunks."""
    url = f"http://127.0.0.1:{port}"

    def bare(number):
        body = json.dumps({"model": str(number)}).encode()
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
            rest, count = b"", 0
            while True:
                *lines, rest = (rest + connection.recv(65536)).split(b"\n")
                for line in lines:
                    if line == b"data: [DONE]":
                        return count
                    if line.startswith(b"data: "):
                        json.loads(line[6:])
                        count += 1

    clients = {
        "edgee.py": lambda number, client=Edgee(EdgeeConfig(KEY, url)): sum(
            1 for _ in client.stream(str(number), "Hi")
        ),
        "bare loop": bare,
    }
    with contextlib.suppress(ImportError):
        import openai

        asked = openai.OpenAI(api_key=KEY, base_url=url + "/v1").chat.completions
        clients["openai"] = lambda number: sum(1 for _ in asked.create(model=str(number), messages=[USER], stream=True))
    with contextlib.suppress(ImportError):
        import httpx_sse

        httpx = httpx_sse._api.httpx

        def through_httpx_sse(number):
            with httpx.Client() as client, httpx_sse.connect_sse(
                client, "POST", url, json={"model": str(number)}
            ) as source:
                return sum(1 for one in source.iter_sse() if one.data != "[DONE]" and json.loads(one.data))

        clients["httpx_sse"] = through_httpx_sse
    if official:
        spec = importlib.util.spec_from_file_location("official_edgee", os.path.join(official, "__init__.py"))
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        client = module.Edgee({"api_key": KEY, "base_url": url})
        clients["edgee package"] = lambda number: sum(1 for _ in client.stream(str(number), "Hi"))
    return clients


def bench_import(official):
    """Seconds that imports take over a bare interpreter, by name: the median of pairs."""
    codes = {"edgee.py": "import edgee"}
    if official:
        codes["edgee package"] = (
            f"import sys; sys.path.insert(0, {os.path.dirname(os.path.abspath(official))!r}); import edgee"
        )

    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}

    def seconds(code, folder):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-S", "-c", code], cwd=folder, env=environment, check=True)
        return time.perf_counter() - start

    for name, code in codes.items():
        seconds(code, HERE if name == "edgee.py" else os.sep)  # which compiles it
    times = {name: [] for name in codes}
    for _ in range(3 * BENCH_ROUNDS):
        nothing = seconds("pass", HERE)
        for name, code in codes.items():
            times[name].append(seconds(code, HERE if name == "edgee.py" else os.sep) - nothing)
    return {name: statistics.median(found) for name, found in times.items()}


def bench_memory(port, number):
    """Bytes at the peak of a process that reads a stream of so many chunks."""
    code = f"import edgee; client = edgee.Edgee({{'api_key': 'k', 'base_url': 'http://127.0.0.1:{port}'}})\n" \
        f"for _ in client.stream('{number}', 'Hi'): pass\nprint(open('/proc/self/status').read())"  # fmt: skip
    output = subprocess.run([sys.executable, "-c", code], cwd=HERE, stdout=subprocess.PIPE, check=True).stdout
    return int(output.split(b"VmHWM:")[1].split()[0]) * 1024


def bench(official=None):
    server = subprocess.Popen(
        [sys.executable, __file__, "--bench-server"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    port = int(server.stdout.readline())
    clients = bench_clients(port, official)
    times = {name: [] for name in clients}
    for number in [500] + [BENCH_CHUNKS] * BENCH_ROUNDS:  # one round warms up
        for name, read in clients.items():
            start = time.process_time()
            if read(number) != number:
                raise SystemExit(f"{name} lost chunks")
            times[name].append((time.process_time() - start) / number * 1e6)
    print(
        f"Python {sys.version.split()[0]}, {len(BENCH_EVENT)}-byte events, medians of {BENCH_ROUNDS} rounds of {BENCH_CHUNKS} chunks\n"
    )
    print(f"{'':16}{'us of CPU a chunk':>20}{'edgee.py to it':>18}{'(lowest to highest)':>22}")
    ours = times["edgee.py"][1:]
    for name, found in times.items():
        ratios = sorted(a / b for a, b in zip(ours, found[1:]))
        print(
            f"{name:16}{statistics.median(found[1:]):20.2f}{statistics.median(ratios):18.2f}{f'{ratios[0]:.2f} to {ratios[-1]:.2f}':>22}"
        )
    print()
    imports = bench_import(official)
    for name, seconds in imports.items():
        print(
            f"import {name:14}{seconds * 1000:7.1f} ms over a bare interpreter, edgee.py to it {imports['edgee.py'] / seconds:.2f}"
        )
    if os.path.exists("/proc/self/status"):
        small, large = bench_memory(port, 1000), bench_memory(port, 1_000_000)
        print(f"peak memory     {small / 2**20:.2f} MiB at a thousand chunks, {large / 2**20:.2f} MiB at a million")
    server.communicate()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--bench-server"]:
        bench_server()
    elif sys.argv[1:2] == ["--bench"]:
        bench(*sys.argv[2:3])
    else:
        unittest.main()
