"""Tests of edgee.py, in its order: python -m unittest. Real sockets on 127.0.0.1, no other traffic."""

from __future__ import annotations

import asyncio
import collections
import concurrent.futures
import contextlib
import contextvars
import copy
import dataclasses
import errno
import functools
import gc
import hashlib
import http.client
import io
import itertools
import json
import logging
import os
import pickle
import random
import re
import selectors
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import types
import typing
import unittest
import warnings
from unittest import mock

import edgee

# isort: off
from edgee import (
    APIError, Edgee, EdgeeConfig, EdgeeError, EventStreamParser, FunctionDefinition, InputObject, Message,
    NetworkError, ProtocolError, RequestTimeoutError, SendResponse, StreamChoice, StreamChunk, StreamDelta,
    StreamInterruptedError, Tool, ToolCall,
)  # fmt: skip

try:
    import pty
except ImportError:  # of Windows
    pty = None
try:
    import tracemalloc
except ImportError:  # of PyPy
    tracemalloc = None

HERE = os.path.dirname(os.path.abspath(__file__))
KEY = "sk-very-secret-0123456789"
WAIT = 10  # seconds after which a test that waits for an event has failed


# ---- A gateway that sends exact bytes, and a few ways to write them -------------------------------------------------


CLOSE, RESET, HANG = object(), object(), object()

# A certificate for 127.0.0.1 and localhost that signs itself, good until 2126, and its key: for these tests alone.
PRIVATE_KEY = """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgbBlTqMFpZJGbDQvA
dMaruvJjUwUw4O0YCPFB1cuoN1ShRANCAARuL2cy5s8g//z+lLUTUKGiZHmvX2/T
fafR8+FtHyGh1tKKkQZGqvem5UdOjq6rWkoTYg55G+4Nu7jGuld5f+Ez
-----END PRIVATE KEY-----
"""
CERTIFICATE = """\
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
# For 127.0.0.1, signed with the same key, and good in the year 2020 alone.
EXPIRED = """\
-----BEGIN CERTIFICATE-----
MIIBSDCB8KADAgECAgEBMAoGCCqGSM49BAMCMAwxCjAIBgNVBAMMAXQwHhcNMjAw
MTAxMDAwMDAwWhcNMjAwMTAyMDAwMDAwWjAMMQowCAYDVQQDDAF0MFkwEwYHKoZI
zj0CAQYIKoZIzj0DAQcDQgAEbi9nMubPIP/8/pS1E1ChomR5r19v032n0fPhbR8h
odbSipEGRqr3puVHTo6uq1pKE2IOeRvuDbu4xrpXeX/hM6NDMEEwHQYDVR0OBBYE
FEhI5laECqTaERUKxPs5vHiHeyfdMA8GA1UdEwEB/wQFMAMBAf8wDwYDVR0RBAgw
BocEfwAAATAKBggqhkjOPQQDAgNHADBEAiASqkM4tBp246qOGgkhWJKHZuyAFEd6
4k2GVnXnPK82qAIgRg6HWcWtf4EjaNv1Axs1SRu5qwEnYhHNJuT45UAqoIE=
-----END CERTIFICATE-----
"""


# A request as the gateway got it: header names are lower case, and `raw` is all of it.
Received = collections.namedtuple("Received", "method path headers body raw")


class Gateway:
    """A loopback server that answers the n-th request with the n-th answer, the last one again and again.

    An answer is bytes or a list of pieces, or a function that makes such a list of the request. Bytes are sent, CLOSE
    and RESET end the connection, HANG holds it until the client or the test ends, a callable is called (and may wait
    for the test). Without an end the connection is kept.
    """

    def __init__(self, *answers, tls=None):
        self.answers = [[answer] if isinstance(answer, bytes) else answer for answer in answers]
        self.requests, self.connections = [], 0
        self.closed = threading.Semaphore(0)  # released when a connection has ended
        self._lock, self._stopped = threading.Lock(), False
        self.tls = server_context(CERTIFICATE_FILE) if tls is True else tls
        self._sockets, self._threads = set(), []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = self._listener.getsockname()[1]
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"
        self._start(self._accept)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        with self._lock:
            self._stopped = True
            for connection in self._sockets:
                with contextlib.suppress(OSError):
                    socket.socket.shutdown(connection, socket.SHUT_RDWR)
        with contextlib.suppress(OSError), socket.socket() as waker:  # of accept(); shutdown() is not, on every system
            waker.connect(("127.0.0.1", self.port))
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
        while True:
            connection, _ = self._listener.accept()
            with self._lock:
                if self._stopped:
                    connection.close()
                    return
                self.connections += 1
                self._sockets.add(connection)
            self._start(self._serve, connection)

    def _serve(self, plain):
        connection = plain
        try:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self.tls:
                connection = self.tls.wrap_socket(plain, server_side=True)
                with self._lock:
                    self._sockets = self._sockets - {plain} | {connection}
            with connection.makefile("rb") as stream:
                request = self._read(stream)
                while request and self._answer(connection, request):
                    request = self._read(stream)
        except (OSError, ValueError):
            pass  # the client went away, as many tests want it to
        finally:
            with self._lock:
                self._sockets.discard(connection)
            connection.close()
            self.closed.release()

    def _read(self, stream):
        lines = []
        while lines[-1:] != [b"\r\n"]:
            lines.append(stream.readline())
            if not lines[-1]:
                return None
        first, *named = b"".join(lines).decode("latin-1").split("\r\n")[:-2]
        method, path, _ = first.split(" ")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in named)}
        body = stream.read(int(headers.get("content-length", 0)))
        return Received(method, path, headers, body, b"".join(lines) + body)

    def _answer(self, connection, request):
        with self._lock:
            answer = self.answers[min(len(self.requests), len(self.answers) - 1)]
            self.requests.append(request)
        for piece in answer(request) if callable(answer) else answer:
            if piece is HANG:
                while connection.recv(65536):
                    pass
                return False
            if piece is CLOSE:
                return False
            if piece is RESET:
                linger = struct.pack("hh" if os.name == "nt" else "ii", 1, 0)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                return False
            if callable(piece):
                piece()
            else:
                connection.sendall(piece)
        return True


class Proxy(Gateway):
    """A forward proxy: `seen` is all that clients sent to it, `refusal` what it answers instead of serving."""

    def __init__(self, refusal=None, opened=b"HTTP/1.1 200 Connection established\r\n\r\n"):
        self.seen, self.refusal, self.opened = [], refusal, opened
        super().__init__()

    def _serve(self, connection):
        with connection, connection.makefile("rb") as stream:
            request = self._read(stream)
            self.seen.append(request)
            if self.refusal:
                connection.sendall(self.refusal)
                return
            tunnel = request.method == "CONNECT"
            host, port = (request.path if tunnel else request.headers["host"]).rsplit(":", 1)
            with socket.create_connection((host, int(port)), WAIT) as upstream:
                self._sockets.add(upstream)
                connection.sendall(self.opened) if tunnel else upstream.sendall(request.raw)
                self._start(self._pump, upstream.recv, connection)
                self._pump(stream.read1, upstream)

    @staticmethod
    def _pump(read, target):
        with contextlib.suppress(OSError, ValueError):
            for data in iter(lambda: read(65536), b""):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)


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
    """An event of the stream that holds a JSON document, or a text; bytes stand for themselves."""
    if isinstance(document, bytes):
        return document
    text = document if isinstance(document, str) else json.dumps(document, ensure_ascii=False)
    return f"data: {text}\n\n".encode()


def with_header(answer, line):
    """The answer with one more line in its head."""
    return answer.replace(b"\r\n", f"\r\n{line}\r\n".encode("latin-1"), 1)


STREAM_HEAD = head(Content_Type="text/event-stream", Transfer_Encoding="chunked")
OPEN_HEAD = head(Content_Type="text/event-stream", Connection="close")


def chunk(content=None, finish=None, index=0, **delta):
    if content is not None:
        delta["content"] = content
    return {"id": "c1", "model": "m", "choices": [{"index": index, "delta": delta, "finish_reason": finish}]}


def begun(*documents):
    """The start of a streamed answer in chunked coding, a chunk for each event."""
    return STREAM_HEAD + in_chunks(*map(event, documents))


def stream_of(*documents, done=True):
    """A whole streamed answer."""
    return begun(*documents, *["[DONE]"] * done) + b"0\r\n\r\n"


HELLO = stream_of(chunk("Hel", role="assistant"), chunk("lo"), chunk(finish="stop"))
COMPLETION = {
    "id": "c1", "object": "chat.completion", "model": "m", "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}],
}  # fmt: skip
USER = {"role": "user", "content": "Hi"}


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


def results(client, method="stream", prompt="Hi", **options):
    """What a method of the client gives, one by one: chunks, the response, or models."""
    if method == "models":
        yield from client.models()
    elif method == "send":
        yield client.send("m", prompt, **options)
    else:
        yield from client.stream("m", prompt, **options)


# What came of one call: `told` is the error's class and text, "" if there was none, with HOST for the gateway's.
Outcome = collections.namedtuple("Outcome", "chunks error told requests waits")


@contextlib.contextmanager
def serving(*answers, tls=None, **settings):
    """A gateway with these answers, and a client of it."""
    with Gateway(*answers, tls=tls) as gateway, gateway.client(**settings) as client:
        yield gateway, client


def told(error):
    """An error's class and text; "" if there is none."""
    return f"{type(error).__name__}: {error}" if error else ""


def ask(*answers, method="stream", options=(), **settings):
    """Ask a new gateway with these answers once; return what came of it. Retries do not wait."""
    with serving(*answers, **settings) as (gateway, client), waits() as waited:
        chunks, error = drain(results(client, method, **dict(options)))
    return Outcome(chunks, error, told(error).replace(gateway.url[7:], "HOST"), gateway.requests, waited)


def in_thread(function):
    """Start a function; return a function that waits for what it returns, or raises what it raised."""
    future = concurrent.futures.Future()

    def run():
        try:
            future.set_result(function())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return lambda: future.result(4 * WAIT)


def server_context(file):
    """A server's TLS context, with the certificate in a file."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context


CLEANUP = contextlib.ExitStack()


def setUpModule():
    """Write the certificates, and trust the first; clear what would lead clients elsewhere than to these tests' gateways."""
    global CERTIFICATE_FILE, EXPIRED_FILE
    CLEANUP.enter_context(mock.patch.dict(os.environ))
    for name in list(os.environ):
        if name.startswith(("EDGEE_", "SSL_CERT_")) or name.lower().endswith("_proxy"):
            del os.environ[name]
    folder = CLEANUP.enter_context(tempfile.TemporaryDirectory())
    CERTIFICATE_FILE, EXPIRED_FILE = (os.path.join(folder, name) for name in ("certificate.pem", "expired.pem"))
    for name, text in ((CERTIFICATE_FILE, CERTIFICATE), (EXPIRED_FILE, EXPIRED)):
        with open(name, "w", encoding="ascii") as file:
            file.write(PRIVATE_KEY + text)
    os.environ["SSL_CERT_FILE"] = CERTIFICATE_FILE


def tearDownModule():
    CLEANUP.close()


@contextlib.contextmanager
def waits():
    """Within this context retries do not wait; its list says how long they would have."""
    seconds = []
    with mock.patch.object(edgee._Call, "pause", lambda call, pause: seconds.append(pause)):
        yield seconds


@contextlib.contextmanager
def virtual_time():
    """Within this context time.monotonic() is `now` of its clock, which the test moves on."""
    clock = types.SimpleNamespace(now=1000.0)
    with mock.patch.object(time, "monotonic", lambda: clock.now):
        yield clock


def cuts(data):
    """Ways to cut bytes: whole, at every place, byte by byte, and with empty pieces between."""
    yield [data]
    for n in range(1, len(data)):
        yield [data[:n], data[n:]]
    yield [data[n : n + 1] for n in range(len(data))]
    yield [piece for n in range(len(data)) for piece in (data[n : n + 1], b"")]


# ---- The parser, alone ----------------------------------------------------------------------------------------------


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
    ("9.2.6, second example", b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n",
        [("message", "first event"), ("message", "second event"), ("message", " third event")]),
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
    ("a BOM of a later line is no BOM", b"data: a\n\n\xef\xbb\xbfdata: b\n\n", [("message", "a")]),
    ("a BOM inside is text", b"data: \xef\xbb\xbfa\n\n", [("message", "\ufeffa")]),
    ("characters of two to four bytes", "data: é€😀\n\n".encode(), [("message", "é€😀")]),
    ("bytes that are no UTF-8", b"data: a\xff\xe2\x82b\n\n", [("message", "a\ufffd\ufffdb")]),
    ("a character that a line end cuts", b"data: \xe2\x82\n\n", [("message", "\ufffd")]),
    ("NUL", b"data: a\0b\n\n", [("message", "a\0b")]),
    ("no line ends but these three", "data: a\u2028b\u2029c\x85d\x0be\x0cf\x1cg\n\n".encode(), [("message", "a\u2028b\u2029c\x85d\x0be\x0cf\x1cg")]),
    ("an event without its blank line waits", b"data: a\n\ndata: b\n", [("message", "a")]),
]  # fmt: skip
LINE_END_CASES = [
    # bytes with line ends of several kinds, events
    (b"data: a\rdata: b\ndata: c\r\n\rdata: d\n\r\n", [("message", "a\nb\nc"), ("message", "d")]),
    *((data, [("message", "a"), ("message", "b")]) for data in (b"data: a\r\n\ndata: b\n\n", b"data: a\n\rdata: b\r\r\n")),
    (b"data: a\r\ndata: b\r\n\n", [("message", "a\nb")]),
]  # fmt: skip
FINISH_CASES = [
    # bytes, the event that finish() then returns
    (b"", None), (b"data: a\n\n", None), (b"data: a\n", ("message", "a")), (b"data: a", ("message", "a")), (b"data: a\r", ("message", "a")),
    (b"event: error\ndata: a\r\n", ("error", "a")), (b"data: a\ndata: b", ("message", "a\nb")), (b": comment", None), (b"dat", None),
]  # fmt: skip
ENDLESS_CASES = [
    # name, what is fed again and again, how many bytes of it at most for each byte of the limit
    ("a line", b"data: %s" % (b"x" * 1000), 1), ("a comment", b":%s" % (b"x" * 1000), 1), ("lines", b"data: %s\n" % (b"x" * 1000), 1.1),
    ("empty lines", b"data:\n" * 1000, 6), ("empty lines without a colon", b"data\n" * 1000, 5), ("a byte at a time", b"x", 1),
]  # fmt: skip


class ParserTest(unittest.TestCase):
    def check(self, data, expected):
        for pieces in cuts(data):
            parser = EventStreamParser()
            self.assertEqual([event for piece in pieces for event in parser.feed(piece)], expected, pieces)

    def test_every_case_with_every_line_end_in_every_cut(self):
        for name, data, expected in PARSER_CASES:
            for line_end in (b"\n", b"\r\n", b"\r"):
                with self.subTest(name, line_end=line_end):
                    self.check(data.replace(b"\n", line_end), expected)
        for data, expected in LINE_END_CASES:
            with self.subTest(data):
                self.check(data, expected)

    def test_an_event_is_returned_as_soon_as_its_blank_line_was_read(self):
        for line_end in (b"\n", b"\r\n", b"\r"):
            parser = EventStreamParser()
            for n in range(3):
                self.assertEqual(parser.feed(b"data: a" + line_end), [])
                self.assertEqual(parser.feed(line_end[:1]), [("message", "a")], (line_end, n))
                self.assertEqual(parser.feed(line_end[1:]), [])

    def test_finish_returns_the_event_whose_blank_line_never_came(self):
        for data, expected in FINISH_CASES:
            with self.subTest(data):
                parser = EventStreamParser()
                parser.feed(data)
                self.assertEqual((parser.finish(), parser.finish()), (expected, None))

    def test_an_event_of_16_MiB_passes_and_a_byte_more_is_an_error(self):
        limit = 16 << 20
        for line_end in (b"\n", b"\r\n"):
            ((_, data),) = EventStreamParser().feed(b"data: %s" % (b"x" * limit) + 2 * line_end)
            self.assertEqual(len(data), limit)
        parser = EventStreamParser()
        parser.feed(b"data: %s" % (b"x" * limit))
        self.assertEqual(len(parser.feed(b"\n\n")[0][1]), limit)
        parser = EventStreamParser()
        too_long = b"data: %s\n\n" % (b"x" * (limit + 1))
        events = parser.feed(b"data: a\n\n" + too_long + b"data: b\n\n")
        self.assertEqual(events, [("message", "a")])  # which is not lost
        for _ in range(2):
            with self.assertRaises(ProtocolError) as caught:
                parser.feed(b"\n\ndata: a\n\n")
            self.assertEqual(str(caught.exception), "an event of the stream is longer than 16 MiB")

    def test_nothing_that_has_no_end_is_held_beyond_the_limit(self):
        limit = 1 << 16
        for name, piece, most in ENDLESS_CASES:
            with self.subTest(name), mock.patch.object(edgee, "_EVENT_BYTES", limit):
                parser = EventStreamParser()
                with self.assertRaises(ProtocolError):
                    for _ in range(int(most * limit + 7000) // len(piece)):
                        parser.feed(piece)

    def test_work_is_linear_however_the_bytes_are_cut(self):
        def seconds(size):
            data = b"data: %s\n\n" % (b"x" * size)
            parser = EventStreamParser()
            start = time.process_time()
            self.assertEqual(sum(len(parser.feed(data[n : n + 64])) for n in range(0, len(data), 64)), 1)
            return time.process_time() - start

        # Linear work makes this 8, quadratic work 64. In turns, for a JIT may begin anew between two measurements.
        self.assertLess(min(seconds(4 << 20) / seconds(1 << 19) for _ in range(3)), 24)


# ---- Chunks, and chunks merged to a response ------------------------------------------------------------------------


def merged(*raws):
    return SendResponse.from_chunks(StreamChunk([], raw=raw) for raw in raws)


def with_delta(**delta):
    return {"choices": [{"index": 0, "delta": delta}]}


def calls(*pieces):
    return with_delta(tool_calls=list(pieces))


def call(identity=None, name=None, arguments=None, index=None, **more):
    """A piece of a tool call; what is None is absent."""
    given = {"id": identity, "name": name, "arguments": arguments, "index": index}
    given = {member: value for member, value in given.items() if value is not None}
    function = {member: given.pop(member) for member in ("name", "arguments") if member in given}
    return {**given, "function": function, **more}


def tail(arguments, index=None):
    return call(None, None, arguments, index)


def whole_call(identity, name, arguments):
    return {**call(identity, name, arguments), "type": "function"}


def said(finish=None, **delta):
    return {"delta": {"role": "assistant", **delta}, "finish_reason": finish}


TOOL_CALL_CASES = [
    # name, pieces, (id, name, arguments) of the calls that they amount to
    ("in pieces", [call("a", "f", "", 0), tail('{"x":', 0), tail("1}", 0)], [("a", "f", '{"x":1}')]),
    ("the only call has index 1 (OpenRouter)", [call("a", "f", "", 1), tail("{}", 1)], [("a", "f", "{}")]),
    ("parallel", [call("a", "f", "", 0), call("b", "g", "", 1), tail("1", 0), tail("2", 1)], [("a", "f", "1"), ("b", "g", "2")]),
    ("parallel calls at one index", [call("a", "f", "1", 0), call("b", "g", "2", 0), tail("3", 0)], [("a", "f", "1"), ("b", "g", "23")]),
    ("later pieces carry an empty id (Alibaba)", [call("a", "f", "", 0), call("", None, "1", 0), call("", None, "2", 0)], [("a", "f", "12")]),
    ("id and name in every piece", [call("a", "f", "1", 0), call("a", "f", "2", 0)], [("a", "f", "12")]),
    ("a new id without a name is the same call", [call("a", "f", "1", 0), call("b", None, "2", 0)], [("a", "f", "12")]),
    ("whole, without an index (Mistral, GPUStack)", [call("a", "f", "1"), call("b", "f", "2")], [("a", "f", "1"), ("b", "f", "2")]),
    ("without an index, by id", [call("a", "f", "1"), call("b", "g", "2"), call("a", None, "3")], [("a", "f", "13"), ("b", "g", "2")]),
    ("without index or id", [call(None, "f", "1"), tail("2"), call(None, "g", "3")], [(None, "f", "12"), (None, "g", "3")]),
    ("nulls (Writer)", [{"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": None}},
        {"index": 0, "id": None, "type": None, "function": {"name": None, "arguments": "1"}},
        {"index": 0, "id": None, "type": None, "function": None}], [("a", "f", "1")]),
    ("an empty name, later", [call("a", "f", "1", 0), {"index": 0, "type": "", "function": {"name": "", "arguments": "2"}}], [("a", "f", "12")]),
    ("a tail at an index that nothing started", [call("A", "f", '{"a": ', 0), tail("1}", 0),
        call("B", "g", "", 0), tail('{"b": 2}', 1)], [("A", "f", '{"a": 1}'), ("B", "g", '{"b": 2}')]),
    ("the id decides, before the name comes", [call("x", None, '{"a"'), call("x", None, ": 1}"), call("x", "f"), call("y", None, '{"b": 2}'),
        call("y", "g")], [("x", "f", '{"a": 1}'), ("y", "g", '{"b": 2}')]),
    ("a known id at another index", [call("a", "f", "1", 0), call("b", "g", "2", 1), call("a", None, "3", 1)], [("a", "f", "13"), ("b", "g", "2")]),
    ("an index that came with a known id", [call("a", "f", "1"), call("a", None, "2", 3), call("b", "g", "", 1), tail("3", 3)], [("a", "f", "123"), ("b", "g", "")]),
    ("arguments that are an object", [call("a", "f", {"x": 1}, 0)], [("a", "f", '{"x": 1}')]),
    ("an index that is none", [call("a", "f", "1", {}), tail("2", []), tail("3", -1)], [("a", "f", "123")]),
    ("no arguments at all", [call("a", "f", index=0)], [("a", "f", "")]),
]  # fmt: skip


FULL_CALL = whole_call("a", "f", "12")
SEALED = {"type": "reasoning.encrypted", "data": "gAAAAA", "id": "rs_68", "format": "openai-responses-v1", "index": 0}
THOUGHT = {"type": "reasoning.text", "index": 0}
A0, B0, FOUND = (
    {"type": "a", "index": 0},
    {"type": "b", "index": 0, "text": "2"},
    {"index": 0, "type": "search", "arguments": "{}"},
)
PARTS = [{"type": "reasoning", "text": "r"}, {"type": "text", "text": "t"}]
HOSTILE = [{"index": 10**30, "a": 1}, {"index": -1, "a": 2}, {"index": {}, "a": 3}]
THINKING = [{"type": "thinking", "thinking": [{"type": "text", "text": text}]} for text in ("The", " user")]
MESSAGE_CASES = [
    # name, a member of the deltas, its values, the value that they amount to; None if the message has then no such member
    ("text", "content", ["a", "b"], "ab"),
    ("null is nothing", "content", ["a", None], "a"),
    ("a role that is empty", "role", ["assistant", ""], "assistant"),
    ("no tool calls", "tool_calls", [[]], None),
    *(("text", name, ["a", "b"], "ab") for name in ("reasoning", "reasoning_content", "refusal")),
    ("the last value of others", "channel", ["a", "b"], "b"),
    ("the first name", "name", ["x", "y"], "x"),
    *(("an empty text does not win", name, ["n", ""], "n") for name in ("name", "channel")),
    *(("the last of numbers and booleans, 0 too", "x", values, values[1]) for values in ([5, 0], [True, False])),
    ("lists", "annotations", [[1], [2, 3]], [1, 2, 3]),
    ("parts (Databricks)", "content", [PARTS[:1], PARTS[1:]], PARTS),
    ("a surrogate pair in two halves", "content", ["\ud83d", "\ude00!"], "😀!"),
    ("half of a surrogate pair", "content", ["\ud83d", "!"], "\ud83d!"),
    ("blocks of reasoning (OpenRouter)", "reasoning_details", [*([{**THOUGHT, "text": text}] for text in ("Let me", " count.")),
        [{"index": 0, "signature": "c2ln"}]], [{**THOUGHT, "text": "Let me count.", "signature": "c2ln"}]),
    ("blocks of another type or without an index stay apart", "reasoning_details", [
        [{**A0, "text": "1"}, B0], [{"type": "a", "text": "3"}, {"type": "a", "index": 1, "text": "4"}], [{**A0, "text": "5"}]],
        [{**A0, "text": "15"}, B0, {"type": "a", "text": "3"}, {"type": "a", "index": 1, "text": "4"}]),
    ("a block whose type comes late", "reasoning_details", [[{"index": 0, "text": "1"}], [{**A0, "text": "2"}]], [{**A0, "text": "12"}]),
    ("an entry that comes again, with its output (Groq)", "executed_tools", [[FOUND], [{**FOUND, "output": "x"}]], [{**FOUND, "output": "x"}]),
    ("function_call", "function_call", [{"name": "f", "arguments": ""}, {"arguments": '{"a":'}, {"arguments": " 1}"}], {"name": "f", "arguments": '{"a": 1}'}),
    ("audio", "audio", [{"id": "x", "data": "YQ", "transcript": "a"}, {"data": "Yg", "transcript": "b", "expires_at": 5}],
        {"id": "x", "data": "YQYg", "transcript": "ab", "expires_at": 5}),
    ("hostile indexes", "things", [HOSTILE], HOSTILE),
    ("unknown members of a tool call", "tool_calls", [[call("a", "f", "1", 0, extra_content={"s": {"t": 1}})], [tail("2", 0)]],
        [{**FULL_CALL, "extra_content": {"s": {"t": 1}}}]),
    ("a call that is no function", "tool_calls", [[{"index": 0, "id": "c1", "type": "custom", "custom": {"name": "sql", "input": ""}}],
        *([{"index": 0, "custom": {"input": text}}] for text in ("SELECT ", "1"))],
        [{"id": "c1", "type": "custom", "custom": {"name": "sql", "input": "SELECT 1"}}]),
    ("a type that is null, and an id that is an object", "tool_calls",
        [[call("a", "f", "12", 0, type="function")], [{"index": 0, "id": {}, "type": None}]], [FULL_CALL]),
    ("parts with an index", "content", [[{"type": "text", "index": 0, "text": text}] for text in "ab"], [{"type": "text", "index": 0, "text": "ab"}]),
]  # fmt: skip
RECORDED_MESSAGES = [
    # what providers sent (texts shortened): name, deltas (None: a choice without one), the whole message without its role
    ("Alibaba, an empty id in later pieces", [{"content": None, "tool_calls": [call("c", "weather", "", index=0, type="function")], "role": "assistant"},
        *({"content": None, "tool_calls": [call("", None, text, index=0, type="function")]} for text in ('{"location": "Rome', '"}', "")), {}],
        {"content": None, "tool_calls": [call("c", "weather", '{"location": "Rome"}', type="function")]}),
    ("Azure, no delta in the first choice", [None, {"content": "I "}, {"content": "do"}, {}], {"content": "I do"}),
    ("Azure and Mistral, a call in one piece", [{"role": "assistant", "content": ""}, {"tool_calls": [call("c", "best", "{}", type="function")]}, {}],
        {"content": "", "tool_calls": [call("c", "best", "{}", type="function")]}),
    ("DeepSeek, then OpenRouter: a call, and empty lists around it", [{"role": "assistant", "content": "", "reasoning": None, "reasoning_details": []},
        {"tool_calls": [call("c", "best", "", index=0, type="function")]}, {"tool_calls": [call(None, None, "{}", index=0)]}, {"content": ""}],
        {"content": "", "reasoning_details": [], "tool_calls": [call("c", "best", "{}", type="function")]}),
    ("Doubleword, reasoning under two names, the role each time", [*({"content": "", "reasoning": text, "reasoning_details": [{"format": "unknown",
        "index": 0, "text": text, "type": "reasoning.text"}], "role": "assistant"} for text in ("The", " sum")), {"content": "3", "role": "assistant"}],
        {"content": "3", "reasoning": "The sum", "reasoning_details": [{"format": "unknown", "index": 0, "text": "The sum", "type": "reasoning.text"}]}),
    ("GPUStack, thoughts in the text, a call without an index", [*({"content": text} for text in ("<think>", "\n", "</think>")),
        {"content": None, "tool_calls": [call("c", "weather", "{}", type="function")]}],
        {"content": "<think>\n</think>", "tool_calls": [call("c", "weather", "{}", type="function")]}),
    ("Groq, and Databricks' null members", [{"role": "assistant", "content": "2"}, {"content": None}, {}], {"content": "2"}),
]  # fmt: skip
RECORDED_CASES = [
    # the same where more of a choice than its delta counts: name, choices of the chunks, the whole choices
    ("OpenRouter, a call after sealed reasoning", [
        {**said(content=""), "native_finish_reason": None, "logprobs": None}, said(content="", reasoning=None, reasoning_details=[SEALED]),
        said(content=None, tool_calls=[call("call_Ga", "weather", "", 1, type="function")]),
        *(said(content=None, tool_calls=[call(arguments=text, index=1, type="function")]) for text in ('{"', "location", '":"', "Florence", '"}')),
        *({**said(finish, content=""), "native_finish_reason": native, "logprobs": None} for finish, native in (("tool_calls", "completed"), (None, None)))],
        [{"index": 0, "finish_reason": "tool_calls", "native_finish_reason": "completed", "message": {"role": "assistant", "content": "",
            "reasoning_details": [SEALED], "tool_calls": [whole_call("call_Ga", "weather", '{"location":"Florence"}')]}}]),
    ("Writer, nulls everywhere, and a message beside the delta", [{"index": 0, "logprobs": None, **one, "message": one["delta"]} for one in (
        said(content=None, tool_calls=None, graph_data={"sources": None, "status": None}, refusal=None),
        said(content=None, tool_calls=[{"index": 0, "id": "tool-a3", "type": "function", "function": {"name": "get_weather", "arguments": None}}]),
        *(said(content=None, tool_calls=[{"index": 0, "id": None, "type": None, "function": {"name": None, "arguments": text}}])
            for text in ('{"location":', ' "Zakopane"}')),
        said("tool_calls", content=None, tool_calls=None, graph_data={"sources": None, "status": None}))],
        [{"index": 0, "finish_reason": "tool_calls", "message": {"role": "assistant", "content": None, "graph_data": {}, "tool_calls": [
            whole_call("tool-a3", "get_weather", '{"location": "Zakopane"}')]}}]),
    ("Mistral, thoughts as parts and then text", [said(content=""),
        *({"delta": {"content": content}} for content in (THINKING[:1], [{"closed": True, **THINKING[1]}], [{"thinking": [], "type": "thinking"}], "4")),
        {"delta": {"content": "2"}, "finish_reason": "stop"}],
        [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": [THINKING[0], {"closed": True, **THINKING[1]},
            {"thinking": [], "type": "thinking"}, {"type": "text", "text": "42"}]}}]),
    ("Snowflake, no finish reason, empty refusals", [{"delta": {"content": text, "refusal": "", "role": "assistant", "tool_calls": None},
        "logprobs": {"content": None, "refusal": None}} for text in ("4", "")],
        [{"index": 0, "finish_reason": None, "logprobs": {}, "message": {"role": "assistant", "content": "4", "refusal": ""}}]),
    ("Mistral, two choices", [*({"index": n, **said(content="")} for n in (0, 1)),
        *({"index": n, "delta": {"content": f"c{n}"}, "finish_reason": "length"} for n in (1, 0))],
        [{"index": n, "finish_reason": "length", "message": {"role": "assistant", "content": f"c{n}"}} for n in (0, 1)]),
    ("Together, a text of old beside the delta, finished twice", [
        {"role": "assistant", "text": "", "logprobs": None, **said(token_id=None, content="", tool_calls=[call("call_63", "tool", "", 0, type="function")])},
        {"text": "", **said("tool_calls", content="", tool_calls=[tail("{}", 0)])},
        {"text": "", "matched_stop": 200008, **said("tool_calls", token_id=None, content="")}, {"text": "", **said("stop", token_id=None, content="")}],
        [{"index": 0, "role": "assistant", "text": "", "matched_stop": 200008, "finish_reason": "stop", "message": {"role": "assistant", "content": "",
            "tool_calls": [whole_call("call_63", "tool", "{}")]}}]),
    ("logprobs", [{"delta": {}, "logprobs": {"content": [{"token": text}], "refusal": None}, "finish_reason": "stop"} for text in "ab"],
        [{"index": 0, "finish_reason": "stop", "logprobs": {"content": [{"token": "a"}, {"token": "b"}]}, "message": {"role": "assistant", "content": None}}]),
]  # fmt: skip
ODD_SHAPES = [
    # what comes as a chunk, what its attributes then are where they are not None, and the indexes of its choices
    ({}, {}, []), *(({"choices": choices}, {}, []) for choices in (None, {}, "a", [None, 1, "a", []])),
    *(({"choices": [choice]}, {}, [0]) for choice in ({}, {"delta": None}, {"delta": []}, {"logprobs": 1}, {"logprobs": {"content": None}}, {"delta": {"content": 5}})),
    ({"choices": [{"index": index} for index in (True, 2.0, {}, None, -1, 1024, 1023)]}, {}, [0, 1, 2, 3, 4, 5, 1023]),
    ({"choices": [{"delta": {"content": [None, 1, "a", {"type": "text"}, {"type": "text", "text": 1}, {"type": "reasoning", "text": "r"}]}}]}, {}, [0]),
    ({"choices": [{"delta": {"content": [*THINKING, {"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}}]}, {"text": "ab"}, [0]),
    ({"choices": [{"delta": {"tool_calls": [None, 1, {}, {"index": "0", "id": 5, "function": {"name": []}}, {"function": 1}]}, "finish_reason": "stop"}]},
        {"tool_calls": [{}, {"index": "0", "id": 5, "function": {"name": []}}, {"function": 1}], "finish_reason": "stop"}, [0]),
    ({"choices": [{"delta": {"tool_calls": [None]}}]}, {"tool_calls": []}, [0]), ({"choices": [{"delta": {"tool_calls": {}}}]}, {"tool_calls": []}, [0]),
    ({"choices": [{"delta": {"reasoning_content": "a", "reasoning": "b"}}]}, {"reasoning": "a"}, [0]),
    ({"choices": [{"delta": {"reasoning_content": "", "reasoning": "b"}}]}, {"reasoning": "b"}, [0]),
    ({"choices": [{"delta": {"reasoning_content": {"x": 1}}}]}, {}, [0]),
    ({"id": "x", "model": "y", "error": None, "object": "errors"}, {"id": "x", "model": "y"}, []), ({"error": "", "usage": [], "compression": "a"}, {}, []),
    ({"usage": {"prompt_tokens": "1", "completion_tokens": True, "total_tokens": 10**400, "prompt_tokens_details": [1]}}, {"usage": edgee.Usage()}, []),
    *(({"usage": {"prompt_tokens": 9, prompt: {"cached_tokens": 4}, completion: {"reasoning_tokens": 3}}}, {"usage": edgee.Usage(9, 0, 0, 4, 3)}, [])
        for prompt, completion in (("prompt_tokens_details", "completion_tokens_details"), ("input_tokens_details", "output_tokens_details"))),
    ({"compression": {"saved_tokens": 1, "reduction": 48.5, "time_ms": None}}, {"compression": edgee.Compression(1, 0, 48.5, 0)}, []),
]  # fmt: skip


class MergeTest(unittest.TestCase):
    def test_pieces_of_tool_calls_find_their_call(self):
        for name, pieces, expected in TOOL_CALL_CASES:
            for raws in ([calls(piece) for piece in pieces], [calls(*pieces)]):
                with self.subTest(name):
                    self.assertEqual(merged(*raws).tool_calls, [whole_call(*one) for one in expected])

    def test_what_a_message_is_made_of(self):
        """Objects member by member, text that comes in pieces joined, lists by index and type."""
        for name, member, values, whole in MESSAGE_CASES:
            with self.subTest(name, member=member):
                message = merged(*(with_delta(**{member: value}) for value in values)).message
                expected = {} if whole is None else {member: whole}
                self.assertEqual(message, {"role": "assistant", "content": None, **expected})

    def test_recorded_answers_of_providers_become_what_a_reader_would_write_down(self):
        cases = [*RECORDED_CASES]
        for name, deltas, message in RECORDED_MESSAGES:
            choices = [{} if delta is None else {"delta": delta} for delta in deltas]
            whole = {"role": "assistant", "content": None, **message}
            cases.append(
                (name, [*choices, {"finish_reason": "stop"}], [{"index": 0, "finish_reason": "stop", "message": whole}])
            )
        for name, choices, expected in cases:
            with self.subTest(name):
                raws = [{"object": "chat.completion.chunk", "choices": [{"index": 0, **choice}]} for choice in choices]
                response = SendResponse.from_chunks(ask(stream_of(*raws)).chunks)
                self.assertEqual(response.raw, {"object": "chat.completion", "choices": expected})
                again = SendResponse.from_chunks(ask(sized(response.raw)).chunks)  # what send() would have returned
                self.assertEqual((again.raw, again.choices), (response.raw, response.choices))

    def test_a_response_is_what_send_would_have_returned(self):
        response = merged(
            {"id": "", "model": "", "object": "", "choices": [], "prompt_filter_results": [1]},
            {**chunk("Hel", role="assistant"), "object": "chat.completion.chunk", "usage": {"prompt_tokens": 1}},
            {**chunk("lo", "length"), "usage": None, "compression": {"saved_tokens": 5, "reduction": 12.5}},
            {**chunk(finish="stop"), "id": "other"},
            {**chunk(finish=""), "model": "other", "system_fingerprint": "f"},
            {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": None, "cost": 3}},
            {"choices": [], "usage": {}, "compression": {}},
        )
        self.assertEqual((response.id, response.model, response.text), ("c1", "m", "Hello"))
        self.assertEqual((response.finish_reason, response.usage), ("stop", edgee.Usage(1, 2, 0)))
        self.assertEqual(response.compression, edgee.Compression(5, 0, 12.5, 0))
        message = {"role": "assistant", "content": "Hello"}
        self.assertEqual(response.raw, {"id": "c1", "model": "m", "object": "chat.completion", "prompt_filter_results": [1],
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "system_fingerprint": "f",
            "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": None, "cost": 3},
            "compression": {"saved_tokens": 5, "reduction": 12.5},
        })  # fmt: skip

    def test_a_message_can_be_sent_back_as_it_is(self):
        response = merged(chunk("", role="assistant"), calls(call("a", "f", "12", 0)), chunk(finish="tool_calls"))
        self.assertEqual(response.message, {"role": "assistant", "content": "", "tool_calls": [FULL_CALL]})
        with serving(sized(COMPLETION)) as (gateway, client):
            client.send("m", [response.message])
            self.assertEqual(json.loads(gateway.requests[0].body)["messages"], [response.message])

    def test_merging_is_linear_also_with_hostile_indexes(self):
        def seconds(index_of):
            chunks = [StreamChunk([], raw=calls(call(arguments="x", index=index_of(n)))) for n in range(20_000)]
            start = time.process_time()
            (one,) = SendResponse.from_chunks(chunks).tool_calls
            self.assertEqual(one["function"]["arguments"], "x" * 20_000)
            return time.process_time() - start

        good = seconds(lambda n: 0)
        self.assertLess(seconds(lambda n: n * (2**61 - 1)), 10 * good + 1)  # which all have one hash

    def test_more_choices_than_1024_are_refused(self):
        self.assertEqual(len(merged({"choices": [{}] * 1024}).choices), 1024)
        many, text = {"choices": [{"finish_reason": "stop"}] * 1025}, "the answer has more than 1024 choices"
        for answer, method in ((stream_of(many), "stream"), (sized(many), "stream"), (sized(many), "send")):
            self.assertEqual(ask(answer, method=method).told, f"ProtocolError: {text}")
        with self.assertRaisesRegex(ProtocolError, text):
            merged(many)

    def test_headers_are_json_and_found_in_any_case(self):
        (got,) = ask(sized(COMPLETION, X_Edgee_Provider="p", x_EDGEE_b="1")).chunks
        for twin in (got, pickle.loads(pickle.dumps(got)), copy.deepcopy(got), dataclasses.replace(got, id="x"),
            SendResponse.from_chunks([got])):  # fmt: skip
            self.assertEqual((twin.headers["X-Edgee-PROVIDER"], twin.headers.get("X-edgee-B")), ("p", "1"))
            self.assertTrue("X-EDGEE-provider" in twin.headers and "x" not in twin.headers and 5 not in twin.headers)
            self.assertNotIn("provider", repr(twin))  # nor is `raw` shown, which is long
            self.assertNotIn("raw=", repr(twin))
            self.assertEqual(json.loads(json.dumps(dataclasses.asdict(twin)))["headers"]["x-edgee-provider"], "p")

    def test_chunks_made_by_hand_need_no_raw(self):
        first, last = StreamDelta("assistant", "a"), StreamDelta(content="b")
        chunks = [StreamChunk([StreamChoice(0, first)], id="x"), StreamChunk([StreamChoice(0, last, "stop")])]
        response = SendResponse.from_chunks(iter(chunks))
        self.assertEqual((response.text, response.finish_reason, response.id), ("ab", "stop", "x"))
        empty = SendResponse.from_chunks([])
        self.assertEqual((empty.choices, empty.text, empty.message, empty.tool_calls), ([], None, None, None))

    def test_odd_shapes_do_not_crash_a_reader(self):
        names = ("text", "reasoning", "finish_reason", "tool_calls", "usage", "compression", "id", "model")
        outcome = ask(stream_of(*(raw for raw, *_ in ODD_SHAPES)))
        self.assertEqual((outcome.told, len(outcome.chunks)), ("", len(ODD_SHAPES)))
        for (raw, expected, indexes), got in zip(ODD_SHAPES, outcome.chunks):
            with self.subTest(raw):
                found = {name: getattr(got, name) for name in names if getattr(got, name) is not None}
                self.assertEqual((found, [choice.index for choice in got.choices], got.raw), (expected, indexes, raw))
                for whole in (merged(raw), *ask(sized(raw), method="send").chunks):
                    for name in set(names) - {"tool_calls"}:  # which are as they came from send(), and merged of chunks
                        self.assertEqual(getattr(whole, name), expected.get(name), name)
                    repr((whole, whole.tool_calls, merged(raw, raw)))


# ---- Settings and requests: what is sent, and what is refused before anything is ------------------------------------


PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}}
TOOL = {"type": "function", "function": {"name": "f", "parameters": PARAMETERS}}
TOOL_CALL = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}
SWITCHES = {
    "tool_result_trimming": "x-edgee-compression-tool-result-trimming", "output_brevity": "x-edgee-compression-brevity",
    "tool_surface_reduction": "x-edgee-compression-tool-surface-reduction",
}  # fmt: skip
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
    ("extra_body last", InputObject([USER], tags=["a"], extra_body={"tags": ["b"], "seed": 1, "model": "other", "stream": 5}),
        {"messages": [USER], "tags": ["b"], "seed": 1}),
    ("extra_body of a dict", {"messages": [USER], "tags": ["a"], "extra_body": {"tags": ["b"], "seed": 1}}, {"messages": [USER], "tags": ["b"], "seed": 1}),
    ("tools as dataclasses", InputObject([USER], tools=[Tool("function", FunctionDefinition("f", None, PARAMETERS))]),
        {"messages": [USER], "tools": [TOOL]}),
    ("tools as dicts", {"messages": [USER], "tools": [TOOL]}, {"messages": [USER], "tools": [TOOL]}),
    ("a tool's answer", [Message("assistant", tool_calls=[ToolCall("a", "function", TOOL_CALL["function"])]),
        Message("tool", "1", tool_call_id="a", name="f")], {"messages": [{"role": "assistant", "tool_calls": [TOOL_CALL]},
        {"role": "tool", "content": "1", "tool_call_id": "a", "name": "f"}]}),
    ("text that is not ASCII, and half a surrogate pair", "é😀\ud83d", {"messages": [{"role": "user", "content": "é😀\ud83d"}]}),
    ("switches that are no booleans", {"messages": [USER], "output_brevity": "low", "tool_result_trimming": None},
        {"messages": [USER], "output_brevity": "low", "tool_result_trimming": None}),
]  # fmt: skip

circular: typing.List[typing.Any] = []
circular.append(circular)
nested: typing.Any = []
for _ in range(100_000):
    nested = [nested]
NO_JSON = "input cannot be sent as JSON: "
NO_INPUT = "input must be a str, a list, a dict or an InputObject, not "

BAD_CALLS = [
    # model, input, options, the error's type and text (its beginning, where the rest is the json module's)
    *((model, "Hi", {}, ValueError, "model is empty") for model in ("", " ")),
    (None, "Hi", {}, TypeError, "model must be a str, not NoneType"),
    *(("m", value, {}, TypeError, NO_INPUT + type(value).__name__) for value in (None, 5, b"Hi")),
    *(("m", value, {}, ValueError, "input has no messages") for value in ({}, [], InputObject([]), {"messages": None})),
    ("m", {"messages": "Hi"}, {}, TypeError, "messages must be a list, not str"),
    ("m", ["Hi"], {}, TypeError, "messages[0] must be a dict or a Message, not str"),
    ("m", InputObject([USER], extra_body=[1]), {}, TypeError, "extra_body must be a dict, not list"),
    *(("m", {"messages": [USER], "x": value}, {}, ValueError, NO_JSON) for value in (float("nan"), float("-inf"), nested)),
    ("m", {"messages": [USER], "x": {1, 2}}, {}, TypeError, NO_JSON + "a set is no JSON"),
    ("m", {"messages": [USER], "x": b"a"}, {}, TypeError, NO_JSON + "a bytes is no JSON"),
    ("m", {"messages": [USER], "x": {(): 1}}, {}, TypeError, NO_JSON + "keys must be "),
    ("m", {"messages": [USER], "x": circular}, {}, ValueError, NO_JSON + "Circular "),
    *(("m", "Hi", {"timeout": value}, ValueError, f"timeout must be a positive number of seconds, not {value}")
        for value in (0, -1, float("nan"), float("inf"))),
    *(("m", "Hi", {"timeout": value}, TypeError, f"timeout must be a number of seconds, not {type(value).__name__}") for value in ("5", True)),
    ("m", "Hi", {"headers": {"Host": "a"}}, ValueError, "headers has a name that cannot be sent: see header 1"),
]  # fmt: skip

URL_PROBLEM = "base_url must be http:// or https:// with a host, and have no user, query or fragment"
KEY_PROBLEM = "api_key has a character that is not visible ASCII: a space or a line end, perhaps"
NAME_PROBLEM = "headers has a name that cannot be sent: see header 2"
BAD_CONFIGS = [
    # configuration, without its key where it is a dict, the error's type and text
    (5, TypeError, "config must be an API key, an EdgeeConfig or a dict, not int"),
    ({"apikey": 1, "url": 2}, ValueError, "unknown setting: apikey, url is none of api_key, base_url, timeout, max_retries, headers"),
    ({KEY: 1}, ValueError, "unknown setting: its name is none of api_key, base_url, timeout, max_retries, headers"),
    *((key, ValueError, KEY_PROBLEM) for key in (KEY + "\n", KEY + "é", f"{KEY} {KEY}", KEY + "\0")),
    ({"api_key": KEY.encode()}, TypeError, "api_key must be a str, not bytes"),
    *(({"base_url": url}, ValueError, URL_PROBLEM) for url in (
        "api.edgee.ai", "ftp://a", "https://", "https:///v1", "http://a:b", "http://a:99999", "http://a:0", "http://a b", "http://a\n", "http://u:p@a",
        "http://a?x", "http://a#x", "http://é", "http://[::1", "http://[:::]", "http://[::1::2]", "http://[1.2.3.4]", "http://a%2eb", KEY)),
    ({"base_url": 5}, TypeError, "base_url must be a str, not int"),
    ({"timeout": -1}, ValueError, "timeout must be a positive number of seconds, not -1"),
    ({"timeout": "1"}, TypeError, "timeout must be a number of seconds, not str"),
    ({"max_retries": -1}, ValueError, "max_retries must be 0 or more"),
    *(({"max_retries": value}, TypeError, f"max_retries must be a whole number, not {type(value).__name__}") for value in (1.5, True)),
    ({"headers": [("a", "b")]}, TypeError, "headers must be a dict, not list"),
    ({"headers": {"a": 1}}, TypeError, "headers must be str to str: see header 1"),
    *(({"headers": {"a": "b", name: "c"}}, ValueError, NAME_PROBLEM)
        for name in ("a b", "", "a:b", "é", KEY + "\n", "Host", "content-LENGTH", "Transfer-Encoding", "connection")),
    *(({"headers": {"a": value}}, ValueError, "headers has a value that cannot be sent, for 'a'") for value in ("b\r\nc: d", "b\0", "é", KEY + "\n")),
]  # fmt: skip
URL_CASES = [
    # the end of a base URL, what the path of a request then begins with
    ("", "/v1"), ("/", "/v1"), ("/v1", "/v1"), ("/v1/", "/v1"), ("//v1//", "/v1"), ("/v1/chat/completions", "/v1"), ("/v1/chat/completions/", "/v1"),
    ("/a/b", "/a/b/v1"), ("/a/v1", "/a/v1"), ("/v1/a", "/v1/a/v1"),
]  # fmt: skip


@mock.patch.dict(os.environ)  # put back after each test
class RequestTest(unittest.TestCase):
    def test_bodies_are_what_was_asked_for_and_nothing_else(self):
        def answer(request):
            return [HELLO if json.loads(request.body).get("stream") else sized(COMPLETION)]

        with serving(answer) as (gateway, client):
            for name, input, expected in BODY_CASES:
                before = copy.deepcopy(input)
                for generator in (client.stream("m", input), client.send("m", input, True), None):
                    with self.subTest(name):
                        streamed = {} if generator is None else {"stream": True}
                        self.assertEqual(text_of(generator or [client.send("m", input)]), "Hello")
                        request = gateway.requests[-1]
                        self.assertEqual(json.loads(request.body), {"model": "m", **streamed, **expected})
                        self.assertFalse(set(request.headers) & set(SWITCHES.values()))
                        self.assertEqual(input, before)

    def test_switches_are_headers(self):
        with serving(sized(COMPLETION), headers={"x-edgee-compression-brevity": "?"}) as (gateway, client):
            for input, value in ({"messages": [USER], **dict.fromkeys(SWITCHES, True)}, "true"), (InputObject([USER], **dict.fromkeys(SWITCHES, False)), "false"), (
                InputObject([USER], extra_body=dict.fromkeys(SWITCHES, False)), "false"):  # fmt: skip
                client.send("m", input)
                request = gateway.requests[-1]
                self.assertEqual({request.headers[name] for name in SWITCHES.values()}, {value})
                self.assertEqual(json.loads(request.body), {"model": "m", "messages": [USER]})

    def test_the_head_of_a_request(self):
        agent = f"edgee-py/{edgee.__version__}"
        common = {"accept-encoding": "identity", "authorization": f"Bearer {KEY}", "user-agent": agent, "x-a": "b\tc"}
        posted = {**common, "content-type": "application/json"}
        for method, verb, path, expected in [
            ("send", "POST", "/v1/chat/completions", posted),
            ("stream", "POST", "/v1/chat/completions", {**posted, "accept": "text/event-stream"}),
            ("models", "GET", "/v1/models", common),
        ]:
            with serving(sized(COMPLETION), headers={"X-A": "b\tc"}) as (gateway, client):
                list(results(client, method))
            (request,) = gateway.requests
            length = {"content-length": str(len(request.body))} if request.body else {}
            self.assertEqual((request.method, request.path), (verb, path))
            self.assertEqual(request.headers, {"host": f"127.0.0.1:{gateway.port}", **expected, **length})

    def test_headers_of_the_call_win_over_those_of_the_configuration_and_these_over_our_own(self):
        own = {"user-agent": "mine", "AUTHORIZATION": "Other", "x-a": "1"}
        with serving(HELLO, headers=own) as (gateway, client):
            own.clear()  # which was read before
            brief = {"messages": [USER], "output_brevity": True}
            list(client.stream("m", brief, headers={"X-A": "2", "x-edgee-compression-brevity": "low"}))
            list(client.stream("m", "Hi"))
        names = ("user-agent", "authorization", "x-a", "x-edgee-compression-brevity")
        self.assertEqual([[request.headers.get(name) for name in names] for request in gateway.requests],
            [["mine", "Other", "2", "low"], ["mine", "Other", "1", None]])  # fmt: skip

    def test_a_base_url_may_end_in_a_slash_or_v1_and_have_a_path(self):
        with Gateway(HELLO) as gateway:
            for end, path in URL_CASES:
                with self.subTest(end), gateway.client(base_url=gateway.url + end) as client:
                    list(client.stream("m", "Hi"))
                    self.assertEqual(gateway.requests[-1].path, path + "/chat/completions")

    def test_wrong_arguments_raise_from_the_call_itself(self):
        with serving(HELLO) as (gateway, client):
            for model, input, options, kind, text in BAD_CALLS:
                for method in (client.send, client.stream, client.astream):
                    with self.subTest(text, method=method.__name__), self.assertRaises(kind) as caught:
                        method(model, input, **options)
                    told = str(caught.exception)
                    self.assertEqual(told[: len(text)] if text.endswith(" ") else told, text)
            self.assertEqual(gateway.connections, 0)

    def test_wrong_settings_raise_and_never_show_the_key(self):
        for config, kind, text in BAD_CONFIGS:
            forms = [config]
            if isinstance(config, dict):
                forms = [{"api_key": KEY, **config}]
                with contextlib.suppress(TypeError):  # of a setting that is none
                    forms.append(EdgeeConfig(**forms[0]))
            for given in forms:
                with self.subTest(text, config=repr(config)), self.assertRaises(kind) as caught:
                    Edgee(given)
                self.assertEqual(str(caught.exception), text)
                self.assertNotIn(KEY, "".join(all_that_an_error_shows(caught.exception)))

    def test_settings_come_from_the_argument_else_the_environment_else_the_default(self):
        for config in (None, "", {}, EdgeeConfig(), {"api_key": None}):
            with self.assertRaises(ValueError) as caught:
                Edgee(config)
            self.assertEqual(str(caught.exception), "EDGEE_API_KEY is not set")
            os.environ["EDGEE_API_KEY"] = ""  # which is none either
        settings = Edgee(KEY)._transport.settings  # a request to the default URL would leave this machine
        self.assertEqual((settings.base_url, settings.timeout, settings.max_retries), ("https://edgee.io", 600, 2))
        with Gateway(HELLO) as gateway:
            os.environ.update(EDGEE_API_KEY="from-environment", EDGEE_BASE_URL=gateway.url)
            for config in (None, KEY, {"api_key": KEY}, EdgeeConfig(KEY)):
                key = KEY if config else "from-environment"
                with Edgee(config) as client:
                    list(client.stream("m", "Hi"))
                    self.assertEqual(gateway.requests[-1].headers["authorization"], f"Bearer {key}")
            os.environ["EDGEE_BASE_URL"] = "http://127.0.0.1:1"
            with Edgee({"base_url": gateway.url}) as client:
                list(client.stream("m", "Hi"))
            self.assertEqual(len(gateway.requests), 5)

    def test_the_key_is_in_no_repr(self):
        with Edgee(EdgeeConfig(KEY, headers={"x": KEY})) as client:
            self.assertNotIn(KEY, repr([EdgeeConfig(KEY, headers={"x": KEY}), client, vars(client)]))

    def test_nothing_is_sent_before_the_first_chunk_is_asked_for(self):
        with serving(HELLO) as (gateway, client):
            generator = client.stream("m", "Hi")
            self.assertIsInstance(generator, types.GeneratorType)
            generator.close()
            self.assertEqual(gateway.connections, 0)

    def test_models(self):
        data = [{"id": "a", "owned_by": "b", "created": 1}, {"id": "c", "object": "model"}, None]
        models = [edgee.Model("a", "b", 1), edgee.Model("c", None, None)]
        self.assertEqual(ask(sized({"object": "list", "data": data}), method="models").chunks, models)
        self.assertEqual(ask(sized({"data": None}), method="models").chunks, [])

    def test_send_returns_the_response(self):
        (response,) = ask(sized(COMPLETION, X_Edgee_Fallback_Used="yes"), method="send").chunks
        message = COMPLETION["choices"][0]["message"]
        self.assertEqual((response.text, response.finish_reason, response.message), ("Hello", "stop", message))
        self.assertEqual((response.id, response.model, response.usage), ("c1", "m", edgee.Usage(1, 2, 3)))
        self.assertEqual((response.raw, response.compression, response.tool_calls), (COMPLETION, None, None))
        self.assertEqual(response.headers["x-edgee-FALLBACK-used"], "yes")


# ---- Answers: what arrives is what was sent, and a cut answer is never a whole one; errors, retries -----------------


ANSWER = [
    # One realistic answer: roles, text with emoji, a tool call in pieces, usage, [DONE].
    '{"id":"c1","choices":[{"delta":{"role":"assistant","content":""}}]}',
    '{"choices":[{"delta":{"content":"Hé"}}]}',
    '{"choices":[{"delta":{"content":"llo 👋"}}]}',
    '{"choices":[{"delta":{"content":"🏽, \\"you\\"\\n\\ud83d\\ude00 data: [DONE]"}}]}',
    '{"choices":[{"delta":{"tool_calls":[{"index":0,"id":"a","function":{"name":"f","arguments":""}}]}}]}',
    '{"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{\\"a\\":"}}]}}]}',
    '{"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"arguments":"1}"}}]}}]}',
    '{"choices":[{"delta":{},"finish_reason":"tool_calls"}]}',
    '{"choices":[],"usage":{"total_tokens":17}}',
    "[DONE]",
]
# Three examples of the document that the project was created from, less their comments; the last is refused.
STREAM_METHOD_EXAMPLES = r"""
for chunk in edgee.stream("gpt-5.2", "Explain quantum computing"):
    if chunk.text:
        print(chunk.text, end="", flush=True)
    if chunk.role:
        print(f"\nRole: {chunk.role}")
    if chunk.finish_reason:
        print(f"\nFinish reason: {chunk.finish_reason}")
for chunk in edgee.stream("gpt-5.2", "Give me creative ideas"):
    for choice in chunk.choices:
        if choice.delta.content:
            print(f"Choice {choice.index}: {choice.delta.content}")
try:
    for chunk in edgee.send("gpt-5.2", "Hello!", stream=True):
        if chunk.text:
            print(chunk.text, end="", flush=True)
except RuntimeError as error:
    print(f"Stream failed: {error}")
"""
INTERRUPTED = "StreamInterruptedError: the stream ended before the answer was complete"
GAVE_UP = "StreamInterruptedError: the gateway gave up: its finish reason is "
NO_OBJECT = "ProtocolError: the gateway sent no JSON object: "
NO_PAGE = "ProtocolError: the answer is text/html: <p>Log in</p>; is base_url right? http://HOST/v1/chat/completions was asked"
BROKE, NO_HTTP = "the connection to HOST broke: ", "ProtocolError: what came is no HTTP answer: "
FRAMING = "ProtocolError: the answer has an unknown Transfer-Encoding"
LENGTH = "ProtocolError: the answer's Content-Length is not one number, or stands beside chunked"


def open_answer(*documents):
    """An answer that only the end of its connection ends."""
    return [OPEN_HEAD, *map(event, documents), CLOSE]


# Each of these tables: name, answer, the error ("" if none, its class alone if the rest is another test's), and where they
# differ from ("", 1, []): the text that came, how often it was asked, the waits before each retry (None: our own, by jitter).
ENDINGS = [
    ("[DONE] alone", open_answer(chunk("a"), "[DONE]"), "", "a"),
    ("[DONE] with white space", open_answer(chunk("a"), "[DONE] \t"), "", "a"),
    ("[DONE] whose blank line never comes", open_answer(chunk("a"), b"data: [DONE]"), "", "a"),
    ("what comes after [DONE]", stream_of(chunk("a"), "[DONE]", chunk("b")), "", "a"),
    ("an end of the body that never comes", [begun(chunk("a"), "[DONE]"), HANG], "", "a"),
    ("[DONE] and nothing else", open_answer("[DONE]"), INTERRUPTED),
    ("[DONE] after a chunk without choices", open_answer({"choices": []}, "[DONE]"), INTERRUPTED),
    *((f"it gave up: {reason}", open_answer(chunk("a", reason), "[DONE]"), GAVE_UP + reason, "a")
        for reason in ("error", "abort", "network_error", "insufficient_system_resource")),
    ("it gave up, without [DONE]", open_answer(chunk("a", "error")), GAVE_UP + "error", "a"),
    ("every choice finished", open_answer(chunk("a", "stop")), "", "a"),
    ("every choice finished, a comment is cut", open_answer(chunk("a", "stop"), b": by"), "", "a"),
    ("every choice finished, an event is cut", open_answer(chunk("a", "stop"), b"data: {"),
        "StreamInterruptedError: the answer of HOST was cut in the middle of an event", "a"),
    ("finished, then null again", open_answer(chunk("a", "stop"), chunk()), "", "a"),
    ("two choices, both finished", open_answer(chunk("a", "stop"), chunk("b", "length", index=1)), "", "ab"),
    ("two choices, one finished", open_answer(chunk("b", index=1), chunk("a", "stop")), INTERRUPTED, "ba"),
    ("a finish reason that is empty", open_answer(chunk("a", "")), INTERRUPTED, "a"),
    ("no choice at all", open_answer({"choices": [], "usage": {}}), INTERRUPTED),
    ("an event of another name", open_answer(b"event: ping\n" + event(chunk("a", "stop"))), "", "a"),
    ("an error that is null", stream_of({**chunk("a"), "error": None}), "", "a"),
    ("white space around JSON", stream_of(f" \t{json.dumps(chunk('a'))}  ", "  {}"), "", "a"),
    ("a chunk's size that is none", [begun(chunk("a")) + b"-5\r\nabc", CLOSE], f"StreamInterruptedError: {BROKE}a chunk of it has no size", "a"),
    *((f"an event that is no chunk: {text[:20]}", stream_of(chunk("a"), text), NO_OBJECT + (text if len(text) <= 500 else text[:500] + "…"), "a") for text in (
        "{", "nonsense", "5", "[]", "null", '"a"', "{} {}", '{"a": 1}x', "[DONE]x", "[" * 100_000, "9" * 5000)),
]  # fmt: skip
AROUND = [
    ("1xx", b"HTTP/1.1 100 Continue\r\n\r\n" + head("103 Early Hints", Link="</a>; rel=preload") + head("102 Processing") + HELLO, "", "Hello"),
    ("eleven 1xx", [b"HTTP/1.1 100 Continue\r\n\r\n" * 11, CLOSE], "ProtocolError: more than 10 interim answers came"),
    ("100 KB of headers", with_header(HELLO, head(**{f"X-{n}": "x" * 10_000 for n in range(10)}).decode()[17:-4]), "", "Hello"),
    ("chunk extensions and a trailer", [STREAM_HEAD, *(b"%04X ;a=b\r\n%s\r\n" % (len(one), one) for one in map(event, [chunk("Hello"), "[DONE]"])),
        b"0\r\nX: y\r\n\r\n"], "", "Hello"),
    ("HTTP/1.0", [piece.replace(b"1.1", b"1.0") if piece is OPEN_HEAD else piece for piece in open_answer(chunk("Hello", "stop"))], "", "Hello"),
    ("201", HELLO.replace(b"200 OK", b"201 Created"), "", "Hello"), ("no reason", HELLO.replace(b" OK", b""), "", "Hello"),
    ("LF as line ends of the head", HELLO[len(STREAM_HEAD):].join([STREAM_HEAD.replace(b"\r", b""), b""]), "", "Hello"),
    *((coding, with_header(HELLO, f"Content-Encoding: {coding}"), "", "Hello") for coding in ("identity", "none", "UTF-8")),
    *((coding, with_header(HELLO, f"Content-Encoding: {coding}"), f"ProtocolError: the answer is encoded as {coding}, which was not asked for")
        for coding in ("gzip", "br", "deflate", "zstd", "compress", "x-gzip", "none, gzip")),
    ("GZIP", with_header(HELLO, "Content-Encoding: GZIP"), "ProtocolError: the answer is encoded as gzip, which was not asked for"),
    ("parameters of the type", HELLO.replace(b"text/event-stream", b"Text/Event-Stream;charset=UTF-8"), "", "Hello"),
    *((f"Transfer-Encoding{value}", HELLO.replace(b": chunked", value.encode()), "", "Hello") for value in
        (": chunked ", ":chunked\t", ": CHUNKED", ": chunked\r\nTransfer-Encoding: chunked")),
    *((f"Transfer-Encoding: {value}", HELLO.replace(b"chunked", value.encode()), FRAMING) for value in ("gzip, chunked", "x", "chunked, gzip", "")),
    *((f"Content-Length: {value}", with_header(open_answer(chunk("a", "stop"))[0], f"Content-Length: {value}"), LENGTH) for value in ("-1", "+5", "5 5", "5, 6", "²", "")),
    ("Content-Length beside chunked", with_header(HELLO, "Content-Length: 5"), LENGTH),
    ("a head's line without a colon", with_header(HELLO, "nonsense"), "ProtocolError: the answer has a header that is none: nonsense"),
    ("a folded header", with_header(HELLO, "X: a\r\n b: c"), "ProtocolError: the answer has a header that is none: b: c"),
    ("a bare CR in a header", with_header(HELLO, "X: a\rb"), "ProtocolError: the answer has a header that is none: X: a b"),
    ("a header of 100 KB", [head(X="x" * 100_000), CLOSE], "ProtocolError: a line of the answer's head is longer than 64 KiB"),
    ("101 headers", [head(**{f"X_{n}": 1 for n in range(101)}), CLOSE], "ProtocolError: the answer has more than 100 headers"),
    ("garbage", [b"\x00\x01garbage\r\n\r\n", CLOSE], NO_HTTP + "garbage"),
    ("another protocol", [b"SSH-2.0-OpenSSH_9.2\r\n", CLOSE], NO_HTTP + "SSH-2.0-OpenSSH_9.2"),
]  # fmt: skip
# The same for send(), and for stream() where it is told the same.
DOCUMENTS = [
    ("[DONE] alone", sized(b"[DONE]"), NO_OBJECT + "[DONE]"),
    ("a page", sized(b"<p>Log\nin</p>", content_type="text/html; charset=utf-8"), NO_PAGE),
    *((f"no object: {text[:9]!r}", sized(text), NO_OBJECT + text.decode()) for text in (b"[1]", b'{"a" 1}', b"null", b"", b'{"choices": []}<p>')),
    ("gzip", sized(b"\x1f\x8b", Content_Encoding="gzip"), "ProtocolError: the answer is encoded as gzip, which was not asked for"),
    ("a Content-Length too long", [sized(COMPLETION)[:-1], CLOSE], f"StreamInterruptedError: {BROKE}the answer was cut"),
    ("a Content-Length too short", [head(Content_Type="application/json", Content_Length=9) + json.dumps(COMPLETION).encode(), CLOSE], NO_OBJECT + '{"id": "c'),
    ("a chunk size that is none", [head(Content_Type="application/json", Transfer_Encoding="chunked") + b"zz\r\nabc", CLOSE],
        f"StreamInterruptedError: {BROKE}a chunk of it has no size"),
    ("without a length, whole", [head(Content_Type="application/json") + json.dumps(COMPLETION).encode(), CLOSE], "", "Hello"),
    ("without a length, cut", [head(Content_Type="application/json") + b'{"choices": [', CLOSE], "StreamInterruptedError: the answer of HOST was cut after 13 bytes"),
    ("an error in it", sized({"error": {"message": "No", "code": 400}}), "APIError: API error 400: No"),
    *((f"it gave up: {reason}", sized({"choices": [{"message": {"content": "a"}, "finish_reason": reason}]}), GAVE_UP + reason, None) for reason in ("error", "abort")),
]  # fmt: skip
LATE_RESET = [b"H", lambda: time.sleep(0.02), RESET]
BUSY = {"code": 503, "message": "Busy"}
RETRIES = [
    *((f"{status}", sized(b"", f"{status} X"), f"APIError: API error {status}: X", "", 3, None) for status in (408, 409, 429, 500, 502, 503, 504)),
    *((f"{status}", sized(b"", f"{status} X"), "APIError") for status in (400, 401, 402, 403, 404, 413, 422, 501, 505, 529)),
    ("401 with another status in its body", sized({"error": {"code": 503, "message": "No"}}, "401 X"), "APIError: API error 401: No"),
    ("503, then an answer", None, "", "Hello", 2, None),
    ("retry-after in seconds", sized(b"", "503 X", Retry_After="7"), "APIError", "", 3, [7, 7]),
    ("retry-after in ms", sized(b"", "503 X", Retry_After_Ms="1500", Retry_After="9"), "APIError", "", 3, [1.5, 1.5]),
    ("retry-after of 0", sized(b"", "429 X", Retry_After="0"), "APIError", "", 3, [0, 0]),
    ("retry-after of 60", sized(b"", "429 X", Retry_After="60"), "APIError", "", 3, [60, 60]),
    ("retry-after of over 60", sized(b"", "429 X", Retry_After="61"), "APIError"),
    ("retry-after in the past", sized(b"", "429 X", Retry_After="Wed, 21 Oct 2015 07:28:00 GMT"), "APIError", "", 3, [0, 0]),
    ("retry-after far in the future", sized(b"", "429 X", Retry_After="Wed, 21 Oct 2115 07:28:00 GMT"), "APIError"),
    *((f"retry-after {value!r}", sized(b"", "503 X", Retry_After=value), "APIError", "", 3, None) for value in
        ("soon", "-1", "nan", "inf", "1e5", "", "Wed, 99 Oct 99999 99:99:99 GMT", "Wed, 21 Oct 99999999999 07:28:00 GMT", "²")),
    ("no credit", sized({"error": {"code": "insufficient_quota"}}, "429 X"), "APIError"),
    ("no credit, by another status", sized({"error": {"code": "insufficient_quota"}}, "503 X"), "APIError", "", 3, None),
    ("a usage limit", sized({"error": {"code": "usage_limit_exceeded"}}, "429 X"), "APIError"),
    ("a usage limit with a retry-after", sized({"error": {"code": "usage_limit_exceeded"}}, "429 X", Retry_After="3"), "APIError", "", 3, [3, 3]),
    ("another code of 429", sized({"error": {"code": "rate_limit_exceeded"}}, "429 X"), "APIError", "", 3, None),
    ("closed without a byte", [CLOSE], f"NetworkError: {BROKE}it ended before an answer", "", 3, None),
    ("reset without a byte", [RESET], "NetworkError", "", 3, None), ("closed after a byte", [b"H", CLOSE], "NetworkError"),
    ("reset after a byte", LATE_RESET, "NetworkError"), ("closed in the head", [b"HTTP/1.1 200 OK\r\nContent-", CLOSE], "NetworkError"),
    ("closed after the head", [STREAM_HEAD, CLOSE], "StreamInterruptedError"),
    ("a first event with a status", stream_of({"error": BUSY}), "APIError: API error 503: Busy", "", 3, None),
    ("a first event with digits", open_answer(b": wait\n\n", {"error": {"code": "429", "message": "Busy"}}), "APIError: API error 429: Busy", "", 3, None),
    *((f"a first event with the code {code}", stream_of({"error": {"code": code, "message": "Busy"}}), "APIError: API error: Busy", "", 3, None)
        for code in ("provider_error", "internal_error")),
    ("a first event with another status", stream_of({"error": {"code": 400, "message": "Busy"}}), "APIError: API error 400: Busy"),
    ("a first event without a status", stream_of({"error": {"message": "Busy"}}), "APIError: API error: Busy"),
    ("a second event with a status", stream_of(chunk("a"), {"error": BUSY}), "APIError: API error 503: Busy", "a"),
    ("JSON with a status", sized({"error": BUSY}), "APIError: API error 503: Busy", "", 3, None),
    ("no event stream", sized(b"", content_type="text/plain"), "ProtocolError: the answer is text/plain: "),
]  # fmt: skip
EVENT_ERRORS = [
    # name, event, status, code, message
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
]  # fmt: skip
PAGE = b"<html>\r\n<head><title>502 Bad Gateway</title></head>\n\n<body>\tnginx</body></html>"
ERROR_BODIES = [
    # name, body of a 502, code, message
    ("OpenAI", {"error": {"message": "No\nsuch\tmodel", "type": "t", "code": "model_not_found"}}, "model_not_found", "No such model"),
    ("error is a string", {"error": "No"}, None, "No"), ("error is a list", {"error": [{"message": "No", "code": 7}]}, 7, "No"),
    ("error is a list of strings", {"error": ["No", "No!"]}, None, "No"), ("message at top level", {"message": "No", "code": "c"}, "c", "No"),
    ("a string beside message", {"error": "Bad", "message": "No"}, None, "No"),
    ("error beside message", {"error": True, "message": "No"}, None, "No"),
    ("detail", {"detail": "No"}, None, "No"), ("nested", {"error": {"error": {"message": "No", "code": "c"}}}, "c", "No"),
    ("FastAPI", {"detail": [{"loc": ["body"], "msg": "field required", "type": "missing"}]}, None, "field required"),
    ("too deep", b'{"error":' * 90000, None, ('{"error":' * 90000)[:500] + "…"),
    ("null", {"error": None, "message": None}, None, '{"error": null, "message": null}'), ("a list", [{"error": {"message": "No"}}], None, "No"),
    ("a code that is an object", {"error": {"message": "No", "code": {"a": 1}}}, None, "No"),
    ("HTML", PAGE, None, "<html> <head><title>502 Bad Gateway</title></head> <body> nginx</body></html>; is base_url right? URL was asked"),
    ("empty", b"", None, "Bad Gateway"), ("white space", b" \r\n ", None, "Bad Gateway"), ("not UTF-8", b"caf\xe9", None, "caf\ufffd"),
    ("terminal escapes", b"\x1b[31mred\x07", None, "[31mred"), ("long", b"x" * 501, None, "x" * 500 + "…"),
]  # fmt: skip


class AnswerTest(unittest.TestCase):
    def check(self, cases, *methods):
        for name, answer, error, *more in cases:
            text, requests, pauses = [*more, *("", 1, [])[len(more) :]]
            for method in methods:
                with self.subTest(name, method=method):
                    got = ask(*([sized(b"", "503 X"), HELLO] if answer is None else [answer]), method=method)
                    self.assertEqual(got.told if ":" in error else got.told.partition(":")[0], error)
                    if text is not None:
                        self.assertEqual(text_of(got.chunks), text)
                    self.assertEqual(len(got.requests), requests)
                    if pauses is None:
                        self.assertTrue(all(0.375 <= seconds <= 1 for seconds in got.waits), got.waits)
                        self.assertEqual(len(got.waits), requests - 1)
                    else:
                        self.assertEqual(got.waits, pauses)

    def test_how_an_answer_may_end(self):
        self.check(ENDINGS, "stream")

    def test_what_may_stand_around_an_answer_and_what_makes_it_none(self):
        self.check(AROUND, "stream")

    def test_answers_of_json_are_read_alike_by_send_and_stream(self):
        self.check(DOCUMENTS, "send", "stream")
        for answer, streamed, sent in [
            (head("204 No Content"), "ProtocolError: the answer is of no content type: ", NO_OBJECT),
            (open_answer(), INTERRUPTED, "StreamInterruptedError: the answer of HOST was cut after 0 bytes"),
        ]:
            self.assertEqual((ask(answer).told, ask(answer, method="send").told), (streamed, sent))

    def test_what_is_tried_again_and_after_which_wait(self):
        self.check(RETRIES, "stream")
        self.check([row for row in RETRIES if row[0] in ("503", "closed without a byte", "404")], "send", "models")

    def test_max_retries_of_0_tries_once(self):
        for answer in (sized(b"", "503 Busy"), [CLOSE], [RESET], stream_of({"error": BUSY})):
            self.assertEqual(len(ask(answer, max_retries=0).requests), 1)

    def test_examples_of_the_stream_method(self):
        story = stream_of(chunk("Once", role="assistant"), chunk(" upon"), chunk(finish="stop"))
        refusal = sized({"error": {"message": "no such model"}}, "404 Not Found")
        with serving(story, story, refusal) as (_, client), contextlib.redirect_stdout(io.StringIO()) as output:
            exec(STREAM_METHOD_EXAMPLES, {"edgee": client})
        self.assertEqual(output.getvalue(), "Once\nRole: assistant\n upon\nFinish reason: stop\n"
            "Choice 0: Once\nChoice 0:  upon\nStream failed: API error 404: no such model\n")  # fmt: skip

    def test_an_answer_cut_at_any_byte_is_never_a_whole_one(self):
        events = [event(text) for text in ANSWER]
        body, chunked = b"".join(events), in_chunks(*events) + b"0\r\n\r\n"
        offsets = [0, *itertools.accumulate(map(len, events))]
        whole_at = [offset - 2 for offset in offsets[1:]]  # its JSON, if not its blank line
        arrived = [0]  # how many bytes of the body are in n bytes of the chunked coding
        for text, offset in zip(events, offsets):
            arrived += [offset] * len(b"%x\r\n" % len(text))
            arrived += [*range(offset + 1, offset + len(text) + 1), *[offset + len(text)] * 2]
        arrived += [len(body)] * 5
        length_head = head(Content_Type="text/event-stream", Content_Length=len(body))
        whole = range(len(body) + 1)
        # A body without a length, cut where all choices have finished and no event has begun, looks whole.
        looks_whole = {size for n in (7, 8) for size in range(whole_at[n], offsets[n + 1] + 1)}
        framings = ((OPEN_HEAD, body, whole), (length_head, body, whole), (STREAM_HEAD, chunked, arrived))
        for start, sent, bodies in framings:
            answers = [[start + sent[:n], CLOSE] for n in range(len(sent) + 1)]
            with serving(*answers, max_retries=0) as (_, client):
                for n, size in zip(range(len(sent) + 1), bodies):
                    chunks, error = drain(client.stream("m", "Hi"))
                    due = [json.loads(text) for text, at in zip(ANSWER[:-1], whole_at) if at <= size]
                    self.assertEqual([one.raw for one in chunks], due, (start, n))
                    complete = size >= whole_at[-1] or (start is OPEN_HEAD and size in looks_whole)
                    self.assertIs(type(error), type(None) if complete else StreamInterruptedError, (start, n))

    def test_json_cut_at_any_byte_is_a_network_error(self):
        body = json.dumps({**COMPLETION, "x": "}é\\", "y": [True, {}]}, ensure_ascii=False).encode()
        answers = ([head(Content_Type="application/json") + body[:n], CLOSE] for n in range(1, len(body) + 1))
        with serving(*answers, max_retries=0) as (gateway, client):
            for n in range(1, len(body)):
                with self.assertRaises(NetworkError, msg=body[:n]):
                    client.send("m", "Hi")
            self.assertEqual(client.send("m", "Hi").text, "Hello")

    def test_a_whole_answer_in_any_cut(self):
        body = b": hello\n\n" + b"".join(event(text) for text in ANSWER)
        for size in (1, 7, 100, len(body)):
            pieces = [body[n : n + size] for n in range(0, len(body), size)]
            for answer in ([STREAM_HEAD, *map(in_chunks, pieces), b"0\r\n\r\n"], [OPEN_HEAD, *pieces, CLOSE]):
                response = SendResponse.from_chunks(ask(answer).chunks)
                self.assertEqual(response.text, 'Héllo 👋🏽, "you"\n😀 data: [DONE]')
                self.assertEqual(response.tool_calls[0]["function"], {"name": "f", "arguments": '{"a":1}'})
                self.assertEqual((response.finish_reason, response.usage.total_tokens), ("tool_calls", 17))

    def test_fields_of_a_chunk(self):
        raw = {**chunk("a", role="assistant", tool_calls=[{"index": 0}], reasoning_content="r"), "compression": {
            "saved_tokens": 1, "cost_savings": 27000, "reduction": 48.5, "time_ms": 3}, "usage": {"prompt_tokens": 5}}  # fmt: skip
        first, second = ask(stream_of(raw, {})).chunks
        self.assertEqual((first.text, first.role, first.finish_reason, first.reasoning), ("a", "assistant", None, "r"))
        self.assertEqual((first.id, first.model, first.raw, first.tool_calls), ("c1", "m", raw, [{"index": 0}]))
        self.assertEqual((first.usage, first.compression), (edgee.Usage(5), edgee.Compression(1, 27000, 48.5, 3)))
        self.assertEqual(dataclasses.astuple(edgee.Usage()) + dataclasses.astuple(edgee.Compression()), (0,) * 9)
        self.assertIs(first.headers, second.headers)
        self.assertEqual(dataclasses.replace(first, headers={}), first)  # which are no part of what was said
        self.assertEqual((pickle.loads(pickle.dumps(first)), copy.deepcopy(first)), (first, first))

    def test_a_json_answer_to_stream_is_read_as_a_message(self):
        message = {"role": "assistant", "content": "Paris.", "reasoning": "r"}
        for finish in ("stop", "", None):
            choice = {"finish_reason": finish, "message": message, "delta": {"role": "assistant", "content": ""}}
            raw = {"choices": [choice]}
            (got,), (response,) = (ask(sized(raw), method=method).chunks for method in ("stream", "send"))
            self.assertEqual((got.text, got.reasoning, got.raw, got.finish_reason), ("Paris.", "r", raw, finish))
            self.assertEqual((SendResponse.from_chunks([got]).message, response.message), (message, message))
        beside = stream_of({"choices": [{"message": {"content": "so far"}, "delta": {"content": " far"}}]})
        self.assertEqual(text_of(ask(beside).chunks), " far")  # in events the delta counts (Perplexity)


def all_that_an_error_shows(error):
    """The texts that whoever catches an error can reach: of itself, and of what it came from."""
    while error is not None:
        yield from (str(error), repr(error), repr(error.args), repr(vars(error)), repr(pickle.dumps(error)))
        yield from traceback.format_exception(type(error), error, error.__traceback__)
        if error.__cause__ is not error.__context__ and error.__cause__ is not None:
            yield from all_that_an_error_shows(error.__cause__)
        error = error.__context__


class ErrorTest(unittest.TestCase):
    def test_error_bodies_give_one_readable_line(self):
        for name, body, code, message in ERROR_BODIES:
            with self.subTest(name):
                answer = sized(body, "502 Bad Gateway", X_Request_ID="r1", Request_ID="r2")
                got = ask(answer, method="send", max_retries=0)
                error, host = got.error, f"http://{got.requests[0].headers['host']}"
                message = message.replace("URL", f"{host}/v1/chat/completions")
                self.assertEqual((error.status, error.code, error.message), (502, code, message))
                self.assertEqual((str(error), error.request_id), (f"API error 502: {message}", "r1"))
                text = (body if isinstance(body, bytes) else json.dumps(body).encode()).decode("utf-8", "replace")
                self.assertEqual(error.body, text[: 64 * 1024])

    def test_events_that_are_errors(self):
        for name, sent, status, code, message in EVENT_ERRORS:
            with self.subTest(name):
                got = ask(stream_of(chunk("a"), sent))
                error = got.error
                self.assertEqual((text_of(got.chunks), type(error), len(got.requests)), ("a", APIError, 1))
                self.assertEqual((error.status, error.code, error.message), (status, code, message))
                self.assertEqual(str(error), f"API error{'' if status is None else f' {status}'}: {message}")

    def test_every_method_raises_the_same_error_and_names_the_url_where_it_helps(self):
        for answer, told in [
            (sized({"error": "No"}, "401 Unauthorized", Request_ID="r2"), "APIError: API error 401: No"),
            (sized({"error": "No"}, "404 Not Found", Request_ID="r2"), "APIError: API error 404: No"),
            (sized(b"", "404 X", Request_ID="r2"), "APIError: API error 404: X; is base_url right? http://HOST/v1/PATH was asked"),
        ]:  # fmt: skip
            for method in ("send", "stream", "models"):
                got = ask(answer, method=method)
                path = "models" if method == "models" else "chat/completions"
                self.assertEqual((got.told, got.error.request_id), (told.replace("PATH", path), "r2"))

    def test_an_endless_or_cut_error_body_is_an_error_all_the_same(self):
        start = head("500 Oops", Content_Length=100)
        for name, answer, body in [
            ("endless", [head("500 Oops", Connection="close"), *([b"x" * 65536] * 64)], "x" * 65536),
            ("cut", [start + b"abc", CLOSE], "abc"), ("reset", [start, RESET], ""), ("gzip", [sized(b"\x1f\x8b", "500 Oops", Content_Encoding="gzip")], ""),
        ]:  # fmt: skip
            with self.subTest(name):
                error = ask(answer, method="send", max_retries=0).error
                self.assertEqual((error.status, error.body), (500, body))

    def test_redirects_are_refused_and_the_key_goes_nowhere_else(self):
        with Gateway(HELLO) as other:
            for status in ("301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"):
                for location in (other.url, f"http://localhost:{other.port}/v1/chat/completions"):
                    for method in ("send", "stream", "models"):
                        with self.subTest(status, method=method):
                            got = ask(sized(b"", status, Location=location), method=method)
                            self.assertEqual((got.told, len(got.requests)), (f"APIError: API error {status[:3]}: redirect to {location} not followed,"
                                " for the key would go with it; see base_url", 1))  # fmt: skip
            self.assertEqual((other.connections, other.requests), (0, []))
        self.assertIn("redirect to nowhere not followed", ask(sized(b"", "302 Found"), method="send").told)

    def test_text_that_repeats_the_key_is_redacted(self):
        echo = f"bad key {KEY}!"
        long = "x" * 480 + KEY  # would be cut in the middle of it
        escaped = "".join(f"\\u{ord(c):04X}" if n % 2 else c for n, c in enumerate(KEY))
        nested = json.dumps({"error": json.dumps({"error": f"bad {escaped}"})})
        for name, answer in [
            ("JSON escapes", sized(f'{{"error": {{"message": "bad {escaped}"}}}}'.encode(), "401 Unauthorized")),
            ("JSON escapes in what is no JSON", stream_of(f"bad {escaped}")), ("JSON in JSON", sized(nested.encode(), "401 Unauthorized")),
            ("a body that is cut in it", sized(f"bad {KEY[:-5]}".encode(), "401 Unauthorized")),
            ("a body that is cut in an escape", sized(f"bad {escaped[:-3]}".encode(), "401 Unauthorized")),
            ("an error", sized({"error": {"message": echo, "code": KEY}}, "401 Unauthorized", X_Request_Id=KEY, X_Echo=KEY)),
            ("a code that is an object", sized({"error": {"message": "No", "code": {KEY: KEY}}}, "401 Unauthorized")),
            ("a long error", sized(long.encode(), "401 Unauthorized")), ("a reason", head(f"401 {KEY}", Content_Length=0)),
            ("a redirect", sized(b"", "307 Temporary", Location=f"http://127.0.0.1:1/?key={KEY}")),
            ("a page", sized(echo.encode(), content_type="text/html")), ("a content type", sized(b"", content_type=f"text/{KEY}")),
            ("an encoding", sized(b"", Content_Encoding=f"gzip, {KEY}")), ("an error event", stream_of({"error": {"message": echo}})),
            ("an event that is no JSON", stream_of(echo)), ("a long event that is no JSON", stream_of(long)),
            ("JSON that is none", sized(("{" + echo + "}").encode())), ("no HTTP", [f"{KEY} 200 OK\r\n\r\n".encode(), CLOSE]),
            ("a header that is none", with_header(HELLO, echo)), ("a length", [with_header(OPEN_HEAD, f"Content-Length: {KEY}"), CLOSE]),
            ("a coding", [with_header(OPEN_HEAD, f"Transfer-Encoding: {KEY}"), CLOSE]), ("a retry-after", sized(b"", "400 X", Retry_After=KEY)),
            ("a chunk's size", [STREAM_HEAD + f"{echo}\r\n".encode(), CLOSE]), ("a finish reason", sized({"choices": [], "error": {KEY: echo}})),
        ]:  # fmt: skip
            for method in ("send", "stream"):
                with self.subTest(name, method=method), mock.patch.object(http.client.HTTPConnection, "debuglevel", 1):
                    with self.assertLogs("edgee", "DEBUG") as logs, contextlib.redirect_stdout(io.StringIO()) as output:
                        got = ask(answer, method=method, max_retries=0)
                    self.assertIsInstance(got.error, EdgeeError)
                    shown = [*all_that_an_error_shows(got.error), *logs.output, output.getvalue()]
                    parts = (KEY[:8], KEY[-8:], escaped[:16], escaped[-16:])
                    self.assertEqual([text for text in shown if any(part in text for part in parts)], [])

    def test_errors_survive_pickle_and_copy(self):
        body = {"error": {"message": "No", "code": "c"}}
        refused = ask(sized(body, "429 Slow", Retry_After="90", X_Request_Id="r")).error
        others = (EdgeeError, NetworkError, RequestTimeoutError, StreamInterruptedError, ProtocolError)
        for error in (refused, *(kind("text") for kind in others)):
            for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
                self.assertEqual((told(twin), twin.args, vars(twin)), (told(error), error.args, vars(error)))
        twin = pickle.loads(pickle.dumps(refused))
        self.assertEqual((twin.status, twin.code, twin.request_id, twin.retry_after), (429, "c", "r", 90))
        self.assertEqual(twin.headers["Retry-AFTER"], "90")

    def test_the_tree_of_errors(self):
        for error, bases in [
            (EdgeeError, [RuntimeError]), (APIError, [EdgeeError]), (ProtocolError, [EdgeeError]), (NetworkError, [EdgeeError, OSError]),
            (RequestTimeoutError, [NetworkError, TimeoutError]), (StreamInterruptedError, [NetworkError]),
        ]:  # fmt: skip
            self.assertEqual([base for base in bases if not issubclass(error, base)], [])

    def test_the_log_says_what_was_sent_what_came_and_why_a_retry_waits_and_an_audit_hook_does_not_see_the_key(self):
        def hear(name, arguments):
            if hearing and name.startswith(("urllib", "http")):
                seen.append(repr(arguments))

        seen, hearing = [], [True]
        if hasattr(sys, "addaudithook"):  # not on PyPy
            sys.addaudithook(hear)
        with self.assertLogs("edgee", "DEBUG") as logs:
            got = ask(sized(b"", "503 Busy", X_Request_Id="r1\x1b]0;pwned\x07"), HELLO)
        hearing.clear()
        url = f"http://{got.requests[0].headers['host']}/v1/chat/completions"
        self.assertEqual([record.getMessage() for record in logs.records], [
            f"POST {url}, attempt 1", "503 Busy, request id r1 ]0;pwned", f"trying again in {got.waits[0]:.2f} s: API error 503: Busy",
            f"POST {url}, attempt 2", "200 OK, request id None",
        ])  # fmt: skip
        self.assertEqual({record.levelno for record in logs.records}, {logging.DEBUG})
        self.assertNotIn(KEY, "".join(seen))

    def test_the_wait_doubles_up_to_8_seconds_with_jitter(self):
        pauses = ask(sized(b"", "503 Busy"), max_retries=12).waits
        for seconds, longest in zip(pauses, [0.5, 1, 2, 4, *[8] * 8]):
            self.assertTrue(0.75 * longest <= seconds <= longest, pauses)
        self.assertGreater(len({round(seconds, 9) for seconds in pauses[4:]}), 1)

    def test_the_request_that_is_tried_again_is_byte_for_byte_the_first(self):
        input = {"messages": [Message("user", "é")], "x": {"b": 1, "a": 2}, "output_brevity": True}
        with serving([CLOSE], sized(b"", "503 Busy"), HELLO) as (gateway, client), waits():
            self.assertEqual(text_of(client.stream("m", input)), "Hello")
        self.assertEqual((len({request.raw for request in gateway.requests}), len(gateway.requests)), (1, 3))

    def test_a_connection_that_cannot_be_made_is_tried_again(self):
        with socket.create_server(("127.0.0.1", 0)) as server:
            refusing = f"127.0.0.1:{server.getsockname()[1]}"
        for host in (refusing, "no-such-host.invalid", "a..b", "x" * 70):
            unknown = mock.patch.object(socket, "getaddrinfo", mock.Mock(side_effect=socket.gaierror(8, "unknown")))
            with self.subTest(host), unknown if host.endswith("invalid") else contextlib.nullcontext():
                got = ask(HELLO, base_url=f"http://{host}")
                self.assertRegex(got.told, f"^NetworkError: could not connect to {host}: ")
                self.assertEqual(len(got.waits), 2)
                self.assertIs(type(got.error.__cause__) is ConnectionRefusedError, host == refusing)


# ---- Time, the end of a call, addresses, TLS, proxies, kept connections, threads; and everything at once ------------


CLOSED = "StreamInterruptedError: the client was closed before the answer was complete"


class Halting(Gateway):
    """A server that takes a byte, says something and then stops, or goes on to say something again and again.

    `stopped` tells that it came so far. If it has nothing to say (None) nobody can connect to it.
    """

    def __init__(self, says, again=b""):
        self.says, self.again, self.stack = says, again, contextlib.ExitStack()
        self.stopped, self.over = threading.Event(), threading.Event()
        super().__init__()
        if says is None:
            self._fill_a_backlog()

    def _fill_a_backlog(self):
        def connect(*arguments):
            self.stopped.set()
            try:
                return connect_socket(*arguments)
            finally:
                self.closed.release()

        connect_socket = edgee.connect_socket
        self.stack.enter_context(mock.patch.object(edgee, "connect_socket", connect))
        full = self.stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        self.url = f"http://127.0.0.1:{full.getsockname()[1]}"
        for _ in range(4):
            one = self.stack.enter_context(socket.socket())
            one.setblocking(False)
            one.connect_ex(full.getsockname())

    def _serve(self, connection):
        with connection, contextlib.suppress(OSError):
            connection.recv(1)
            connection.sendall(self.says)
            self.stopped.set()
            connection.setblocking(False)
            data = b"x"
            while data and not self.over.wait(0.02):
                with contextlib.suppress(BlockingIOError):
                    data = connection.recv(4096)  # of an upload too little to come to its end
                connection.sendall(self.again)
        self.closed.release()

    def __exit__(self, *error):
        self.over.set()
        self.stack.close()
        super().__exit__(*error)

    def client(self, url, timeout, max_retries=2):
        settings = {"base_url": url.replace("HOST", self.url[7:]), "timeout": timeout, "max_retries": max_retries}
        client = Edgee({"api_key": KEY, **settings})
        client._transport.proxies = {"https": self.url} if "HOST" not in url else {}  # as the environment would say
        return client


TO_SERVER, TO_PROXY = "http://HOST", "https://gateway.invalid"
NO_ANSWER, NO_EVENT = (f"RequestTimeoutError: no {what} from HOST within 1 s" for what in ("answer", "event"))
PROXY_SILENT = "RequestTimeoutError: could not connect to the proxy HOST that HTTPS_PROXY names: timed out"
HALTS = [
    # where it stops, what the server says before, and then again and again, the base URL, the error when time is up, if it ever is
    ("TLS", b"", b"", "https://HOST", "RequestTimeoutError: could not connect to HOST: timed out"),
    ("CONNECT", b"", b"", TO_PROXY, PROXY_SILENT),
    ("half of CONNECT", b"HTTP/1.1 200 OK\r\nX:", b"", TO_PROXY, PROXY_SILENT),
    ("TLS behind CONNECT", head("200 OK"), b"", TO_PROXY, PROXY_SILENT),
    ("upload", b"", b"", TO_SERVER, NO_ANSWER),
    ("answer", b"", b"", TO_SERVER, NO_ANSWER),
    ("half a head", b"HTTP/1.1 200 OK\r\nX: y", b"", TO_SERVER, NO_ANSWER),
    ("a head that trickles", b"", b"H", TO_SERVER, NO_ANSWER),
    ("interim answers", head("100 Continue") * 10, b"", TO_SERVER, NO_ANSWER),
    ("first event", STREAM_HEAD, b"", TO_SERVER, NO_EVENT),
    ("first event, comments", STREAM_HEAD, in_chunks(b": ping\n\n"), TO_SERVER, NO_EVENT),
    ("first event, a chunk's size that trickles", STREAM_HEAD + b"5;", b"x", TO_SERVER, NO_EVENT),
    ("first event, a line that trickles", OPEN_HEAD + b"data: ", b"x", TO_SERVER, NO_EVENT),
    ("second event", begun(chunk("a"), b"data: "), b"", TO_SERVER, NO_EVENT),
    ("second event, which trickles", begun(chunk("a")), in_chunks(b"data: x\n"), TO_SERVER, NO_EVENT),
    *((f"an event, {again}", OPEN_HEAD + before, again, TO_SERVER, NO_EVENT)
        for before in (b"", event(chunk("a"))) for again in (b"", b": ping\n\n", b"data:\n\n", b"\n")),
    ("JSON", sized(COMPLETION)[:-1], b"", TO_SERVER, "RequestTimeoutError: no whole answer from HOST within 1 s"),
    ("error body", head("400 No", Content_Length=9) + b"abc", b"", TO_SERVER, "APIError: API error 400: abc"),
    ("page", head(Content_Type="text/html") + b"abc", b"", TO_SERVER, NO_PAGE.replace("<p>Log in</p>", "abc")),
    ("retry", sized(b"", "503 Busy", Retry_After="50", Connection="close"), b"", TO_SERVER, None),
]  # fmt: skip
if sys.platform == "linux":  # elsewhere a full backlog may refuse
    HALTS.append(("connect", None, b"", TO_SERVER, "RequestTimeoutError: could not connect to HOST: timed out"))


def prompt_of(name):
    return "x" * (16 << 20) if name == "upload" else "Hi"


class TimeTest(unittest.TestCase):
    def test_nothing_keeps_a_stalled_answer_alive(self):
        """All of them at once; without a limit of its own each would last until the test is over."""

        def wait(name, says, again, url, message):
            # What may be under way, and paid for, is not sent again.
            retries = 0 if "could not connect" in message else 2
            with Halting(says, again) as gateway, gateway.client(url, 1, retries) as client:
                chunks, error = drain(client.stream("m", prompt_of(name)))
                return text_of(chunks), told(error).replace(gateway.url[7:], "HOST"), gateway.connections

        rows = [row for row in HALTS if row[-1]]
        with waits() as waited:
            outcomes = [result() for result in [in_thread(functools.partial(wait, *row)) for row in rows]]
        for (name, says, _, _, message), outcome in zip(rows, outcomes):
            with self.subTest(name):
                self.assertEqual(outcome, ("a" * (b'"a"' in (says or b"")), message, 0 if says is None else 1))
        self.assertEqual(waited, [])

    def test_close_ends_each_wait_at_once(self):
        for name, says, again, url, _ in HALTS:
            with self.subTest(name), Halting(says, again) as gateway, gateway.client(url, 600) as client:
                result = in_thread(lambda: drain(client.stream("m", prompt_of(name)))[1])
                self.assertTrue(gateway.stopped.wait(WAIT))
                begun = time.monotonic()
                client.close()
                self.assertEqual(told(result()), CLOSED)
                self.assertLess(time.monotonic() - begun, 5)  # nothing else ends it within 10 s
                self.assertTrue(name == "upload" or gateway.closed.acquire(timeout=WAIT))

    def test_close_ends_the_wait_for_the_end_of_the_last_answer(self):
        def look(connection, limit):
            looking.set()
            return is_reusable(connection, limit)

        is_reusable, looking = edgee._Connection.is_reusable, threading.Event()
        patient = mock.patch.object(edgee, "_DRAIN_SECONDS", 600)
        with serving([HELLO[:-5], HANG], timeout=600) as (gateway, client), patient:
            self.assertEqual(text_of(client.stream("m", "Hi")), "Hello")
            with mock.patch.object(edgee._Connection, "is_reusable", look):
                result = in_thread(lambda: drain(client.stream("m", "Hi"))[1])
                self.assertTrue(looking.wait(WAIT))
                client.close()
                self.assertEqual(told(result()), CLOSED)
            self.assertEqual(len(gateway.requests), 1)

    def test_connecting_and_sending_are_part_of_the_time_that_an_answer_may_take(self):
        """Virtual time: the first step takes 8 of 10 seconds, and the answer 3 more."""

        def pass_time(seconds):
            clock.now += seconds

        def connect(*arguments):
            connect_socket(*arguments)
            pass_time(0 if sent else 8)

        connect_socket = edgee.connect_socket
        for sent in ([], [lambda: pass_time(8), head("100 Continue")]):
            slow = mock.patch.object(edgee, "connect_socket", connect)
            with slow, virtual_time() as clock, serving([*sent, lambda: pass_time(3), HANG], timeout=10) as (_, client):
                self.assertIs(type(drain(results(client))[1]), RequestTimeoutError)

    def test_every_method_has_its_timeout_the_call_s_before_the_client_s(self):
        for method, settings, options in [
            ("send", {}, {"timeout": 0.1}), ("stream", {}, {"timeout": 0.1}), ("models", {"timeout": 0.1}, {}), ("stream", {"timeout": 0.1}, {}),
        ]:  # fmt: skip
            with self.subTest(method, options=options):
                got = ask([HANG], method=method, options=options, **settings)
                self.assertEqual(got.told, "RequestTimeoutError: no answer from HOST within 0.1 s")

    def test_a_timeout_longer_than_sockets_can_wait_is_cut_to_what_they_can(self):
        self.assertEqual(text_of(ask(HELLO, timeout=1e300, options={"timeout": 10**15}).chunks), "Hello")

    def test_the_wait_begins_anew_with_each_event_and_not_while_the_caller_thinks(self):
        """Virtual time: each event takes 9 of 10 seconds, and so does the caller with each chunk, and between two requests."""
        asked = threading.Semaphore(0)

        def pass_time():
            clock.now += 9

        answer = [STREAM_HEAD]
        for document in (chunk("a"), chunk("b"), "[DONE]"):
            answer += [lambda: asked.acquire(timeout=WAIT), pass_time, in_chunks(event(document))]
        answer.append(b"0\r\n\r\n")
        with virtual_time() as clock, serving(answer, timeout=10) as (gateway, client):
            for _ in range(2):
                generator = client.stream("m", "Hi")
                for word in ("a", "b", None):
                    asked.release()  # no event is sent before it is waited for
                    self.assertEqual(getattr(next(generator, None), "text", None), word)
                    pass_time()
            self.assertEqual((len(gateway.requests), gateway.connections), (2, 1))

    def test_connecting_takes_10_seconds_at_most_of_which_each_address_has_its_share(self):
        tried = []

        def connect_socket(sock, address, call, seconds):
            tried.append((address[0], round(seconds, 1)))
            clock.now += seconds
            raise socket.timeout("timed out")

        addresses = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (f"192.0.2.{n}", 80)) for n in (1, 2)]
        lookup = mock.patch.object(socket, "getaddrinfo", lambda *_, **__: addresses)
        with lookup, mock.patch.object(edgee, "connect_socket", connect_socket):
            for timeout, share in [(600, 5.0), (1, 0.5)]:
                tried.clear()
                with virtual_time() as clock:
                    got = ask(HELLO, base_url="http://black.hole", timeout=timeout)
                self.assertEqual(got.told, "RequestTimeoutError: could not connect to black.hole: timed out")
                self.assertEqual((tried, len(got.waits)), ([("192.0.2.1", share), ("192.0.2.2", share)] * 3, 2))

    def test_a_connection_may_take_a_while(self):
        def connect_ex(sock, address):
            connect(sock, address)
            return errno.EINPROGRESS

        def select(selector, seconds):
            waited.append(seconds)
            return ready(selector, seconds) if len(waited) > 2 else []

        connect, ready, waited = socket.socket.connect_ex, selectors.DefaultSelector.select, []
        with mock.patch.object(socket.socket, "connect_ex", connect_ex):
            with mock.patch.object(selectors.DefaultSelector, "select", select):
                self.assertEqual(ask(HELLO, max_retries=0).error, None)
        self.assertEqual([seconds for seconds in waited if not 0 < seconds <= 0.25], [])  # or close() is seen late

    def test_a_time_out_of_the_network_is_a_connection_that_broke(self):
        def recv_into(sock, *arguments):
            if sock.getpeername()[1] == gateway.port:
                raise TimeoutError(errno.ETIMEDOUT, "Connection timed out")
            return received(sock, *arguments)

        received = socket.socket.recv_into
        with serving(HELLO) as (gateway, client), waits() as waited:
            with mock.patch.object(socket.socket, "recv_into", recv_into):
                error = drain(results(client))[1]
            self.assertEqual((type(error), len(waited)), (NetworkError, 2))

    def test_sockets_have_keepalive_and_send_at_once(self):
        def record(sock, address):
            opened.append(sock)
            return connect(sock, address)

        connect, opened = socket.socket.connect_ex, []
        with mock.patch.object(socket.socket, "connect_ex", record), serving([HELLO[:-5], HANG]) as (gateway, client):
            generator = client.stream("m", "Hi")
            next(generator)
            options = [(socket.SOL_SOCKET, "SO_KEEPALIVE"), (socket.IPPROTO_TCP, "TCP_NODELAY")]
            for level, option in options:
                self.assertTrue(opened[0].getsockopt(level, getattr(socket, option)), option)
            if hasattr(socket, "TCP_KEEPIDLE"):
                self.assertEqual(opened[0].getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE), 60)
            generator.close()


class CloseTest(unittest.TestCase):
    def test_close_ends_a_stream_over_tls_or_on_a_kept_connection_and_a_later_call_opens_a_new_one(self):
        half = begun(chunk("a"))
        for tls, first, start in (
            (True, [], OPEN_HEAD + event(chunk("a"))),
            (False, [HELLO], b""),
            (True, [HELLO], half),
        ):
            waiting = threading.Event()
            answers = [*first, [start, waiting.set, HANG], HELLO]
            with self.subTest(first=first, start=start), serving(*answers, tls=tls) as (gateway, client):
                for _ in first:
                    list(client.stream("m", "Hi"))
                result = in_thread(lambda: drain(client.stream("m", "Hi"))[1])
                self.assertTrue(waiting.wait(WAIT))
                client.close()
                self.assertEqual(told(result()), CLOSED)
                self.assertEqual(text_of(client.stream("m", "Hi")), "Hello")
                self.assertEqual((gateway.connections, len(gateway.requests)), (2, len(first) + 2))

    def test_close_while_a_connection_is_being_made(self):
        def close_and_connect(sock, address):
            client.close()
            return connect(sock, address)

        connect = socket.socket.connect_ex
        with serving(HELLO) as (gateway, client):
            with mock.patch.object(socket.socket, "connect_ex", close_and_connect):
                error = drain(results(client, "send"))[1]
            self.assertEqual((told(error), gateway.requests), (CLOSED, []))

    def test_a_generator_that_is_closed_or_dropped_frees_its_connection_at_once(self):
        def raise_inside(generators):
            with self.assertRaises(KeyError):
                generators[0].throw(KeyError)

        for end in (lambda generators: generators[0].close(), list.clear, raise_inside):
            with serving([begun(chunk("a")) * 2, HANG], HELLO) as (gateway, client):
                generators = [client.stream("m", "Hi")]
                for _ in generators[0]:
                    break
                end(generators)
                gc.collect() if sys.implementation.name != "cpython" else None  # which counts references
                self.assertTrue(gateway.closed.acquire(timeout=WAIT), end)  # the server has seen it
                self.assertEqual(text_of(client.stream("m", "Hi")), "Hello")
                self.assertEqual(gateway.connections, 2)

    def test_a_client_that_is_closed_left_or_dropped_leaves_no_socket_and_may_be_used_again(self):
        def drop_in_a_cycle(clients):
            client = clients.pop()
            client.cycle = client

        def leave(clients):
            with clients[0]:
                pass

        with Gateway(HELLO) as gateway, warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for end in (list.clear, drop_in_a_cycle, leave, lambda clients: clients[0].close()):
                clients = [gateway.client()]
                list(clients[0].stream("m", "Hi"))
                self.assertFalse(gateway.closed.acquire(blocking=False))
                end(clients)
                gc.collect()
                self.assertTrue(gateway.closed.acquire(timeout=WAIT), end)
                for client in clients:
                    list(client.stream("m", "Hi"))
                    client.close()
                    client.close()
                    self.assertTrue(gateway.closed.acquire(timeout=WAIT), end)
            self.assertEqual(gateway.connections, 6)
        self.assertEqual([str(warning.message) for warning in caught], [])

    def test_a_stream_outlives_the_name_of_its_client(self):
        with Gateway(HELLO) as gateway:
            self.assertEqual(text_of(gateway.client().stream("m", "Hi")), "Hello")


ADDRESSES = [
    # base URL, environment, the host and port that are looked up
    ("http://a.invalid", {}, ("a.invalid", 80)), ("HTTPS://a.invalid", {}, ("a.invalid", 443)), ("https://a.invalid:8443/x", {}, ("a.invalid", 8443)),
    ("https://[::1]", {}, ("::1", 443)), ("http://[::1]:80", {}, ("::1", 80)), ("https://a.invalid", {"HTTP_PROXY": "http://p"}, ("a.invalid", 443)),
    *((f"{scheme}://a.invalid", {f"{scheme}_proxy": proxy}, ("p", port)) for scheme in ("http", "https")
        for proxy, port in (("http://p", 80), ("p:3128", 3128), ("http://u:w@p:1", 1))),
    ("https://[::1]", {"HTTPS_PROXY": "http://p", "NO_PROXY": "::1"}, ("::1", 443)),
    ("https://a.invalid", {"HTTPS_PROXY": "http://p", "NO_PROXY": "b, .invalid"}, ("a.invalid", 443)),
    ("https://a.invalid", {"HTTPS_PROXY": "http://p", "NO_PROXY": "*"}, ("a.invalid", 443)),
]  # fmt: skip


@mock.patch.dict(os.environ)  # put back after each test
class TLSAndProxyTest(unittest.TestCase):
    def test_a_request_goes_to_the_address_that_the_url_and_the_environment_name(self):
        for url, environment, expected in ADDRESSES:
            lookup = mock.Mock(side_effect=socket.gaierror(8, "unknown"))
            with self.subTest(url, **environment), mock.patch.dict(os.environ, environment):
                with mock.patch.object(socket, "getaddrinfo", lookup):
                    self.assertIsInstance(ask(HELLO, base_url=url, max_retries=0).error, NetworkError)
                self.assertEqual([made[0][:2] for made in lookup.call_args_list], [expected])

    def test_an_address_that_this_system_cannot_use_is_passed_over(self):
        """Systems without IPv6 refuse its sockets; macOS refuses options of a socket that was closed already."""

        class Socket(socket.socket):
            def __init__(self, family=-1, *arguments, **options):
                self.refuses = family == socket.AF_INET6
                if self.refuses and refused == "__init__":
                    raise OSError("there is no such family")
                made.append(self)
                super().__init__(socket.AF_INET if self.refuses else family, *arguments, **options)

            def setsockopt(self, *arguments):
                if self.refuses and refused == "setsockopt":
                    raise OSError("invalid argument")
                super().setsockopt(*arguments)

        for refused in ("__init__", "setsockopt"):
            made = []
            with self.subTest(refused), serving(HELLO, max_retries=0) as (gateway, client):
                families, address = (socket.AF_INET6, socket.AF_INET), ("127.0.0.1", gateway.port)
                addresses = [(family, socket.SOCK_STREAM, 6, "", address) for family in families]
                lookup = mock.patch.object(socket, "getaddrinfo", lambda *_, **__: addresses)
                with lookup, mock.patch.object(socket, "socket", Socket):
                    self.assertEqual(text_of(client.stream("m", "Hi")), "Hello")
            self.assertEqual([one.fileno() for one in made], [-1] * len(made))

    def test_a_certificate_is_trusted_by_ssl_cert_file_alone_and_for_its_host_and_time_else_it_is_final(self):
        lookup = functools.partial(socket.getaddrinfo, "127.0.0.1")
        here = mock.patch.object(socket, "getaddrinfo", lambda host, *more, **named: lookup(*more, **named))
        expired = server_context(EXPIRED_FILE)
        for tls, host, trusted, problem in [
            (True, "127.0.0.1", "", "self[- ]signed certificate"), (True, "other.invalid", CERTIFICATE_FILE, "Hostname mismatch, .*"),
            (expired, "127.0.0.1", EXPIRED_FILE, "certificate has expired"),
        ]:  # fmt: skip
            os.environ.pop("SSL_CERT_FILE", None)
            os.environ.update({"SSL_CERT_FILE": trusted} if trusted else {})
            with self.subTest(problem), Gateway(HELLO, tls=tls) as gateway, waits() as waited, here:
                with gateway.client(base_url=f"https://{host}:{gateway.port}") as client:
                    error = drain(results(client))[1]
                self.assertRegex(str(error), rf"^the certificate of {host}:{gateway.port} is not trusted: {problem};"
                    " if you trust it, name its CA's file in SSL_CERT_FILE$")  # fmt: skip
                self.assertIsInstance(error.__cause__, ssl.SSLCertVerificationError)
                self.assertEqual((waited, gateway.requests), ([], []))

    def test_a_cut_without_a_close_notify_is_a_cut(self):
        for method, answer in [
            ("stream", begun(chunk("a"))), ("stream", OPEN_HEAD + event(chunk("a"))),
            ("stream", head(Content_Type="text/event-stream", Content_Length=999) + event(chunk("a", "stop"))),
            ("send", sized(COMPLETION)[:-1]), ("send", head(Content_Type="application/json") + b'{"choices": ['),
        ]:  # fmt: skip
            with self.subTest(answer):
                self.assertIs(type(ask([answer, CLOSE], method=method, tls=True).error), StreamInterruptedError)

    def test_a_store_of_certificates_that_cannot_be_read_is_final(self):
        broken = mock.patch.object(ssl, "create_default_context", side_effect=PermissionError(13, "Permission denied"))
        with broken, Gateway(HELLO) as other:
            got = ask(HELLO, base_url=f"https://127.0.0.1:{other.port}")
        self.assertRegex(got.told, "^NetworkError: the trusted certificates of this system cannot be read: .*denied$")
        self.assertEqual((type(got.error.__cause__), got.waits), (PermissionError, []))

    def test_certifi_stands_in_only_where_the_system_has_no_certificates(self):
        certifi, no_use = mock.Mock(where=lambda: CERTIFICATE_FILE), mock.Mock(where=None)
        nowhere = {"SSL_CERT_FILE": os.devnull, "SSL_CERT_DIR": os.devnull}
        for store, module, text in (({}, no_use, "Hello"), (nowhere, certifi, "Hello"), (nowhere, None, "")):
            os.environ.update(store)
            with mock.patch.dict(sys.modules, {"certifi": module}):
                self.assertEqual(text_of(ask(HELLO, tls=True).chunks), text)

    def test_a_server_that_speaks_no_tls_is_tried_again_and_named(self):
        class Plain(Gateway):
            def _serve(self, connection):
                connection.sendall(sized(b"", "400 Bad"))
                super()._serve(connection)

        with Plain(HELLO) as gateway, waits() as waited:
            with gateway.client(base_url=f"https://127.0.0.1:{gateway.port}") as client:
                error = drain(results(client))[1]
        self.assertRegex(told(error), f"^NetworkError: could not connect to {gateway.url[7:]}: ")
        self.assertEqual((len(waited), gateway.connections, gateway.requests), (2, 3, []))

    def test_ten_requests_make_one_handshake_also_when_the_end_of_the_body_is_late(self):
        make = mock.patch.object(ssl, "create_default_context", side_effect=ssl.create_default_context)
        # On a busy machine 5 ms may become more than the tenth of a second that is allowed.
        patient = mock.patch.object(edgee, "_DRAIN_SECONDS", WAIT)
        for answer in ([HELLO], [HELLO[:-5], lambda: time.sleep(0.005), HELLO[-5:]], [sized(COMPLETION)]):
            with patient, make as made, serving(answer, tls=True) as (gateway, client):
                for _ in range(10):
                    list(client.stream("m", "Hi"))
                client.close()
                list(client.stream("m", "Hi"))
                self.assertEqual((len(gateway.requests), gateway.connections, made.call_count), (11, 2, 1))

    def test_twenty_requests_of_ten_threads_make_at_most_ten_handshakes(self):
        with serving(HELLO, tls=True) as (gateway, client):
            texts = [in_thread(lambda: [text_of(client.stream("m", "Hi")) for _ in range(2)]) for _ in range(10)]
            self.assertEqual([result() for result in texts], [["Hello"] * 2] * 10)
            self.assertLessEqual(gateway.connections, 10)

    def test_https_goes_through_a_proxy_that_never_sees_the_key(self):
        names = []
        with Gateway(HELLO, tls=True) as gateway, Proxy() as proxy:
            gateway.tls.sni_callback = lambda sock, name, context: names.append(name)
            for user, sent in (("", None), ("user:pass%21@", "Basic dXNlcjpwYXNzIQ=="), ("token@", "Basic dG9rZW46")):
                os.environ["HTTPS_PROXY"] = proxy.url.replace("//", f"//{user}")
                with gateway.client(base_url=f"https://localhost:{gateway.port}") as client:
                    for _ in range(2):
                        self.assertEqual(text_of(client.stream("m", "Hi")), "Hello")
                seen = proxy.seen[-1]
                self.assertEqual(
                    (seen.method, seen.path, seen.headers["host"]), ("CONNECT", *2 * [f"localhost:{gateway.port}"])
                )
                self.assertEqual(seen.headers.get("proxy-authorization"), sent)
            self.assertEqual((len(proxy.seen), names, KEY in repr(proxy.seen)), (3, ["localhost"] * 3, False))
            self.assertEqual({request.headers.get("proxy-authorization") for request in gateway.requests}, {None})
            self.assertEqual(gateway.requests[0].headers["authorization"], f"Bearer {KEY}")

    def test_any_2xx_opens_a_tunnel_and_a_proxy_that_is_none_or_dead_is_named(self):
        for opened in (head("204 No Content"), head("299 \x1b", Transfer_Encoding="gzip"), head(Content_Length="5, 5")):
            with Proxy(opened=opened) as proxy:
                os.environ["HTTPS_PROXY"] = proxy.url
                self.assertEqual(ask(HELLO, tls=True, max_retries=0).told, "")
        address = proxy.url[7:]
        for scheme, waited, url, problem in [
            *((scheme, 1, f"http://me:password@{address}", f"could not connect to the proxy {address} that VARIABLE names: ") for scheme in ("https", "http")),
            *(("http", 0, url, "the proxy that VARIABLE names is not a valid URL") for url in ("http://a:b", "http://", "http:///x", f"http://u:{KEY}@:1")),
            *(("http", 0, f"{kind}://p:1", f"VARIABLE names a {kind} proxy: only http:// is supported") for kind in ("socks5", "https")),
        ]:  # fmt: skip
            variable = f"{scheme.upper()}_PROXY"
            os.environ[variable] = url
            expected = "NetworkError: " + problem.replace("VARIABLE", variable)
            with self.subTest(url):
                got = ask(HELLO, base_url=f"{scheme}://gateway.invalid", max_retries=1)
                self.assertEqual(got.told[: len(expected)] if waited else got.told, expected)
                self.assertEqual(len(got.waits), waited)

    def test_http_goes_through_a_proxy_unless_no_proxy_names_the_host(self):
        with Proxy() as proxy:
            for variables, seen in (({"http_proxy": proxy.url}, 1), ({"NO_PROXY": "127.0.0.1"}, 0)):
                os.environ.update(variables)
                proxy.seen.clear()
                got = ask(HELLO)
                url = f"http://{got.requests[0].headers['host']}/v1/chat/completions"
                self.assertEqual([request.path for request in proxy.seen], [url] * seen)

    def test_a_refusal_of_the_proxy_names_its_status(self):
        for status, asked in [("407 Proxy Authentication Required", 1), ("503 Unavailable", 3)]:
            with Proxy(refusal=head(status, Content_Length=0, Connection="close")) as proxy:
                os.environ["HTTPS_PROXY"] = os.environ["HTTP_PROXY"] = proxy.url
                got = ask(HELLO, base_url="https://gateway.invalid")
                named = f"the proxy {proxy.url[7:]} that HTTPS_PROXY names"
                self.assertEqual(got.told, f"NetworkError: {named} refused: {status}")
                self.assertEqual([request.path for request in proxy.seen], ["gateway.invalid:443"] * asked)
                got = ask(HELLO, base_url="http://gateway.invalid")
                self.assertEqual(got.told, f"APIError: API error {status[:3]}: {status[4:]}")
                self.assertEqual((len(proxy.seen), len(got.waits)), (2 * asked, asked - 1))

    @unittest.skipIf(os.name == "nt", "a reset discards there what was received before it")
    def test_an_answer_that_comes_before_the_request_was_read_is_not_lost(self):
        """A server may say 413 and hang up while a large body is still being sent."""

        class Hasty(Gateway):
            def _read(self, stream):
                return stream.read1(1000)

            def _answer(self, connection, request):
                connection.sendall(sized({"error": "too large"}, "413 Too Large", Connection="close"))

        for tls in (False, True):
            with self.subTest(tls=tls), Hasty(tls=tls) as gateway, gateway.client(max_retries=0) as client:
                error = drain(client.stream("m", "x" * (8 << 20)))[1]
                self.assertEqual(str(error), "API error 413: too large")


KEPT = [
    # name, the answers, the text or the error of a second request, and where they differ from (1, 2, []): connections, requests, waits
    *((f"kept: {name}", [answer, HELLO], "Hello") for name, answer in (("a stream", HELLO), ("JSON", sized(COMPLETION)), ("404", sized({"error": "No"}, "404 X")),
        ("a trailer", begun(chunk("a"), "[DONE]", b": bye\n\n") + b"0\r\nX: y\r\n\r\n"), ("503, max_retries=0", sized(b"", "503 X")))),
    *((f"not kept: {name}", [answer, HELLO], "Hello", 2) for name, answer in (
        ("Connection: close", with_header(HELLO, "Connection: close")), ("no end of the body within 0.1 s", [HELLO[:-5], HANG]),
        ("a flood after [DONE]", [HELLO[:-5], *[in_chunks(b": x\n" * 10_000)] * 400]), ("HTTP/1.0", HELLO.replace(b"1.1", b"1.0")),
        ("an answer that is none", stream_of("nonsense")), ("an answer that is not complete", stream_of(chunk("a"), done=False)),
        ("an error whose body hangs", [head("404 X", Content_Length=10) + b"abc", HANG]), ("more than its length", [sized(COMPLETION) + b"}", HANG]))),
    ("closed when the next request comes, asked again at once", [HELLO, [CLOSE], HELLO], "Hello", 2, 3, [0.0]),
    ("closed when the next request comes, max_retries=0", [HELLO, [CLOSE], HELLO], NetworkError),
    ("silent when the next request comes, not asked again", [HELLO, [HANG]], RequestTimeoutError),
]  # fmt: skip


class KeptConnectionTest(unittest.TestCase):
    def ask_twice(self, *answers, before=lambda gateway: None, **settings):
        """Return the second answer's text or the class of its error, the connections, the requests, the waits."""
        with serving(*answers, **settings) as (gateway, client), waits() as waited:
            drain(client.stream("m", "Hi"))
            before(gateway)
            chunks, error = drain(client.stream("m", "Hi"))
            return type(error) if error else text_of(chunks), gateway.connections, len(gateway.requests), waited

    def test_which_connections_are_used_again(self):
        for name, answers, came, *more in KEPT:
            with self.subTest(name):
                timeout, begun = 0.5 if "hangs" in name or "silent" in name else WAIT, time.monotonic()
                settings = {"timeout": timeout, "max_retries": 0 if "max_retries=0" in name else 2}
                self.assertEqual(self.ask_twice(*answers, **settings), (came, *more, *(1, 2, [])[len(more) :]))
                self.assertLess(time.monotonic() - begun, 5)  # and not until the time-out

    def test_a_connection_that_died_while_idle_is_replaced_without_an_error(self):
        garbage = [b"HTTP/1.1 200 OK\r\n\r\n", lambda: sent.set(), HANG]
        for end in ([CLOSE], [RESET], [head("408 Timeout"), CLOSE], garbage):
            sent = threading.Event()
            with self.subTest(end):
                seen = self.ask_twice([HELLO, *end], HELLO, max_retries=0, before=lambda gateway: self.assertTrue(
                    sent.wait(WAIT) if HANG in end else gateway.closed.acquire(timeout=WAIT)))  # fmt: skip
                self.assertEqual(seen, ("Hello", 2, 2, []))

    def test_none_is_kept_for_over_60_seconds(self):
        for seconds, connections in ((59, 1), (61, 2)):
            with virtual_time() as clock:
                seen = self.ask_twice(HELLO, before=lambda gateway: setattr(clock, "now", clock.now + seconds))
                self.assertEqual(seen, ("Hello", connections, 2, []))

    def test_ten_are_kept_at_most(self):
        with serving(HELLO) as (gateway, client):
            for connections in (12, 14):
                generators = [client.stream("m", "Hi") for _ in range(12)]
                for generator in generators:
                    next(generator)
                self.assertEqual([text_of(generator) for generator in generators], ["lo"] * 12)
                self.assertEqual(gateway.connections, connections)


DAEMONS = """
import threading, edgee
client, reading = edgee.Edgee(), threading.Semaphore(0)
def read():
    for chunk in client.stream("m", "Hi"):
        reading.release()
for _ in range(4):
    threading.Thread(target=read, daemon=True).start()
for _ in range(8):
    reading.acquire()
"""


class WorstMomentTest(unittest.TestCase):
    @unittest.skipUnless(sys.implementation.name == "cpython", "needs reference counting")
    def test_ctrl_c_at_any_call_leaves_no_connection_open_and_no_lock_held(self):
        """A KeyboardInterrupt at each third call of a request, on a new connection and on a kept one."""

        def interrupt(frame, name, argument):
            # Between the end of a block and its __exit__() no signal is looked for, but 3.12 profiles there.
            nonlocal left
            if frame.f_code.co_filename == edgee.__file__ and getattr(argument, "__name__", "") != "__exit__":
                left -= 1
                if not left:
                    sys.setprofile(None)
                    raise KeyboardInterrupt

        # Some of the calls are those of a generator that is being dropped, and a socket may be so before anything holds it.
        silent = mock.patch.object(sys, "unraisablehook", lambda _: None)
        with Gateway(sized(COMPLETION)) as gateway, warnings.catch_warnings(), silent:
            warnings.simplefilter("ignore")
            for kept in (False, True):
                number, left = 1, 0
                while left <= 0:
                    client = gateway.client()
                    kept and client.send("m", "Hi")
                    left = number
                    with contextlib.suppress(KeyboardInterrupt):
                        sys.setprofile(interrupt)
                        client.send("m", "Hi")
                    sys.setprofile(None)
                    lock = client._transport._lock
                    self.assertTrue(in_thread(lambda: lock.acquire(timeout=WAIT) and not lock.release())(), number)
                    if any(call.wire for call in client._transport._calls):
                        gc.collect()  # one that is interrupted where it lets go is a cycle with its connection
                    self.assertEqual([call for call in client._transport._calls if call.wire], [], (kept, number))
                    self.assertEqual(client.send("m", "Hi").text, "Hello", (kept, number))
                    client.close()
                    number += 3
                self.assertGreater(number, 50)
            client = None
            gc.collect()
            for _ in range(gateway.connections):
                self.assertTrue(gateway.closed.acquire(timeout=WAIT))

    def test_daemon_threads_that_read_at_the_end_of_the_program_are_silent(self):
        stop = threading.Event()
        words = [piece for _ in range(5000) for piece in (in_chunks(event(chunk("a"))), lambda: stop.wait(0.001))]
        with Gateway([STREAM_HEAD, *words]) as gateway:
            environment = {**os.environ, "EDGEE_API_KEY": KEY, "EDGEE_BASE_URL": gateway.url}
            for _ in range(5):
                start = [sys.executable, "-X", "dev", "-c", DAEMONS]
                done = subprocess.run(start, cwd=HERE, env=environment, stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT, timeout=4 * WAIT)  # fmt: skip
                self.assertEqual((done.returncode, done.stdout), (0, b""))
            stop.set()

    def test_a_generator_may_be_dropped_where_the_lock_is_held(self):
        """As the garbage collector does, at any moment and in any thread."""

        def drop():
            with client._transport._lock:
                generator.close()

        with serving(begun(chunk("a"))) as (_, client):
            generator = client.stream("m", "Hi")
            next(generator)
            self.assertIsNone(in_thread(drop)())

    @unittest.skipUnless(hasattr(os, "fork"), "needs fork()")
    def test_a_forked_child_uses_no_connection_of_its_parent_and_leaves_its_answers_alone(self):
        def in_child():
            answer = text_of(client.stream("m", "Hi"))
            streams.pop().close()
            client.close()
            with contextlib.suppress(StopIteration):
                asynchronous.aclose().send(None)
            streams.clear()
            return answer == "Hello"

        start, rest = in_chunks(event(chunk("a"))), in_chunks(event(chunk("b")), event("[DONE]"))
        for tls in (False, True):
            forked, loop = threading.Event(), asyncio.new_event_loop()
            answers = [HELLO, *4 * [[STREAM_HEAD, start, lambda: forked.wait(WAIT), rest, b"0\r\n\r\n"]], HELLO]
            with serving(*answers, tls=tls) as (gateway, client), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of 3.12: this process has threads
                idle, *streams = (client.stream("m", "Hi") for _ in range(4))
                self.assertEqual([next(stream).text for stream in [idle, *streams]], ["Hel", "a", "a", "a"])
                asynchronous = client.astream("m", "Hi")
                self.assertEqual(loop.run_until_complete(asynchronous.__anext__()).text, "a")
                list(idle)
                with client._transport._lock:  # as another thread may hold it
                    child = os.fork()
                    if not child:
                        status = 1
                        try:
                            status = 0 if in_child() else 2
                        finally:
                            os._exit(status)
                self.assertEqual(os.waitpid(child, 0)[1], 0)
                forked.set()
                self.assertEqual([text_of(stream) for stream in streams], ["b"] * 3)
                self.assertEqual(text_of(loop.run_until_complete(collect(asynchronous))), "b")
                list(client.stream("m", "Hi"))
                self.assertEqual((gateway.connections, len(gateway.requests)), (6, 7))
            loop.close()


MEMORY_CASES = [
    # name, answer, the error's class
    ("an endless line", [OPEN_HEAD + b"data: ", *[b"x" * 65536] * 640], ProtocolError),
    ("endless empty lines", [OPEN_HEAD, *[b"data:\n" * 10_000] * 640], ProtocolError),
    ("an endless JSON answer", [head(Content_Type="application/json") + b'{"a": "', *[b"x" * 65536] * 640], ProtocolError),
    ("an endless page", [head(Content_Type="text/html"), *[b"x" * 65536] * 640], ProtocolError),
    ("an endless error body", [head("500 Oops"), *[b"x" * 65536] * 640], APIError),
    ("an event just under the limit", [OPEN_HEAD + b'data: {"choices":[{}],"a":"', *[b"x" * 65536] * 7, b'"}\n\n', event("[DONE]")], type(None)),
]  # fmt: skip


class EverythingAtOnceTest(unittest.TestCase):
    @unittest.skipUnless(tracemalloc, "needs tracemalloc")
    def test_memory_stays_within_a_small_multiple_of_the_limit(self):
        limit = 1 << 19
        for name, answer, kind in MEMORY_CASES:
            with self.subTest(name), mock.patch.object(edgee, "_EVENT_BYTES", limit):
                tracemalloc.start()
                error = ask([*answer, CLOSE], max_retries=0).error
                peak = tracemalloc.get_traced_memory()[1]
                tracemalloc.stop()
                self.assertIs(type(error), kind)
                self.assertLess(peak, 8 * limit)

    def test_64_threads_share_a_client_and_no_answer_is_mixed_up(self):
        """Each answer repeats its question, in its text and in a header; some are cut, reset, refused or late."""

        def fault_of(number):
            # A kept connection that the server then closes: of two threads alone, or three such in a row might be met.
            return "dies idle" if number % 64 < 2 and number % 3 == 0 else number % 6

        def words_of(number):
            return [f"{number}-{n};" for n in range(20)]

        def answer_to(request):
            asked = json.loads(request.body)
            number = int(asked["messages"][0]["content"])
            document = {"choices": [{"message": {"content": "".join(words_of(number))}}]}
            whole = stream_of(*map(chunk, words_of(number))) if asked.get("stream") else sized(document)
            whole = with_header(whole, f"X-Number: {number}")
            return {0: [whole], 1: [whole[:-5], lambda: time.sleep(0.001), whole[-5:]], 2: [whole[:180], CLOSE], 3: [whole[:190], RESET],
                4: [sized(b"", "500 Oops")], 5: [with_header(whole, "Connection: close"), CLOSE], "dies idle": [whole, CLOSE],
            }[fault_of(number)]  # fmt: skip

        async def ask_for(number, method):
            """Ask in one of three ways; return the answer if it is wrong."""
            if method == 2:
                chunks, error = await drained(client.astream("m", str(number)))
            else:
                chunks, error = drain(results(client, ("send", "stream")[method], prompt=str(number)))
            whole, text = "".join(words_of(number)), text_of(chunks)
            good = fault_of(number) in (0, 1, 5, "dies idle")
            own = {one.headers["X-Number"] for one in chunks} <= {str(number)}
            fits = text == whole if good else whole.startswith(text)
            return None if own and fits and good == (error is None) else (number, method, text, error)

        async def ask_all(first):
            asyncio.get_running_loop().slow_callback_duration = WAIT  # it is slow here, and no news
            return [wrong for n in range(first, 768, 64) for wrong in [await ask_for(n, first % 3)] if wrong]

        interval = sys.getswitchinterval()
        with serving(answer_to, max_retries=2, timeout=30) as (gateway, client), waits():
            sys.setswitchinterval(1e-5)
            try:
                outcomes = [in_thread(lambda n=n: asyncio.run(ask_all(n))) for n in range(64)]
                self.assertEqual([result() for result in outcomes], [[]] * 64)
            finally:
                sys.setswitchinterval(interval)
            self.assertEqual(len({request.body for request in gateway.requests}), 768)

    def test_mutated_streams_are_an_error_or_what_was_sent(self):
        """Valid answers with bytes changed, dropped, doubled or cut, from a fixed seed; nothing may hang."""
        chance = random.Random(20261122)
        whole = OPEN_HEAD + b": hello\n\n" + b"".join(map(event, ANSWER))
        chunked = stream_of(*ANSWER, done=False)
        inserted = (b"\r", b"\n", b"\r\n", b"\n\n", b"\0", b"\xff", b"data: ", b"0\r\n", b"[DONE]", b"}", b'"')

        def mutate(data):
            data = bytearray(data)
            for _ in range(chance.choice((0, 1, 1, 2, 8))):
                at, length = chance.randrange(len(data) or 1), chance.randrange(1, 40)
                new = (b"", b"", bytes([chance.randrange(256)]), data[at : at + 2 * length], chance.choice(inserted))
                data[at : at + chance.choice((0, 1, length))] = chance.choice(new)
                if not chance.randrange(5):
                    del data[at:]
            size = chance.choice((7, 100, 1000))
            pieces = [bytes(data[at : at + size]) for at in range(0, len(data), size)]
            return bytes(data), [*pieces, chance.choice((CLOSE, CLOSE, RESET))]

        cases = [mutate(chance.choice((whole, chunked))) for _ in range(700)]
        untouched = ended = 0
        with serving(*(pieces for _, pieces in cases), max_retries=0, timeout=5) as (gateway, client):
            for n, (data, _) in enumerate(cases, 1):
                chunks, error = drain(client.stream("m", "Hi"))  # lets only EdgeeErrors pass
                self.assertEqual(len(gateway.requests), n)
                client.close()  # the next request must not meet the end of this one's connection
                self.assertNotIsInstance(error, RequestTimeoutError, data)
                if data in (whole, chunked) and error is None:
                    untouched += 1
                    self.assertEqual([one.raw for one in chunks], [json.loads(text) for text in ANSWER[:-1]])
                elif error is None:
                    ended += 1
                    self.assertTrue(b"[DONE]" in data or b"finish_reason" in data, data)
        self.assertGreater(untouched, 70)
        self.assertGreater(ended, 20)


# ---- asyncio ---------------------------------------------------------------------------------------------------------


async def collect(chunks):
    return [chunk async for chunk in chunks]


async def drained(chunks):
    """All that comes out of an asynchronous generator, and the error that ends it."""
    got = []
    try:
        async for one in chunks:
            got.append(one)
    except EdgeeError as error:
        return got, error
    return got, None


async def watched(main, complaints):
    """What a coroutine returns; what its event loop complains of, slow machines aside, goes to a list."""
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda loop, context: complaints.append(context))
    loop.slow_callback_duration = WAIT
    return await main


async def until(waited_for):
    """Wait for an event of another thread's, by its method that waits."""
    if not await asyncio.get_running_loop().run_in_executor(None, functools.partial(waited_for, timeout=WAIT)):
        raise AssertionError(f"it did not come within {WAIT} seconds")


class AsyncTest(unittest.TestCase):
    def join_readers(self):
        """Wait for the threads that read answers: they end by themselves, and before their client's time-out."""
        for thread in threading.enumerate():
            if thread.name == "edgee":
                thread.join(WAIT)
                self.assertFalse(thread.is_alive(), "a thread is left")

    tearDown = join_readers

    def run_loop(self, main):
        """Run a coroutine in a loop of its own, of which nothing may be left that Python complains of."""
        complaints = []
        hook = mock.patch.object(sys, "unraisablehook", complaints.append)
        with hook, mock.patch.object(threading, "excepthook", complaints.append):
            try:
                return asyncio.run(watched(main, complaints))
            finally:
                gc.collect()
                self.assertEqual(complaints, [])

    def test_it_takes_and_returns_what_the_other_two_do_over_one_connection(self):
        async def ask():
            for _ in range(2):
                yield await collect(client.astream("m", "Hi", **options))
                yield await client.asend("m", "Hi", **options)

        options = {"timeout": WAIT, "headers": {"X-A": "b"}}
        with serving(*2 * [HELLO, sized(COMPLETION)], HELLO, sized(COMPLETION)) as (gateway, client):
            got = self.run_loop(collect(ask()))
            self.assertEqual(got, 2 * [list(client.stream("m", "Hi", **options)), client.send("m", "Hi", **options)])
            raws = [request.raw for request in gateway.requests]
            self.assertEqual((gateway.connections, raws), (1, 3 * raws[-2:]))

    def test_it_raises_what_the_other_two_raise(self):
        part = begun(chunk("Hel"))
        for name, answer, timeout in [
            ("a status", [sized({"error": "no"}, "400 Bad Request")], WAIT), ("no answer", [CLOSE], WAIT), ("a reset", [part, RESET], WAIT),
            ("the end", [part + b"0\r\n\r\n"], WAIT), ("bad JSON", [part + in_chunks(b"data: {\n\n") + b"0\r\n\r\n"], WAIT), ("silence", [part, HANG], 0.05),
        ]:  # fmt: skip
            with self.subTest(name), serving(answer, max_retries=0, timeout=timeout) as (_, client):
                chunks, expected = drain(client.stream("m", "Hi"))
                got, error = self.run_loop(drained(client.astream("m", "Hi")))
                self.assertEqual((got, told(error)), (chunks, told(expected)))
                self.assertEqual(type(error.__cause__), type(expected.__cause__))
                self.assertEqual(*(traceback.extract_tb(one.__traceback__)[-1] for one in (error, expected)))
                with self.assertRaises(EdgeeError):
                    self.run_loop(client.asend("m", "Hi"))

    def test_nothing_is_sent_before_the_first_chunk_is_asked_for_nor_for_wrong_arguments(self):
        async def ask():
            asking = client.asend("m", {"messages": [1]}, timeout=-1)
            with self.assertRaises(ValueError):
                await asking
            client.astream("m", "never iterated")
            closed = client.astream("m", "closed before its first chunk")
            await closed.aclose()
            self.assertEqual(await collect(closed), [])
            broken = mock.patch("threading.Thread.start", side_effect=RuntimeError("can't start new thread"))
            with broken, self.assertRaisesRegex(RuntimeError, "can't start new thread"):
                await client.asend("m", "Hi")
            return text_of(await collect(client.astream("m", "Hi")))

        with serving(HELLO) as (gateway, client):
            self.assertEqual((self.run_loop(ask()), len(gateway.requests)), ("Hello", 1))

    def test_a_cancelled_task_ends_at_once_wherever_it_waits(self):
        async def cancel(call, gateway, frees):
            task = asyncio.ensure_future(call)
            await until(gateway.stopped.wait)
            task.cancel()
            with self.assertRaises(asyncio.CancelledError):
                await task
            await until(gateway.closed.acquire if frees else gateway.stopped.wait)
            self.join_readers()

        async def cancel_all():
            for name, says, again, url, _ in HALTS:
                for method in () if again else ("asend", "astream"):
                    with self.subTest(name, method=method), Halting(says) as gateway:
                        with gateway.client(url, 6 * WAIT) as client:
                            call = getattr(client, method)("m", prompt_of(name))
                            call = call if method == "asend" else collect(call)
                            await cancel(call, gateway, name != "upload")

        self.run_loop(cancel_all())

    def test_leaving_a_stream_between_two_chunks_frees_its_connection_at_once(self):
        # What a shell starts in the background ignores SIGINT.
        self.addCleanup(signal.signal, signal.SIGINT, signal.signal(signal.SIGINT, signal.default_int_handler))

        async def leave(chunks):
            async for _ in chunks:
                break

        async def close(chunks):
            await chunks.__anext__()
            await chunks.aclose()

        async def lose_patience(chunks):
            with self.assertRaises(asyncio.TimeoutError):
                while True:
                    await asyncio.wait_for(chunks.__anext__(), 0.05)

        async def forget(chunks):  # the loop ends, and not the stream
            await kept[0].__anext__()

        async def interrupt(chunks):
            await kept[0].__anext__()
            asyncio.get_running_loop().call_soon(signal.raise_signal, signal.SIGINT)
            await collect(kept[0])

        answer = [begun(40 * event(chunk("x"))), HANG]
        for way in (leave, close, lose_patience, forget, interrupt):
            with self.subTest(way.__name__), serving(answer, timeout=6 * WAIT) as (gateway, client):
                kept = [client.astream("m", "Hi")]
                chunks = kept[0] if way in (forget, interrupt) else kept.pop()
                main = way(chunks)
                del chunks
                with self.assertRaises(KeyboardInterrupt) if way is interrupt else contextlib.nullcontext():
                    self.run_loop(main)
                self.assertTrue(gateway.closed.acquire(timeout=WAIT))

    def test_many_streams_share_a_client_in_one_loop_and_in_two_and_one_that_ends_is_no_other_s_business(self):
        async def ask():
            left = client.astream("m", "left after its first chunk")
            await left.__anext__()
            texts = asyncio.gather(*(collect(client.astream("m", "Hi")) for _ in range(30)))
            await left.aclose()
            return {text_of(chunks) for chunks in await texts}

        complaints = []
        with serving(HELLO) as (_, client):
            other = in_thread(lambda: asyncio.run(watched(ask(), complaints)))
            self.assertEqual((self.run_loop(ask()), other(), complaints), ({"Hello"}, {"Hello"}, []))

    def test_chunks_are_read_no_further_ahead_than_a_bound_and_in_the_task_s_context(self):
        def parse(*arguments):
            parsed.append(name.get())
            if len(parsed) > edgee._READ_AHEAD_CHUNKS:
                ahead.set()
            return parse_chunk(*arguments)

        async def ask():
            name.set("of the task")
            taken = 0
            async for _ in client.astream("m", "Hi"):
                taken += 1
                if taken == 1:
                    await until(ahead.wait)
                    readers = [thread for thread in threading.enumerate() if thread.name == "edgee"]
                    self.assertEqual([thread.daemon for thread in readers], [True])  # or it holds up the program's end
                self.assertLessEqual(len(parsed) - taken, edgee._READ_AHEAD_CHUNKS + 2)
            return taken

        parse_chunk, parsed, ahead = edgee.parse_chunk, [], threading.Event()
        name = contextvars.ContextVar("name")
        answer = stream_of(*200 * [chunk("x")], chunk(finish="stop"))
        with mock.patch.object(edgee, "parse_chunk", parse), serving(answer) as (_, client):
            self.assertEqual(self.run_loop(ask()), 201)
        self.assertEqual(set(parsed), {"of the task"})

    def test_close_from_elsewhere_ends_a_stream_with_an_error_and_never_as_a_whole_one(self):
        async def ask():
            chunks = client.astream("m", "Hi")
            await chunks.__anext__()
            await until(came.wait)  # now it waits for the next event, or for somebody to take what it has read
            in_thread(client.close)()
            await asyncio.get_running_loop().run_in_executor(None, self.join_readers)  # though nobody takes the rest
            got, error = await drained(chunks)
            self.assertEqual(told(error), CLOSED)
            return 1 + len(got)

        for count in (1, 200):
            came = threading.Event()
            answer = [begun(count * event(chunk("x"))), came.set, HANG]
            with self.subTest(count), serving(answer, timeout=6 * WAIT) as (gateway, client):
                self.assertEqual(self.run_loop(ask()), count)
                self.assertTrue(gateway.closed.acquire(timeout=WAIT))


# ---- The command line, and the file as a whole ----------------------------------------------------------------------


NOTHING_TO_ASK = "edgee: nothing to ask: give a prompt, or text on standard input\n"
NOT_WHOLE = "edgee: warning: the answer may not be whole: "


class Terminal(io.StringIO):
    """Standard input that is a terminal, where nobody types."""

    isatty = mock.Mock(return_value=True)
    read = mock.Mock(side_effect=AssertionError("standard input was read"))


def run(*arguments, stdin=None, errors=None, **environment):
    """Run main() in this process, with text streams that have no buffer; return status, output and errors.

    stdin: text, or bytes, or a stream; a terminal if it is None.
    """
    if stdin is None:
        stdin = Terminal()
    elif isinstance(stdin, str):
        stdin = io.StringIO(stdin)
    elif isinstance(stdin, bytes):
        stdin = io.TextIOWrapper(io.BytesIO(stdin))
    output, errors = io.StringIO(), errors or io.StringIO()
    with mock.patch.dict(os.environ, environment), mock.patch.multiple(sys, stdin=stdin, stdout=output, stderr=errors):
        status = edgee.main(list(arguments))
    return status, output.getvalue(), errors.getvalue()


def command(*arguments, module="edgee", redirect="", gateway=None, **options):
    """Start the command line in a process of its own, with little in its environment.

    redirect: what a shell makes of its three streams, such as ">&-".
    """
    environment = {name: value for name, value in os.environ.items() if name in ("PATH", "SYSTEMROOT", "TEMP")}
    if gateway:
        environment.update(EDGEE_API_KEY=KEY, EDGEE_BASE_URL=gateway.url)
    environment.update(options.pop("env", {}))
    start = [sys.executable, *([module] if module.endswith(".py") else ["-m", module]), *arguments]
    if redirect:
        start = ["sh", "-c", f'exec "$@" {redirect}', "sh", *start]
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(start, **{"cwd": HERE, "env": environment, **streams, **options})


def finished(processes):
    """The status, output and errors of processes, which run side by side."""
    for process in processes:
        with process:
            try:
                output, errors = process.communicate(timeout=WAIT)
            finally:
                process.kill()  # or the end of `with` would wait for it
        yield (process.returncode, output.decode(), errors.decode())


def on_terminal(*arguments, **options):
    """Run the command line on a terminal; return its status and what is to be seen there."""
    ours, theirs = pty.openpty()
    utf_8 = {"PYTHONIOENCODING": "utf-8"}
    with command(*arguments, stdin=theirs, stdout=theirs, stderr=theirs, env=utf_8, **options) as process:
        os.close(theirs)
        seen = b""
        with contextlib.suppress(OSError), open(ours, "rb", buffering=0) as screen:  # Linux' word for its end
            for block in iter(lambda: screen.read(4096), b""):
                seen += block
        return process.wait(WAIT), seen.decode().replace("\r\n", "\n")


class CommandTest(unittest.TestCase):
    def ask(self, *arguments, answer=HELLO, **options):
        """Run the command against a gateway; return status, output, errors and the request that it got, if any."""
        with Gateway(answer) as gateway:
            status, output, errors = run(*arguments, EDGEE_API_KEY=KEY, EDGEE_BASE_URL=gateway.url, **options)
        self.assertNotIn(KEY, output + errors)
        return status, output, errors, gateway.requests[0] if gateway.requests else None

    def file(self, name, text):
        folder = tempfile.mkdtemp(suffix="100%d")
        self.addCleanup(shutil.rmtree, folder)
        with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
            file.write(text)
        return file.name

    def test_what_is_asked(self):
        said, brief = {"role": "user", "content": "é"}, {"role": "system", "content": "Be brief"}
        asked = {"messages": [said], "seed": 1, "model": "from-file", "tags": ["a"]}
        file = self.file("input.json", "\ufeff" + json.dumps(asked, ensure_ascii=False))
        options = ["-o", "temperature", "0.5", "-o", "stop", '["x"]', "-o", "user", "me", "-o", "n", "null"]
        usage, more_usage = {"include_usage": True}, ["--usage", "-o", "stream_options", '{"x": 1}']
        for arguments, stdin, model, expected in [
            (["Hi"], None, None, {}),
            (["Say", "Hi"], None, "", {"messages": [{"role": "user", "content": "Say Hi"}]}),
            ([], "Hi\n", None, {}),
            (["Hi"], " \n", None, {}),
            (["Hi"], "  indented\n\n", None, {"messages": [{"role": "user", "content": "  indented\n\nHi"}]}),
            ([], "\ufeffé".encode(), None, {"messages": [said]}),
            (["Hi", "-m", "x"], None, "y", {"model": "x"}),
            (["Hi"], None, "y", {"model": "y"}),
            (["Hi", "-s", "Be brief"], None, None, {"messages": [brief, USER]}),
            (["Hi", "-t", "a", "--tag", "b"], None, None, {"tags": ["a", "b"]}),
            (["Hi", *options], None, None, {"temperature": 0.5, "stop": ["x"], "user": "me", "n": None}),
            (["Hi", "--usage"], None, None, {"stream_options": usage}),
            (["Hi", *more_usage], None, None, {"stream_options": {**usage, "x": 1}}),
            (["--input", "-"], json.dumps([USER]), None, {}),
            (["--input", "-", "Hi"], '{"messages": []}', None, {}),
            (["--input", file], "", "y", asked),
            (["--input", file], "Hi", None, {**asked, "messages": [said, USER]}),
            (["--input", file, "Hi", "-t", "b", "-m", "x", "-s", "Be brief"], None, None,
                {**asked, "messages": [brief, said, USER], "model": "x", "tags": ["a", "b"]}),
        ]:  # fmt: skip
            with self.subTest(arguments, stdin=stdin):
                environment = {} if model is None else {"EDGEE_MODEL": model}
                status, output, _, request = self.ask(*arguments, stdin=stdin, **environment)
                body = {"model": "openai/gpt-5.2", "messages": [USER], **expected, "stream": True}
                self.assertEqual((status, output, json.loads(request.body)), (0, "Hello\n", body))
        headers = self.ask("Hi", "-H", "X-A", "b", "--header", "User-Agent", "me")[3].headers
        self.assertEqual((headers["x-a"], headers["user-agent"]), ("b", "me"))

    def test_wrong_usage_is_status_2_and_a_line_on_standard_error(self):
        number = self.file("number.json", "1")
        missing = os.path.join(os.path.dirname(number), "missing")
        for arguments, stdin, line in [
            ([], "", NOTHING_TO_ASK[7:-1]),
            ([" "], " \n", NOTHING_TO_ASK[7:-1]),
            ([], b"\xff", "standard input is not UTF-8 text"),
            (["--input", missing], None, f"--input {missing}: "),
            (["--input", number], None, f"--input {number} holds no object and no list of messages"),
            (["--input", "-"], "[\n,", r"--input -: [^:]+: line 2 column 1 \(char 2\)$"),
            (["--input", "-"], "[" * 100_000, "--input -: "),
            (["--input", "-"], "{}", "input has no messages"),
            (["--input", "-"], '{"messages": [1]}', "messages[0] must be a dict or a Message, not int"),
            (["--input", "-", "Hi"], '{"messages": "x"}', "messages must be a list, not str"),
            (["--input", "-", "Hi", "-t", "a"], '{"tags": "x"}', "tags must be a list, not str"),
            (["-o", "model", "m", "Hi"], None, "-o model is not possible: see --input, --model and --no-stream"),
            (["-o", "stream", "1", "Hi"], None, "-o stream is not possible: see --input, --model and --no-stream"),
            (["-o", "temperature=0.2", "Hi"], None, "-o takes a KEY and a VALUE: -o temperature 0.2"),
            (["-o", "a=1"], None, "argument -o/--option: expected 2 arguments, as in -o temperature 0.2; see "),
            (["Hi", "-o", "x\ny=\x1b", ""], None, "-o takes a KEY and a VALUE: -o x y \ufffd"),
            (["Hi", "-o", "x", "NaN"], None, "input cannot be sent as JSON: "),
            (["Hi", "--timeout", "-1"], None, "timeout must be a positive number of seconds, not -1.0"),
            (["Hi", "--timeout", "x"], None, "argument --timeout: invalid float value: 'x'; see python -m edgee --"),
            (["Hi", "--nonsense"], None, "unrecognized arguments: --nonsense; see python -m edgee --help"),
            (["Hi", "--base-url", "nonsense"], None, URL_PROBLEM),
            (["Hi", "--demo", "--base-url", "http://a"], None, "--demo has a gateway of its own: leave --base-url out"),
        ]:  # fmt: skip
            with self.subTest(arguments, stdin=stdin):
                status, output, errors, request = self.ask(*arguments, stdin=stdin)
                self.assertEqual((status, output, errors.count("\n"), request), (2, "", 1, None))
                self.assertRegex(errors, f"^edgee: {line}" if line.endswith("$") else f"^edgee: {re.escape(line)}")
        no_key = "edgee: EDGEE_API_KEY is not set: export EDGEE_API_KEY=…, or try --demo\n"
        self.assertEqual(run("Hi"), (2, "", no_key))
        status, output, errors = run()
        self.assertEqual((status, output), (2, ""))
        self.assertRegex(errors, rf"(?s)^{NOTHING_TO_ASK}usage:.* --demo\n[^\n]*  export EDGEE_API_KEY=…\n$")

    def test_a_silent_standard_input_is_waited_for_with_a_word(self):
        piped, errors, said = io.StringIO("Hi"), io.StringIO(), threading.Event()
        piped.read = lambda size=-1: said.wait(WAIT) and io.StringIO.read(piped, size)
        errors.flush = said.set
        with mock.patch.object(edgee, "_SILENCE_SECONDS", 0):
            result = self.ask(stdin=piped, errors=errors)[:3]
        word = "edgee: waiting for standard input; < /dev/null if there is none\n"
        self.assertEqual(result, (0, "Hello\n", word))

    def test_it_runs_under_any_name_at_any_depth_and_the_help_names_the_command_as_it_was_run(self):
        folder = os.path.dirname(self.file("none", ""))
        deep = os.path.join(folder, "a", "b", "_vendor")
        os.makedirs(deep)
        script, other = (
            shutil.copy(os.path.join(HERE, "edgee.py"), os.path.join(deep, name)) for name in ("edgee.py", "other.py")
        )
        os.chmod(script, 0o755)
        os.chmod(other, 0o644)
        runs = [
            ("edgee", HERE, "python -m edgee"), ("edgee.py", deep, "python edgee.py"), (script, HERE, script), (other, HERE, f"python {other}"),
            *((f"a.b._vendor.{name}", folder, f"python -m a.b._vendor.{name}") for name in ("edgee", "other")),
        ]  # fmt: skip
        processes = [command("-h", module=module, cwd=cwd) for module, cwd, _ in runs]
        for (_, _, name), (status, output, errors) in zip(runs, finished(processes)):
            self.assertEqual((status, errors), (0, ""))
            self.assertRegex(output, rf'^usage: *\s  {re.escape(name)} "Tell me a story"\s')
            self.assertRegex(output, r"(?s)environment: EDGEE_API_KEY.*exit status: 0 done.*130 interrupted\s*$")
        code = "from a.b._vendor import other as e; import pickle; print(pickle.loads(pickle.dumps(e.APIError('x', status=1))))"
        output = subprocess.check_output([sys.executable, "-c", code], cwd=folder)
        self.assertEqual(output.strip(), b"API error 1: x")

    def test_what_is_printed(self):  # and standard input is not read, for it is a Terminal
        pieces = [chunk(tool_calls=[call("a", "f", "{", 0)]), chunk(tool_calls=[tail("}", 0)])]
        printed = json.dumps({"id": "a", "function": {"name": "f", "arguments": "{}"}, "type": "function"}) + "\n"
        message = {"content": "Hi\n", "tool_calls": [call("a", "f", "{}")]}
        raws = [chunk("Hé\x1b", role="assistant"), pieces[0], chunk("b", "stop", index=1)]
        usage = {"prompt_tokens": 1234, "completion_tokens": 567, "prompt_tokens_details": {"cached_tokens": 1024}}
        numbers = {"usage": usage, "compression": {"saved_tokens": 321, "cost_savings": 27e6}}
        times = r"text after \d\.\d\d s, \d\.\d\d s in all"
        counted = rf"edgee: m, 1234\+567 tokens,? \(?1024 cached\)?, saved 321 \(\$27\.0*\), {times}"
        broken = r"edgee: the connection to 127\.0\.0\.1:\d+ broke: the answer was cut"
        more = "edgee: warning: there is more than one choice; --json prints them all"
        for arguments, answer, status, output, line in [
            ([], stream_of(chunk("Hello\n")), 0, "Hello\n", ""),
            ([], stream_of(chunk("\x1b]0;pwned\x07")), 0, "\x1b]0;pwned\x07\n", ""),
            ([], stream_of(json.dumps(chunk("\ud83d")), json.dumps(chunk("\ude00"))), 0, "😀\n", ""),
            ([], stream_of(chunk("Hi", index=1), chunk(finish="stop", index=1)), 0, "Hi\n", ""),
            ([], stream_of(chunk("a"), chunk("b", index=1)), 0, "a\n", more),
            ([], stream_of(*pieces, chunk(finish="tool_calls")), 0, printed, ""),
            (["--no-stream"], sized(COMPLETION), 0, "Hello\n", ""),
            (["--no-stream"], sized({"choices": [{"message": message}]}), 0, "Hi\n" + printed, ""),
            (["--json"], stream_of(*raws), 0, "".join(json.dumps(raw) + "\n" for raw in raws), ""),
            (["--models"], sized({"data": [{"id": "a"}, {"id": "b"}]}), 0, "a\nb\n", ""),
            (["--version"], HELLO, 0, f"edgee {edgee.__version__}\n", ""),
            (["--json", "--no-stream"], sized(COMPLETION), 0, json.dumps(COMPLETION) + "\n", ""),
            ([], stream_of(chunk("a", "function_call")), 0, "a\n", ""),
            ([], stream_of(chunk("a", "content_filter")), 0, "a\n", NOT_WHOLE + "content_filter"),
            ([], stream_of(chunk("a", "new\x1b")), 0, "a\n", NOT_WHOLE + "new"),
            (["--usage"], stream_of({**chunk("a"), "compression": {"saved_tokens": 1}}, {**chunk(finish="stop"), **numbers}), 0, "a\n", counted),
            (["--usage"], stream_of({"choices": [{"finish_reason": "stop"}]}), 0, "", r"edgee: openai/gpt-5\.2, no text, .*"),
            (["--usage", "--no-stream"], sized({**COMPLETION, **numbers}), 0, "Hello\n", counted),
            (["--usage"], stream_of(chunk("a")), 0, "a\n", "edgee: m, " + times),
            ([], [begun(chunk("Hel")), CLOSE], 1, "Hel\n", broken),
            ([], sized({"error": "No\nmodel\x1b"}, "404 Not Found"), 1, "", "edgee: API error 404: No model"),
        ]:  # fmt: skip
            with self.subTest(answer):
                found = self.ask("Hi", *arguments, answer=answer)
                self.assertEqual(found[:2], (status, output))
                self.assertRegex(found[2], f"^{line}\n$" if line else "^$")
                self.assertLess(len(found[2]), 110)

    def test_nothing_that_a_gateway_sends_ends_in_a_traceback(self):
        number, deep = "9" * 290, '{"a":' * 600 + "1" + "}" * 600
        usage = f'{{"prompt_tokens": {number}, "completion_tokens": {number * 2}}}'
        numbers = f'"usage": {usage}, "compression": {{"cost_savings": 1e299}}'
        calls = '[1, {"id": 5, "function": 3, "index": "x"}, {"function": {"name": ["q"], "arguments": {}}}]'
        parts = '[{"type": "text", "text": "Hi"}, 5]'
        for choices, output in [
            (f'[{{"delta": {{"content": "Hi"}}, "index": {number}, "finish_reason": {number}}}], {numbers}', "Hi\n"),
            ('[{}], "id": {}, "model": ["\\u001b"]', ""),
            (f'[{{"delta": {{"tool_calls": {calls}}}}}]', '{"id": 5'),
            (f'[{{"delta": {{"tool_calls": [{{"id": "a", "x": {deep}}}]}}}}]', ""),
            (f'[{{"delta": {{"content": {parts}, "tool_calls": "x"}}, "finish_reason": ["x"]}}]', "Hi\n"),
        ]:  # fmt: skip
            raw = f'{{"choices": {choices}}}'
            whole = sized(raw.replace('"delta"', '"message"').encode())
            for more, answer in [([], stream_of(raw)), (["--no-stream"], whole)]:
                with self.subTest(choices[:60], more=more):
                    result = self.ask("Hi", "--usage", *more, answer=answer)
                    self.assertIn(result[0], (0, 1))
                    self.assertEqual(result[1][: len(output)], output)
                    for line in result[2].splitlines():
                        self.assertRegex(line, r"^edgee: [ -~…]{,143}$")

    def test_the_demo_needs_no_key_and_no_network(self):
        elsewhere = {"http_proxy": "http://127.0.0.1:1", "EDGEE_BASE_URL": "http://127.0.0.1:1"}
        parts = json.dumps([{"role": "user", "content": [{"type": "text", "text": "\ud83d"}]}])
        with mock.patch.object(edgee, "_DEMO_SECONDS", 0):
            for more, stdin, prompt in [
                (["Hi"], None, "Hi"),
                (["Hi", "--no-stream"], None, "Hi"),
                ([], None, "Tell me a story"),
                (["--input", "-"], parts, ""),
                (["--input", "-"], '[{"content": null}]', ""),
            ]:
                status, output, errors = run("--demo", "--usage", *more, stdin=stdin, **elsewhere)
                self.assertEqual((status, output[: 11 + len(prompt)]), (0, f"You asked: {prompt}"))
                self.assertRegex(errors, r"^edgee: this is a demo.*\nedgee: openai/gpt-5\.2, 8\+\d+ tokens, .*\n$")
            self.assertEqual(run("--demo", "--models", **elsewhere)[:2], (0, "demo\n"))

    @unittest.skipUnless(tracemalloc, "needs tracemalloc")
    def test_memory_does_not_grow_with_the_answer(self):
        raw = {**chunk("word ", reasoning_content="x" * 5000), "usage": {"prompt_tokens": 1}}

        def peak(number):
            answer = [STREAM_HEAD, *[in_chunks(event(raw))] * number, in_chunks(event("[DONE]"))]
            tracemalloc.clear_traces()
            self.assertEqual(self.ask("Hi", answer=answer)[0], 0)
            return tracemalloc.get_traced_memory()[1]

        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        self.assertLess(peak(500) - peak(100), 500_000)  # of 2 MB

    @unittest.skipUnless(os.path.exists("/dev/full"), "needs a Unix shell and /dev/full")
    def test_closed_and_full_streams_end_with_a_status_and_without_noise(self):
        full, closed = "edgee: [Errno 28] No space left on device\n", "edgee: there is no standard output\n"
        cases = [
            ("Hi", "2>&-", 0, "Hel\n", ""),
            ("Hi", "2>/dev/full", 0, "Hel\n", ""),
            ("--nonsense", "2>&-", 2, "", ""),
            ("--nonsense", "2>/dev/full", 2, "", ""),
            *((what, ">&-", 1, "", closed) for what in ("Hi", "-h", "--version")),
            *((what, ">/dev/full", 1, "", full) for what in ("Hi", "-h", "--version")),
            ("Hi", ">/dev/full 2>/dev/full", 1, "", ""),
            ("Hi", "<&-", 0, "Hel\n", f"{NOT_WHOLE}length\n"),
            ("Hi", "<&- >&- 2>&-", 1, "", ""),
        ]
        with Gateway(stream_of(chunk("Hel"), chunk(finish="length"))) as gateway:
            processes = [command(what, redirect=redirect, gateway=gateway) for what, redirect, *_ in cases]
            for (what, redirect, *expected), result in zip(cases, finished(processes)):
                with self.subTest(what, redirect=redirect):
                    self.assertEqual(result, tuple(expected))

    @unittest.skipUnless(pty, "needs a pseudo-terminal")
    def test_control_characters_reach_no_terminal(self):
        blanks = "\tb\u3000c\u202fd\u200d"
        evil, shown = f"\x1b]0;pwned\x07a\x9b\x7f{blanks}", f"\ufffd]0;pwned\ufffda\ufffd\ufffd{blanks}"
        for arguments, answer, screen in [
            (["Hi"], stream_of(chunk(evil), chunk(finish="x\x1b")), f"{shown}\n{NOT_WHOLE}x\n"),
            (["Hi", "--no-stream"], sized({"choices": [{"message": {"content": evil}}]}), f"{shown}\n"),
            (["Hi", "--json"], stream_of(chunk(evil)), f"{json.dumps(chunk(evil))}\n"),
            (["--models"], sized({"data": [{"id": evil}]}), f"{shown}\n"),
        ]:
            with self.subTest(arguments), Gateway(answer) as gateway:
                self.assertEqual(on_terminal(*arguments, gateway=gateway), (0, screen))
        status, screen = on_terminal()
        self.assertEqual((status, screen[: len(NOTHING_TO_ASK)]), (2, NOTHING_TO_ASK))

    def test_pipes_get_utf_8_unless_the_environment_says_otherwise(self):
        bare = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
        with Gateway(stream_of(json.dumps(chunk("é \ud83d")), json.dumps(chunk("\ude00 \ud83d")))) as gateway:
            found = [command("Hi", gateway=gateway, env=env) for env in (bare, {**bare, "PYTHONIOENCODING": "ascii"})]
            self.assertEqual(list(finished(found)), [(0, "é 😀 ?\n", ""), (0, "? ? ?\n", "")])

    def test_words_come_one_by_one_and_a_closed_pipe_ends_quietly(self):
        asked = threading.Semaphore(0)
        words = [[in_chunks(event(chunk(word))), lambda: asked.acquire(timeout=WAIT)] for word in "abc"]
        last = in_chunks(event(chunk("d")), event("[DONE]"))
        with Gateway([STREAM_HEAD, *sum(words, []), last]) as gateway, command("Hi", gateway=gateway) as process:
            for word in b"abc":
                self.assertEqual(process.stdout.read(1), bytes([word]))
                if word == ord("c"):
                    process.stdout.close()
                asked.release()
            self.assertEqual((process.stderr.read(), process.wait(WAIT)), (b"", 0))

    @unittest.skipIf(os.name == "nt", "no SIGINT for another process")
    def test_ctrl_c_ends_the_process_as_sigint_does_and_main_returns_130(self):
        # What a shell starts in the background ignores SIGINT, and so would our child.
        self.addCleanup(signal.signal, signal.SIGINT, signal.signal(signal.SIGINT, signal.default_int_handler))
        stop = threading.Event()
        with Gateway([begun(chunk("abc")), lambda: stop.wait(WAIT), CLOSE]) as gateway:
            process = command("Hi", gateway=gateway)
            self.assertEqual(process.stdout.read(3), b"abc")
            process.send_signal(signal.SIGINT)
            self.assertEqual(list(finished([process])), [(-signal.SIGINT, "\n", "")])
            stop.set()
        interrupted = io.StringIO()
        with mock.patch.object(interrupted, "read", side_effect=KeyboardInterrupt):
            self.assertEqual(run("Hi", stdin=interrupted, EDGEE_API_KEY=KEY), (130, "", ""))


class FileTest(unittest.TestCase):
    @unittest.skipIf(sys.implementation.name == "pypy", "what C does elsewhere is counted there")
    def test_what_a_chunk_costs_in_calls(self):
        """Counted, not timed: at most 14 of Python's and 31 of C's for each chunk of a burst."""
        with serving(stream_of(*[chunk(" word")] * 2000)) as (gateway, client):
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
        nothing = {name: os.environ[name] for name in ("SYSTEMROOT",) if name in os.environ}  # Windows needs it
        started = [sys.executable, "-S", "-W", "error", "-c", code]
        output = subprocess.check_output(started, cwd=HERE, env=nothing)
        self.assertEqual(output.split(), [b"[]"])

    def test_all_names_are_there_and_documented(self):
        for name in edgee.__all__:
            named = getattr(edgee, name)
            self.assertTrue(named.__doc__, name)
            if dataclasses.is_dataclass(named) and sys.version_info >= (3, 10):  # X | Y is no type before
                self.assertTrue(typing.get_type_hints(named), name)


# What makes a web server's response of the recipe's generators: wsgiref for one, an ASGI server by hand for the other.
WEB_SERVERS = """
import asyncio, threading, urllib.request, wsgiref.simple_server

def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain; charset=utf-8")])
    return answer("Hi")

async def asgi_application(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    async for text in answer_async("Hi"):
        await send({"type": "http.response.body", "body": text, "more_body": True})
    await send({"type": "http.response.body", "body": b""})

async def print_body(message):
    print(message.get("body", b"").decode(), end="")

with wsgiref.simple_server.make_server("127.0.0.1", 0, application) as server:
    threading.Thread(target=server.handle_request, daemon=True).start()
    with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}") as response:
        print(response.read().decode())
asyncio.run(asgi_application({"type": "http"}, None, print_body))
"""


class ReadmeTest(unittest.TestCase):
    """README's own words, taken from it and tried."""

    @classmethod
    def setUpClass(cls):
        with open(os.path.join(HERE, "README.md"), encoding="utf-8") as file:
            cls.text = file.read()
        cls.versions = re.findall(r"^\| (\d[\w.]*) \| (\d{4}-\d\d-\d\d) \| `(\w{64})` \| .+ \|$", cls.text, re.M)

    def blocks(self, language):
        return re.findall(rf"^```{language}\n(.*?)^```$", self.text, re.MULTILINE | re.DOTALL)

    @staticmethod
    def answer(request):
        """What a gateway says that repeats the last message, counts them all, and knows the weather."""
        if request.method == "GET":
            return [sized({"data": [{"id": "openai/gpt-5.2"}]})]
        asked = json.loads(request.body)
        last, said = asked["messages"][-1], {"role": "assistant", "content": None}
        if "tools" in asked and last["role"] == "user":
            said["tool_calls"] = [call("a", "weather", '{"city": "Paris"}')]
        else:
            said["content"] = f"{len(asked['messages'])} {last['content']}"
        if "response_format" in asked:
            said["content"] = '{"city": "Paris"}'
        if not asked.get("stream"):
            return [sized({**COMPLETION, "choices": [{"index": 0, "message": said, "finish_reason": "stop"}]})]
        last_event = {**chunk(finish="stop"), "usage": COMPLETION["usage"], "compression": {"saved_tokens": 7}}
        head, body = stream_of(chunk(**said), last_event).split(b"\r\n\r\n", 1)
        return [head + b"\r\nX-Edgee-Provider: openai\r\nX-Edgee-Fallback-Used: false\r\n\r\n" + body]

    def run_blocks(self, blocks, start):
        """Run blocks side by side, against one gateway; return what each printed, and the requests."""

        def run_block(block):
            process = subprocess.run([*start, block], cwd=folder, env=environment, stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60)  # fmt: skip
            self.assertEqual(process.returncode, 0, process.stderr.decode())
            return process.stdout.decode()

        with tempfile.TemporaryDirectory() as folder, Gateway(self.answer) as gateway:
            environment = {**os.environ, "EDGEE_API_KEY": KEY, "EDGEE_BASE_URL": gateway.url, "PYTHONPATH": folder}
            shutil.copy(os.path.join(HERE, "edgee.py"), folder)
            with open(os.path.join(folder, "picture.png"), "wb") as file:
                file.write(b"picture")
            with open(os.path.join(folder, "test_nothing.py"), "w", encoding="utf-8") as file:
                file.write("import unittest\nclass Test(unittest.TestCase):\n    def test(self): pass\n")
            runs = [in_thread(functools.partial(run_block, block)) for block in blocks]
            return [result() for result in runs], gateway.requests

    def test_every_example_runs_as_it_stands_there(self):
        printed = [
            "1 Tell me a story",
            "['openai/gpt-5.2']\n1 Hi Usage(prompt_tokens=1, completion_tokens=2, total_tokens=3, cached_tokens=0, "
            "reasoning_tokens=0) Compression(saved_tokens=7, cost_savings=0, reduction=0, time_ms=0)\nopenai false\n",
            "1 Who wrote Faust?\n3 And when?\n",
            "Paris\n",
            "1 [{'type': 'text', 'text': 'What is this?'}, "
            "{'type': 'image_url', 'image_url': {'url': 'data:image/png;base64,cGljdHVyZQ=='}}]\n",
            "3 It is sunny in Paris.\n",
            "1 Tell me a story",
            "1 Hi\n1 Hi",
            "1000 1 Describe the number 999\n",
            "",
        ]
        blocks = self.blocks("python")
        with_dask = [block for block in blocks if block.startswith("from dask")]  # run by the checks of every change
        blocks = [block + WEB_SERVERS * ("answer_async" in block) for block in blocks if block not in with_dask]
        self.assertEqual((len(blocks), len(with_dask)), (len(printed), 1))
        outputs, requests = self.run_blocks(blocks, [sys.executable, "-c"])
        for block, output, expected in zip(blocks, outputs, printed):
            with self.subTest(block):
                self.assertEqual(output, expected)
        [asked] = [request for request in requests if b'"tags"' in request.body]
        body = {"messages": [{"role": "user", "content": "Hi"}], "tags": ["docs"], "compression_model": "claude",
            "temperature": 0, "stream_options": {"include_usage": True}, "model": "openai/gpt-5.2", "stream": True}  # fmt: skip
        self.assertEqual(json.loads(asked.body), body)
        self.assertEqual(asked.headers["x-edgee-compression-tool-result-trimming"], "true")
        self.assertEqual(asked.headers["x-edgee-compression-brevity"], "false")

    @unittest.skipUnless(all(map(shutil.which, ("bash", "git", "sha256sum"))), "needs a Unix shell")
    def test_every_command_runs_as_it_stands_there(self):
        start = f'set -e -o pipefail; git() {{ echo "a commit"; }}; python() {{ "{sys.executable}" "$@"; }}\n'
        start += 'export() { test "$*" = "EDGEE_API_KEY=…"; }\n'  # the key is there already
        (copying, asking, options), _ = self.run_blocks([start + one for one in self.blocks("sh")], ["bash", "-c"])
        self.assertEqual(copying.splitlines()[-1], f"edgee {edgee.__version__}")
        self.assertEqual(copying.split()[0], self.versions[-1][2])
        self.assertRegex(asking, r"\AYou asked: Tell me a story\n(.*\n)+1 Tell me a story\n\Z")
        self.assertEqual(options.splitlines()[:2], ["1 a commit", ""])
        self.assertEqual(options.splitlines()[-2:], ["1 Hi", "openai/gpt-5.2"])

    def test_it_has_no_block_that_no_test_runs(self):
        starts = re.findall(r"^ *```(.*)", self.text, re.MULTILINE)[::2]
        self.assertEqual(len(starts), len(self.blocks("python") + self.blocks("sh") + self.blocks("text")))

    def test_the_last_version_in_the_table_is_the_file(self):
        with open(os.path.join(HERE, "edgee.py"), "rb") as file:
            content = file.read().replace(b"\r\n", b"\n")
        checksum = hashlib.sha256(content).hexdigest()
        self.assertEqual(self.versions[-1][0::2], (edgee.__version__, checksum))
        [line] = self.blocks("text")
        self.assertIn(f"edgee.py {edgee.__version__} sha256:{checksum} ", line)
        self.assertIn(f"about {round(content.count(10), -2):,} lines", self.text)

    def test_the_file_says_of_its_licence_what_readme_says(self):
        [sentence] = re.findall(r"Licence: .*? first\.", " ".join(self.text.split()))
        with open(os.path.join(HERE, "setup.cfg"), encoding="utf-8") as file:
            settings = " ".join(file.read().replace("\n#", "\n").split())
        self.assertIn(sentence, settings)
        self.assertIn(sentence, " ".join(edgee.__doc__.split()))

    def test_the_tests_that_it_names_are_there(self):
        there = {name for case in list(globals().values()) if isinstance(case, type) for name in dir(case)}
        named = re.findall(r"`(test_\w+)`", self.text)
        self.assertGreater(len(named), 8)
        self.assertEqual([name for name in named if name not in there], [])

    def test_every_option_setting_and_error_is_in_a_table(self):
        options = re.findall(r"^  (-.*?)(?:  |$)", run("-h")[1], re.MULTILINE)
        names = {name for option in options for name in re.findall(r"--?[\w-]+", option)} - {"--help"}
        self.assertGreater(len(names), 15)
        names.update(setting.name for setting in dataclasses.fields(EdgeeConfig))
        names.update(switch.name for switch in dataclasses.fields(InputObject)[3:8])
        names.update(name for name in edgee.__all__ if name.endswith("Error"))
        for name in names:
            self.assertRegex(self.text, rf"\n\|.*`{name}\b")


if __name__ == "__main__":
    unittest.main()
