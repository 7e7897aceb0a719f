"""Tests of edgee.py, in its order: python -m unittest. They use sockets on 127.0.0.1 and nothing else of a network.

First comes a gateway that can be told what to answer; then one class of tests for each part of edgee.py. A test sees
the client as a gateway or a caller does.
"""

from __future__ import annotations

import ast
import asyncio
import builtins
import collections
import concurrent.futures
import contextlib
import contextvars
import copy
import dataclasses
import errno
import faulthandler
import functools
import gc
import hashlib
import http.client
import importlib.util
import io
import itertools
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
import urllib.request
import warnings
import zipfile
from unittest import mock

import edgee
from edgee import Edgee, EdgeeError, InputObject, SendResponse, StreamChoice, StreamChunk, StreamDelta, Usage

try:
    import pty
except ImportError:  # Windows has none.
    pty = None
try:
    import tracemalloc
except ImportError:  # PyPy has none.
    tracemalloc = None


HERE = os.path.dirname(os.path.abspath(__file__))
KEY = "sk-very-secret-0123456789"
WAIT = 10  # seconds after which a test that waits for something has failed


# ---- A gateway that answers as it is told ----------------------------------------------------------------------------

CLOSE, RESET, HANG, STALL = "CLOSE", "RESET", "HANG", "STALL"

# A request as the gateway got it. Names of headers are lower case.
Received = collections.namedtuple("Received", "method path headers body")


class Gateway:
    """A server on the loopback. The n-th request gets the n-th answer, and the last answer is given again and again.

    An answer is bytes, or a list of steps, or a function that returns the steps for a request. A step is bytes to send;
    a function to call, which may wait for the test; or one of these: CLOSE and RESET end the connection, HANG reads
    until the client leaves, STALL does not even read until the test is over. After the last step the connection is
    kept. The steps of `at_connect` are taken before TLS, and before a request is read. With `tunnel` it is a proxy
    first, which reads a CONNECT request, answers 200, and leads to itself.
    """

    def __init__(self, *answers, tls=False, at_connect=(), tunnel=False):
        self.answers = [[answer] if isinstance(answer, bytes) else answer for answer in answers]
        self.tls = tls and ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        if tls:
            self.tls.load_cert_chain(CERTIFICATE_FILE)
        self.at_connect, self.tunnel = at_connect, tunnel
        self.requests, self.connections = [], 0
        self.closed = threading.Semaphore(0)  # released whenever a connection has ended
        self.sockets = set()  # the connections that are open
        self._over, self._lock, self._threads = threading.Event(), threading.Lock(), []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = self._listener.getsockname()[1]
        self.host = f"127.0.0.1:{self.port}"
        self.url = f"{'https' if tls else 'http'}://{self.host}"
        self._start(self._accept)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._over.set()
        with self._lock:
            for connection in self.sockets:
                with contextlib.suppress(OSError):
                    socket.socket.shutdown(connection, socket.SHUT_RDWR)
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
            pass  # Wakes accept(); closing the listener does not, on every system.
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
                if self._over.is_set():
                    connection.close()
                    return
                self.connections += 1
                self.sockets.add(connection)
            self._start(self._serve, connection)

    def _serve(self, plain):
        connection = plain
        try:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._take(plain, self.at_connect):
                if self.tunnel:
                    with plain.makefile("rb") as stream:
                        self.requests.append(read_request(stream))
                    plain.sendall(head("200 Connection established"))
                if self.tls:
                    connection = self.tls.wrap_socket(plain, server_side=True)
                    with self._lock:
                        self.sockets = self.sockets - {plain} | {connection}
                self._serve_requests(connection)
        except (OSError, ValueError):
            pass  # The client went away, as many tests want it to.
        finally:
            with self._lock:
                self.sockets.discard(connection)
            connection.close()
            self.closed.release()

    def _serve_requests(self, connection):
        with connection.makefile("rb") as stream:
            request = read_request(stream)
            while request:
                with self._lock:
                    answer = self.answers[min(len(self.requests), len(self.answers) - 1)]
                    self.requests.append(request)
                if not self._take(connection, answer(request) if callable(answer) else answer):
                    return
                request = read_request(stream)

    def _take(self, connection, steps):
        """Take the steps. Return True if the connection is still to be used."""
        for step in steps:
            if isinstance(step, bytes):
                connection.sendall(step)
            elif callable(step):
                step()
            else:
                if step == HANG:
                    while connection.recv(65536):
                        pass
                elif step == STALL:
                    self._over.wait(4 * WAIT)
                elif step == RESET:
                    linger = struct.pack("hh" if os.name == "nt" else "ii", 1, 0)
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                return False
        return True


def read_request(stream):
    """Read a request, or return None where the client has left."""
    line = stream.readline().decode("latin-1")
    if not line:
        return None
    method, path, _ = line.split(" ")
    headers = {name.lower(): value for name, value in http.client.parse_headers(stream).items()}
    return Received(method, path, headers, stream.read(int(headers.get("content-length", 0))))


# ---- What it answers -------------------------------------------------------------------------------------------------


def head(status="200 OK", **headers):
    """Return the head of an answer. In the names of headers _ stands for -."""
    lines = [f"HTTP/1.1 {status}", *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def sized(body, status="200 OK", content_type="application/json", **headers):
    """Return an answer with a Content-Length. A body that is no bytes is sent as JSON."""
    if not isinstance(body, bytes):
        body = json.dumps(body).encode()
    return head(status, Content_Type=content_type, Content_Length=len(body), **headers) + body


def refused(status, body=b"", **headers):
    """Return an answer with this status."""
    return sized(body, f"{status} X", **headers)


def in_chunks(*pieces):
    """Return the pieces in chunked coding, without its end."""
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces if piece)


def event(document):
    """Return an event that holds a JSON document or a text. Bytes stand for themselves."""
    if isinstance(document, bytes):
        return document
    text = document if isinstance(document, str) else json.dumps(document, ensure_ascii=False)
    return f"data: {text}\n\n".encode()


def with_header(answer, line):
    """Return the answer with one more line in its head."""
    return answer.replace(b"\r\n", f"\r\n{line}\r\n".encode("latin-1"), 1)


def chunk(content=None, finish=None, index=0, **delta):
    """Return the JSON of a chunk with one choice."""
    if content is not None:
        delta["content"] = content
    return {"id": "c1", "model": "m", "choices": [{"index": index, "delta": delta, "finish_reason": finish}]}


def choices(*choices):
    """Return the JSON of a chunk with these choices."""
    return {"choices": list(choices)}


def user(text):
    """Return a user's message."""
    return {"role": "user", "content": text}


STREAM_HEAD = head(Content_Type="text/event-stream", Transfer_Encoding="chunked")
OPEN_HEAD = head(Content_Type="text/event-stream", Connection="close")  # The end of the connection ends the body.


def begun(*documents):
    """Return the start of a streamed answer in chunked coding. Each event is a chunk of it."""
    return STREAM_HEAD + in_chunks(*map(event, documents))


END = in_chunks(event("[DONE]")) + b"0\r\n\r\n"


def stream_of(*documents):
    """Return a whole streamed answer in chunked coding."""
    return begun(*documents) + END


def open_stream(*documents):
    """Return a streamed answer that only the end of its connection ends."""
    return [OPEN_HEAD, *map(event, documents), CLOSE]


def trickle(data):
    """Return steps that send these bytes every 20 ms, for longer than a test waits."""
    return [data, lambda: time.sleep(0.02)] * (50 * WAIT)


HELLO = stream_of(chunk("Hel", role="assistant"), chunk("lo"), chunk(finish="stop"))
HELLO_BODY = HELLO[len(STREAM_HEAD) :]
REFUSED = refused(400, {"error": "No"})
COMPLETION = {
    "id": "c1",
    "object": "chat.completion",
    "model": "m",
    "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}],
}
USER = user("Hi")


# ---- How tests ask, and wait -----------------------------------------------------------------------------------------


def row_type(type_name, **defaults):
    """Return a type for the rows of a table, with the defaults of their members.

    A row is written as its name, what is given, and by keyword all that comes of it.
    """
    return collections.namedtuple(type_name, ["name", *defaults], defaults=defaults.values())


# What came of one call. `told` is the error as "Class: text", "" if there was none, with HOST for the gateway's host.
Outcome = collections.namedtuple("Outcome", "chunks error told requests waits")


def told(error):
    return f"{type(error).__name__}: {error}" if error else ""


def text_of(chunks):
    return "".join(chunk.text or "" for chunk in chunks)


def drain(generator):
    """Return all that comes out of a generator, and the EdgeeError that ends it, or None."""
    chunks = []
    try:
        for one in generator:
            chunks.append(one)
    except EdgeeError as error:
        return chunks, error
    return chunks, None


def results(client, method="stream", prompt="Hi", **options):
    """Yield what a method of the client returns: chunks, one response, or models."""
    if method == "models":
        yield from client.models()
    elif method == "send":
        yield client.send("m", prompt, **options)
    else:
        yield from client.stream("m", prompt, **options)


@contextlib.contextmanager
def serving(*answers, tls=False, **settings):
    """Make a gateway with these answers, and a client of it."""
    with Gateway(*answers, tls=tls) as gateway, gateway.client(**settings) as client:
        yield gateway, client


def ask(*answers, method="stream", options=(), **settings):
    """Ask a new gateway with these answers once, and return the Outcome. Retries do not wait."""
    with patched_clock() as clock, serving(*answers, **settings) as (gateway, client):
        chunks, error = drain(results(client, method, **dict(options)))
    return Outcome(chunks, error, told(error).replace(gateway.host, "HOST"), gateway.requests, clock.waits)


def before_calls(act, owner, name):
    """Return a context in which `act` is called before each call of a function, with the same arguments."""
    function = getattr(owner, name)

    def act_and_call(*arguments, **options):
        act(*arguments)
        return function(*arguments, **options)

    return mock.patch.object(owner, name, act_and_call)


@contextlib.contextmanager
def patched_clock():
    """Make a context in which the retries of edgee.py do not wait, and a test can move its clock.

    ahead: the seconds by which the clock is ahead. waits: the seconds of each wait before a retry.
    """
    clock = types.SimpleNamespace(ahead=0.0, waits=[])

    class Lock:
        def __init__(self):
            self._lock = threading.Lock()
            self.release = self._lock.release

        def acquire(self, timeout=-1):
            if timeout >= 0:
                clock.waits.append(timeout)
            return self._lock.acquire(timeout=min(timeout, 0))

    moved = types.SimpleNamespace(**{**vars(time), "monotonic": lambda: time.monotonic() + clock.ahead})
    impatient = types.SimpleNamespace(**{**vars(threading), "Lock": Lock})
    with mock.patch.object(edgee, "time", moved), mock.patch.object(edgee, "threading", impatient):
        yield clock


def collect_dropped():
    """Free what no name holds. CPython does so by itself; PyPy does not count references."""
    if sys.implementation.name == "pypy":
        for _ in range(3):  # A finalizer may free what only the next collection finds.
            gc.collect()


def in_thread(function):
    """Start a function in a thread. Return a function that waits for its result, or raises what it raised."""
    future = concurrent.futures.Future()

    def run():
        try:
            future.set_result(function())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return lambda: future.result(4 * WAIT)


def start_process(*words, gateway=None, **options):
    """Start Python with these words, and with little in its environment but the gateway's key and URL."""
    environment = {name: value for name, value in os.environ.items() if name in ("PATH", "SYSTEMROOT", "TEMP")}
    environment.update(PYTHONIOENCODING="utf-8", TERM="xterm")
    if gateway:
        environment.update(EDGEE_API_KEY=KEY, EDGEE_BASE_URL=gateway.url)
    environment.update(options.pop("env", {}))
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([sys.executable, *words], **{"cwd": HERE, "env": environment, **streams, **options})


def end_of(process):
    """Wait for a process, and return its exit status, output and errors."""
    with process:
        try:
            outputs = process.communicate(timeout=2 * WAIT)
        finally:
            process.kill()  # The end of `with` would wait for it.
    return (process.returncode, *((output or b"").decode().replace("\r\n", "\n") for output in outputs))


# A key and a self-signed certificate for 127.0.0.1, valid from 2020 to 2120. Only these tests use them.
CERTIFICATE = """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgbBlTqMFpZJGbDQvA
dMaruvJjUwUw4O0YCPFB1cuoN1ShRANCAARuL2cy5s8g//z+lLUTUKGiZHmvX2/T
fafR8+FtHyGh1tKKkQZGqvem5UdOjq6rWkoTYg55G+4Nu7jGuld5f+Ez
-----END PRIVATE KEY-----
-----BEGIN CERTIFICATE-----
MIIBUTCB+KADAgECAgEBMAoGCCqGSM49BAMCMA8xDTALBgNVBAMMBHRlc3QwIBcN
MjAwMTAxMDAwMDAwWhgPMjEyMDAxMDEwMDAwMDBaMA8xDTALBgNVBAMMBHRlc3Qw
WTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAARuL2cy5s8g//z+lLUTUKGiZHmvX2/T
fafR8+FtHyGh1tKKkQZGqvem5UdOjq6rWkoTYg55G+4Nu7jGuld5f+Ezo0MwQTAP
BgNVHRMBAf8EBTADAQH/MA8GA1UdEQQIMAaHBH8AAAEwHQYDVR0OBBYEFEhI5laE
CqTaERUKxPs5vHiHeyfdMAoGCCqGSM49BAMCA0gAMEUCIQDSgq+0WkU9OS2MPyld
HVpA1kh/X4WvyegoMjxqC/LexQIgKPySErXM9k7qQue9S3vbjOqDL9P9RvqohsmC
Tsp4eIY=
-----END CERTIFICATE-----
"""

CLEANUP = contextlib.ExitStack()


def setUpModule():
    """Write the certificate, and clear the environment of what would lead a client elsewhere."""
    global CERTIFICATE_FILE
    faulthandler.dump_traceback_later(300, exit=True)
    CLEANUP.callback(faulthandler.cancel_dump_traceback_later)
    CLEANUP.enter_context(mock.patch.dict(os.environ))
    for name in list(os.environ):
        if name.startswith(("EDGEE_", "SSL_CERT_")) or name.lower().endswith("_proxy"):
            del os.environ[name]
    CERTIFICATE_FILE = os.path.join(CLEANUP.enter_context(tempfile.TemporaryDirectory()), "certificate.pem")
    with open(CERTIFICATE_FILE, "w", encoding="ascii") as file:
        file.write(CERTIFICATE)
    os.environ["SSL_CERT_FILE"] = CERTIFICATE_FILE


def tearDownModule():
    CLEANUP.close()


# ---- The event-stream parser -----------------------------------------------------------------------------------------

# An event stream, the events that feed() returns, and the one that finish() returns.
Stream = row_type("Stream", data=b"", events=[], last=None)


def messages(*texts):
    return [("message", text) for text in texts]


SECOND_EXAMPLE = b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n"
OTHER_LINE_ENDS = "a\u2028b\u2029c\x85d\x0be\x0cf\x1cg"
STREAMS = [  # Each LF stands for each of LINE_ENDS.
    Stream("second example of 9.2.6", SECOND_EXAMPLE, events=messages("first event", "second event", " third event")),
    Stream("a colon in a value", b"data:a: b\n\n", events=messages("a: b")),
    Stream("several lines of data", b"data: a\ndata\ndata: b\n\n", events=messages("a\n\nb")),
    Stream("comments", b":\ndata: a\n: bye\ndata: b\n\n", events=messages("a\nb")),
    Stream("unknown fields", b"foo: bar\ndata: a\nDATA: b\n data: c\ndatax: d\n\n", events=messages("a")),
    Stream("keep-alives", b"data:\n\ndata: \n\ndata:  \n\nid: 1\n\nretry: 10\n\n\n\n"),
    Stream("a name", b"event: error\ndata: a\n\ndata: b\n\n", events=[("error", "a"), ("message", "b")]),
    Stream("a name after the data", b"data: a\nevent:  ping\n\n", events=[(" ping", "a")]),
    Stream("an empty name is none", b"event: ping\nevent:\ndata: a\n\n", events=messages("a")),
    Stream("a name without data", b"event: ping\n\ndata: a\n\n", events=messages("a")),
    Stream("one BOM at the start", b"\xef\xbb\xbfdata: \xef\xbb\xbfa\n\n", events=messages("\ufeffa")),
    Stream("a second BOM", b"\xef\xbb\xbf\xef\xbb\xbfdata: a\n\ndata: b\n\n", events=messages("b")),
    Stream("a BOM in the middle", b"data: a\n\n\xef\xbb\xbfdata: b\n\n", events=messages("a")),
    Stream("characters of several bytes", "data: é€😀\0\n\n".encode(), events=messages("é€😀\0")),
    Stream("bytes that are no UTF-8", b"data: a\xff\xe2\x82b\xe2\x82\n\n", events=messages("a\ufffd\ufffdb\ufffd")),
    Stream("no other line ends", f"data: {OTHER_LINE_ENDS}\n\n".encode(), events=messages(OTHER_LINE_ENDS)),
    Stream("no blank line", b"data: a\n\nevent: b\ndata: b\n", events=messages("a"), last=("b", "b")),
    Stream("no line end", b"data: a\ndata: b", last=("message", "a\nb")),
]
LINE_ENDS = (b"\n", b"\r\n", b"\r")
MIXED_LINE_ENDS = b"data: a\rdata: b\ndata: c\r\n\rdata: d\r\n\ndata: e\n\rdata: f\n\r\n"


def cuts(data):
    """Yield ways to cut bytes: not at all, at each place, byte by byte, and byte by byte with empty pieces between."""
    yield [data]
    for n in range(1, len(data)):
        yield [data[:n], data[n:]]
    yield [data[n : n + 1] for n in range(len(data))]
    yield [piece for n in range(len(data)) for piece in (data[n : n + 1], b"")]


def parse(pieces):
    parser = edgee.EventStreamParser()
    return [event for piece in pieces for event in parser.feed(piece)], parser.finish()


def seconds_to_parse(data, read):
    start = time.perf_counter()
    parse(data[n : n + read] for n in range(0, len(data), read))
    return time.perf_counter() - start


class ParserTest(unittest.TestCase):
    def test_every_case_in_every_cut(self):
        for row in STREAMS:
            for line_end in LINE_ENDS:
                with self.subTest(row.name, line_end=line_end):
                    for pieces in cuts(row.data.replace(b"\n", line_end)):
                        self.assertEqual(parse(pieces), (row.events, row.last), pieces)

    def test_line_ends_may_be_mixed(self):
        for pieces in cuts(MIXED_LINE_ENDS):
            self.assertEqual(parse(pieces), (messages("a\nb\nc", "d", "e", "f"), None), pieces)

    def test_event_is_returned_with_its_blank_line(self):
        """With CRLF it is returned at the CR, because the LF may never come."""
        for line_end in LINE_ENDS:
            parser = edgee.EventStreamParser()
            for _ in range(3):
                fed = [parser.feed(piece) for piece in (b"data: a" + line_end, line_end[:1], line_end[1:])]
                self.assertEqual(fed, [[], messages("a"), []], line_end)

    def test_work_is_linear(self):
        """Eight times as many bytes take eight times as long. Quadratic work takes 64 times as long."""
        for start, repeated in ((b"data: ", b"x"), (b"", b"data: x\n"), (b"", b"data: x\r\r")):
            short, long = (start + repeated * (size // len(repeated)) + b"\n\n" for size in (1 << 17, 1 << 20))
            for read in (64, len(long)):
                with self.subTest(repeated, read=read):
                    turns = (seconds_to_parse(long, read) / (8 * seconds_to_parse(short, read)) for _ in range(5))
                    self.assertTrue(any(ratio < 3 for ratio in turns))

    def test_over_64_mib_is_an_error(self):
        for block in (b"x" * (4 << 20), (b"x" * 65529 + b"\ndata: ") * 64):
            parser = edgee.EventStreamParser()
            for _ in range(2):  # A picture of 40 MB was seen.
                ((_, data),) = [event for part in (b"data: ", *[block] * 10, b"\n\n") for event in parser.feed(part)]
                self.assertGreater(len(data), 39 << 20)
            for _ in range(17):  # Comments are no event.
                self.assertEqual(parser.feed((b": " + b"x" * 4092 + b"\n\n") * 1024), [])
            with self.assertRaisesRegex(edgee.ProtocolError, "^an event of the stream is longer than 64 MiB$"):
                for part in (b"data: a\n\ndata: ", *[block] * 17):
                    parser.feed(part)

    def test_events_that_reads_cut_are_not_added_up(self):
        parser, block = edgee.EventStreamParser(), b"data: " + b"x" * (4 << 20) + b"\n\ndata: a\n"
        for _ in range(17):
            self.assertEqual(len(parser.feed(block)), 1)


# ---- Chunks and responses --------------------------------------------------------------------------------------------


def delta(**members):
    return choices({"index": 0, "delta": members})


def merge(*raws):
    return SendResponse.from_chunks(StreamChunk([], raw=raw) for raw in raws)


def counts(first=None, second=None, third=None):
    """Return a usage with cached and reasoning tokens in the three places where they may be."""
    return {
        "prompt_tokens_details": {"cached_tokens": first, "reasoning_tokens": 99},
        "completion_tokens_details": {"reasoning_tokens": first, "cached_tokens": 99},
        "input_tokens_details": {"cached_tokens": second, "reasoning_tokens": 99},
        "output_tokens_details": {"reasoning_tokens": second, "cached_tokens": 99},
        "cached_tokens": third,
        "reasoning_tokens": third,
    }


NO_DETAILS = {"prompt_tokens_details": None, "completion_tokens_details": None}
# A usage, and the number of cached and of reasoning tokens in it.
Count = row_type("Count", usage={}, tokens=0)
COUNTS = [
    Count("the first place", counts(4, 6, 8), tokens=4),
    Count("the second place", counts(None, 6, 8), tokens=6),
    Count("the third place (Kimi)", counts(None, None, 8), tokens=8),
    Count("details that are null", {**counts(4, 6), **NO_DETAILS}, tokens=6),
    Count("0 is a number", counts(0, 6, 8), tokens=0),
    Count("True is none", counts(True, "5", 8), tokens=8),
    Count("no number", counts(), tokens=0),
]

# An object that comes as a chunk, the indexes of its choices, and its properties that are not None.
Shape = row_type("Shape", raw={}, indexes=[0], found={})
TEXT = {"type": "text", "text": "a"}
THOUGHT = {"type": "thinking", "thinking": [{"type": "text", "text": "r"}]}
SHAPES = [
    Shape("nothing", {}, indexes=[]),
    Shape("choices are null", {"choices": None}, indexes=[]),
    Shape("choices are no objects", choices(None, "a", []), indexes=[]),
    Shape("the delta is absent or null", choices({}, {"delta": None}, {"delta": "a"}), indexes=[0, 1, 2]),
    Shape("a message beside a null delta", choices({"delta": None, "message": {"content": "a"}}), found={"text": "a"}),
    Shape("an index is absent", choices({}, {"index": None}, {"index": 5}, {"index": "1"}), indexes=[0, 1, 5, 3]),
    Shape("content is parts", delta(content=[THOUGHT, TEXT, "x", TEXT]), found={"text": "aa"}),
    Shape("parts without text", delta(content=[None, {"type": "text"}, {"type": "thinking", "text": "r"}])),
    Shape("reasoning", delta(reasoning="b", reasoning_content=None), found={"reasoning": "b"}),
    Shape("reasoning under both names", delta(reasoning="b", reasoning_content="a"), found={"reasoning": "a"}),
    Shape("reasoning that is no text", delta(reasoning="b", reasoning_content={"x": 1}), found={"reasoning": "b"}),
    Shape("usage is a list", {"usage": [], "compression": "a"}, indexes=[]),
    Shape("compression", {"compression": {"time_ms": None}}, indexes=[], found={"compression": edgee.Compression()}),
]
PROPERTIES = ("text", "reasoning", "finish_reason", "usage", "compression", "id", "model", "tool_calls")


class ChunkTest(unittest.TestCase):
    def test_fields_of_a_chunk(self):
        raw = {
            **chunk("a", role="assistant", tool_calls=[None, {"index": 0}], reasoning_content="r"),
            "compression": {"saved_tokens": 1, "cost_savings": 27000, "reduction": 48.5, "time_ms": 3},
            "usage": {"prompt_tokens": 5},
        }
        first, last = ask(stream_of(raw, chunk(finish="stop"))).chunks
        self.assertEqual((first.text, first.role, first.reasoning, first.finish_reason), ("a", "assistant", "r", None))
        self.assertEqual((first.id, first.model, first.raw, first.tool_calls), ("c1", "m", raw, [{"index": 0}]))
        self.assertEqual((first.usage, first.compression), (Usage(5), edgee.Compression(1, 27000, 48.5, 3)))
        self.assertEqual(first.choices, [StreamChoice(0, StreamDelta("assistant", "a", [{"index": 0}]), None)])
        self.assertEqual((last.text, last.role, last.tool_calls, last.finish_reason), (None, None, None, "stop"))

    def test_odd_shapes_crash_no_reader(self):
        chunks = ask(stream_of(*(shape.raw for shape in SHAPES))).chunks
        for shape, got in zip(SHAPES, chunks):
            (sent,) = ask(sized(shape.raw), method="send").chunks
            for kind, one in (("chunk", got), ("sent", sent), ("merged", merge(shape.raw))):
                with self.subTest(shape.name, kind=kind):
                    found = {name: getattr(one, name) for name in PROPERTIES}
                    self.assertEqual({name: found[name] for name in found if found[name] is not None}, shape.found)
                    self.assertEqual(sorted(choice.index for choice in one.choices), sorted(shape.indexes))
            self.assertEqual(got.raw, shape.raw)

    def test_cached_and_reasoning_tokens(self):
        for row in COUNTS:
            with self.subTest(row.name):
                expected = Usage(cached_tokens=row.tokens, reasoning_tokens=row.tokens)
                self.assertEqual(merge({"usage": row.usage}).usage, expected)

    def test_details_of_usage_change_no_total(self):
        details = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 1}
        totals = {"prompt_tokens": 9, "completion_tokens": None, "total_tokens": True}
        usage = {**totals, "prompt_tokens_details": details, "completion_tokens_details": details}
        self.assertEqual(merge({"usage": usage}).usage, Usage(prompt_tokens=9))

    def test_message_so_far_beside_a_delta(self):
        """Perplexity sends both. A stream is read by its deltas, a whole answer by its message."""
        raw = choices({"delta": {"content": "b", "reasoning": "b"}, "message": {"content": "ab", "reasoning": "ab"}})
        for answer, text in ((stream_of(raw), "b"), (sized(raw), "ab")):
            (got,) = ask(answer).chunks
            self.assertEqual((got.text, got.reasoning, SendResponse.from_chunks([got]).text), (text, text, text))

    def test_raw_and_headers_survive_json_pickle_copy(self):
        raw = {**chunk("a", "stop", tool_calls=[{"index": 0}]), "usage": counts(1), "compression": {"saved_tokens": 1}}
        document = with_header(sized(COMPLETION), "X-Edgee-Provider: p")
        first, second = ask(with_header(stream_of(raw, raw), "X-Edgee-Provider: p")).chunks
        self.assertIs(first.headers, second.headers)
        merged = SendResponse.from_chunks([first, second])
        came = [*ask(document).chunks, *ask(document, method="send").chunks]
        self.assertEqual([type(got) for got in came], [StreamChunk, SendResponse])
        for got, came_as in [(first, raw), (merged, merged.raw), *((got, COMPLETION) for got in came)]:
            members = json.loads(json.dumps(dataclasses.asdict(got)))
            self.assertEqual((members["headers"]["x-edgee-provider"], members["raw"]), ("p", came_as))
            for twin in (got, pickle.loads(pickle.dumps(got)), copy.copy(got), copy.deepcopy(got)):
                self.assertEqual((twin, twin.raw, twin.headers), (got, came_as, got.headers))
                self.assertEqual((twin.headers["X-EDGEE-provider"], twin.headers.get("x-edgee-PROVIDER")), ("p", "p"))
                self.assertEqual(("X-edgee-Provider" in twin.headers, "x" in twin.headers), (True, False))

    def test_chunks_made_by_hand_need_no_raw(self):
        first = StreamChunk([StreamChoice(0, StreamDelta("assistant", "a"))], id="x", usage=Usage(5, cached_tokens=4))
        last = StreamChunk([StreamChoice(0, StreamDelta(content="b"), "stop")])
        response = SendResponse.from_chunks(iter([first, last]))
        self.assertEqual((response.text, response.finish_reason, response.id), ("ab", "stop", "x"))
        self.assertEqual(response.usage, Usage(5, cached_tokens=4))

    def test_response_of_no_chunks_is_empty(self):
        response = SendResponse.from_chunks([])
        self.assertEqual((response.choices, response.raw["choices"]), ([], []))
        self.assertEqual((response.text, response.message, response.tool_calls), (None, None, None))


# ---- Merging ---------------------------------------------------------------------------------------------------------


def present(**members):
    """Return the members that are not None."""
    return {name: value for name, value in members.items() if value is not None}


def call(id=None, name=None, arguments=None, index=None, **members):
    """Return a tool call, or a piece of one."""
    return present(index=index, id=id, function=present(name=name, arguments=arguments), **members)


def start(id, arguments, index=None):
    return call(id, "f", arguments, index)


def more(arguments, index=None, id=None):
    return call(id, None, arguments, index)


def custom(id, input, **members):
    return {"id": id, "type": "custom", "custom": {"name": "f", "input": input}, **members}


def block(text=None, index=0, type="reasoning.text", **members):
    """Return a block of reasoning, or a piece of one."""
    return present(type=type, index=index, text=text, **members)


def whole(finish="stop", index=0, **members):
    """Return a choice of a response with this message."""
    return {"index": index, "message": {"role": "assistant", "content": None, **members}, "finish_reason": finish}


# Pieces of tool calls, and the calls that they become. In the first table these are the arguments of each id.
Calls = row_type("Calls", pieces=[], calls={})
TWO = [start("a", "1", 0), start("b", "2", 1)]
ONE_INDEX = [start("a", "1", 0), start("b", "2", 0), more("3", 0)]
NO_INDEX = [start("a", "1"), more("2"), start("b", "3"), more("4", id="a"), more("5")]
CALLS = [
    Calls("by index", [*TWO, more("3", 0), more("4", 1)], calls={"a": "13", "b": "24"}),
    Calls("by id, whatever the index", [*TWO, more("3", 1, "a")], calls={"a": "13", "b": "2"}),
    Calls("two of one index", ONE_INDEX, calls={"a": "1", "b": "23"}),
    Calls("id and name each time", [start("a", "1", 0), start("a", "2", 0)], calls={"a": "12"}),
    Calls("the name each time", [start("a", "1", 0), call(None, "f", "2", 0)], calls={"a": "12"}),
    Calls("an empty id (Alibaba)", [start("a", "1", 0), more("2", 0, "")], calls={"a": "12"}),
    Calls("another id without a name", [start("a", "1", 0), more("2", 0, "b")], calls={"a": "12"}),
    Calls("no index", NO_INDEX, calls={"a": "1245", "b": "3"}),
    Calls("no index and a new id", [start("a", "1"), more("2", id="b")], calls={"a": "1", "b": "2"}),
    Calls("an index that nothing started", [*TWO, more("3", 7)], calls={"a": "1", "b": "23"}),
]

JOINED = call("a", "f", "12", type="function")
CUSTOM = [custom("a", "1", index=0), custom("a", "2", index=0), custom("b", "3", index=0)]
NAMELESS = [call(None, "f", "1"), more("2"), call(None, "g", "3")]
NAMED = [call(None, "f", "12", type="function"), call(None, "g", "3", type="function")]
NULLS = {"id": None, "type": None, "index": 0}
WITH_NULLS = [{**NULLS, **start("a", "12")}, {**NULLS, "function": {"name": None, "arguments": None}}]
SIGNED = {"extra_content": {"google": {"thought_signature": "x"}}}
WHOLE_CALLS = [
    Calls("no index and no type (Mistral)", [start("a", "12")], calls=[JOINED]),
    Calls("no arguments", [start("a", None)], calls=[call("a", "f", "", type="function")]),
    Calls("arguments that are an object", [start("a", {})], calls=[call("a", "f", "{}", type="function")]),
    Calls("no id", NAMELESS, calls=NAMED),
    Calls("no functions", CUSTOM, calls=[custom("a", "12"), custom("b", "3")]),
    Calls("nulls (Writer)", [*WITH_NULLS, {**NULLS, "function": None}], calls=[JOINED]),
    Calls("other members (Gemini)", [{**start("a", "1"), **SIGNED}, more("2")], calls=[{**JOINED, **SIGNED}]),
]

# The values that a member of the deltas has, one a delta, and what it becomes.
Merged = row_type("Merged", member="", values=[], whole=None)
TEXTS = ("content", "reasoning", "reasoning_content", "refusal")
OLD_CALL = [{"name": "f", "arguments": "1"}, {"arguments": "2"}]
AUDIO = [{"id": "x", "data": "YQ", "transcript": "a"}, {"data": "Yg", "transcript": "b", "expires_at": 5}]
PICTURES = [{"type": "image_url", "index": 0, "image_url": {"url": f"data:,{name}"}} for name in "ab"]
STEPS = [{"index": 0, "type": "search", "arguments": "{}"}, {"index": 0, "type": "search", "output": "x"}]
SEALED = [block(type="reasoning.encrypted", data="gAAAAA")]
SUMMARY = [block(text, summary=text) for text in ("a", "b", "ab")]
UNTYPED = [block(thinking="a"), block(thinking="b", type=None, signature="c"), block(thinking="ab", signature="c")]
MERGED = [
    *(Merged("text is joined", name, values=["a", "", "b", "a"], whole="aba") for name in TEXTS),
    Merged("a surrogate pair is whole again", "content", values=["\ud83d", "\ude00\ud83d", "!"], whole="😀\ud83d!"),
    Merged("an empty refusal (Snowflake)", "refusal", values=["", ""], whole=""),
    Merged("a role that is always empty", "role", values=["", ""], whole="assistant"),
    Merged("null is nothing", "content", values=[None, "a", None], whole="a"),
    Merged("[] is nothing", "annotations", values=[[], [1], []], whole=[1]),
    *(Merged(f"the first {name}", name, values=["", "a", "b"], whole="a") for name in ("id", "type", "name")),
    Merged("the last of other text", "channel", values=["a", "b", ""], whole="b"),
    Merged("the last number", "count", values=[5, 0], whole=0),
    Merged("the last boolean", "closed", values=[True, False], whole=False),
    Merged("objects", "graph", values=[{"a": {"b": 1}}, {"a": {"c": [2]}, "d": None}], whole={"a": {"b": 1, "c": [2]}}),
    Merged("a call of the old kind", "function_call", values=OLD_CALL, whole={"name": "f", "arguments": "12"}),
    Merged("audio", "audio", values=AUDIO, whole={"id": "x", "data": "YQYg", "transcript": "ab", "expires_at": 5}),
    Merged("pictures of one index (LiteLLM)", "images", values=[PICTURES[:1], PICTURES[1:]], whole=PICTURES),
    Merged("logprobs (OpenAI)", "logprobs", values=[{"content": [n]} for n in (1, 2)], whole={"content": [1, 2]}),
    Merged("parts (Databricks)", "content", values=["", [THOUGHT], [TEXT]], whole=[THOUGHT, TEXT]),
    Merged("text between parts (Mistral)", "content", values=["a", [THOUGHT], "", "a"], whole=[TEXT, THOUGHT, TEXT]),
    Merged("steps (Groq)", "executed_tools", values=[STEPS[:1], STEPS[1:]], whole=[{**STEPS[0], **STEPS[1]}]),
    Merged("blocks of one index", "reasoning_details", values=[SUMMARY[:1], SUMMARY[1:2]], whole=SUMMARY[2:]),
    Merged(
        "blocks of another index or type",
        "reasoning_details",
        values=[[block("a"), block("b", 1), *SEALED], [block("c"), block("d", 1)]],
        whole=[block("ac"), block("bd", 1), *SEALED],
    ),
    Merged("blocks without an index", "thinking_blocks", values=[[block("a", None)]] * 2, whole=[block("a", None)] * 2),
    Merged("a last piece without a type", "thinking_blocks", values=[UNTYPED[:1], UNTYPED[1:2]], whole=UNTYPED[2:]),
]

# What a provider streams, with shorter texts, and the choices of its response.
Streamed = row_type("Streamed", chunks=[], choices=[])
STREAMED = [
    Streamed(
        "no choices at first, then one without a delta (Azure)",
        [choices(), choices({"index": 0, "finish_reason": None}), chunk("a", "stop")],
        choices=[whole(content="a")],
    ),
    Streamed(
        "two choices without an end (Mistral)",
        [choices({"index": n, "delta": {"content": f"{n}"}}) for n in (1, 0, 1)],
        choices=[whole(None, content="0"), whole(None, index=1, content="11")],
    ),
    Streamed(
        "a finish reason that is null again (OpenRouter)",
        [
            chunk(tool_calls=[start("a", "12", 1)]),
            choices({"index": 0, "finish_reason": "stop", "native_finish_reason": "completed"}),
            choices({"index": 0, "finish_reason": None, "native_finish_reason": None}),
        ],
        choices=[{**whole(tool_calls=[JOINED]), "native_finish_reason": "completed"}],
    ),
]


class MergeTest(unittest.TestCase):
    def test_pieces_of_tool_calls_find_their_call(self):
        for row in CALLS:
            for raws in ([delta(tool_calls=[piece]) for piece in row.pieces], [delta(tool_calls=row.pieces)]):
                with self.subTest(row.name, chunks=len(raws)):
                    found = [(one["id"], one["function"]["arguments"]) for one in merge(*raws).tool_calls]
                    self.assertEqual(found, list(row.calls.items()))

    def test_tool_calls_can_be_sent_back(self):
        for row in WHOLE_CALLS:
            with self.subTest(row.name):
                self.assertEqual(merge(*(delta(tool_calls=[piece]) for piece in row.pieces)).tool_calls, row.calls)

    def test_values_of_a_member_become_one(self):
        for row in MERGED:
            with self.subTest(row.name, member=row.member):
                raws = [delta(**{row.member: value}) for value in row.values]
                before = copy.deepcopy(raws)
                message = merge(*raws).message
                self.assertEqual(message, {"role": "assistant", "content": None, row.member: row.whole})
                self.assertEqual(raws, before)

    def test_member_that_is_always_empty_is_absent(self):
        for nothing in ({"tool_calls": [], "images": None}, {"tool_calls": {}}, {"tool_calls": [None]}):
            self.assertEqual(merge(delta(content="a", **nothing)).message, whole(content="a")["message"])

    def test_response_is_what_send_would_return(self):
        for row in STREAMED:
            with self.subTest(row.name):
                chunks = ask(stream_of(*row.chunks)).chunks
                response = SendResponse.from_chunks(chunks)
                self.assertEqual(response.raw["choices"], row.choices)
                self.assertEqual([got.raw for got in chunks], row.chunks)  # Merging changes no chunk.
                (sent,) = ask(sized(response.raw), method="send").chunks
                self.assertEqual(response, sent)
                self.assertEqual(SendResponse.from_chunks(ask(sized(sent.raw)).chunks), sent)

    def test_members_of_the_response(self):
        last = {"usage": {"prompt_tokens": 2}, "compression": {"saved_tokens": 5}, "system_fingerprint": "f"}
        response = merge(
            {"id": "", "model": "", "choices": [], "prompt_filter_results": [1], "service_tier": ""},
            {**chunk("Hel", "length"), "object": "chat.completion.chunk", "usage": {"prompt_tokens": 1}},
            {**chunk("lo", "stop"), "id": "other", "model": "other", "usage": None},
            {**choices(), **last},
        )
        first = {"id": "c1", "model": "m", "object": "chat.completion", "prompt_filter_results": [1]}
        first["service_tier"] = ""
        self.assertEqual(response.raw, {**first, **last, "choices": [whole(content="Hello")]})
        self.assertEqual((response.id, response.model, response.text), ("c1", "m", "Hello"))
        self.assertEqual((response.usage, response.compression), (Usage(2), edgee.Compression(5)))


# ---- Settings and requests -------------------------------------------------------------------------------------------

# Wrong settings or arguments. `error` is the beginning of what told() says.
Bad = row_type("Bad", settings={}, model="m", input="Hi", options={}, error="")

FRAMING_HEADERS = ("Host", "content-length", "Transfer-Encoding", "Connection")
DEEP = []
for _ in range(100_000):
    DEEP = [DEEP]
BAD = [
    Bad("unknown names", settings={"url": 1, KEY: 1}, error="ValueError: unknown setting: url; "),
    Bad("no key", settings={"api_key": ""}, error="ValueError: EDGEE_API_KEY is not set"),
    Bad("a line end in the key", settings={"api_key": KEY + "\n"}, error="ValueError: api_key has a character"),
    Bad("a key of bytes", settings={"api_key": KEY.encode()}, error="TypeError: api_key must be a str"),
    Bad("another scheme", settings={"base_url": "ftp://a"}, error="ValueError: base_url must be http://"),
    Bad("no such port", settings={"base_url": "http://a:99999"}, error="ValueError: base_url must be http://"),
    Bad("a password", settings={"base_url": f"http://u:{KEY}@a"}, error="ValueError: base_url must be http://"),
    Bad("a number as URL", settings={"base_url": 5}, error="TypeError: base_url must be a str"),
    Bad("False as URL", settings={"base_url": False}, error="TypeError: base_url must be a str"),
    Bad("no IPv6 address", settings={"base_url": "http://[1.2.3.4]"}, error="ValueError: base_url must be http://"),
    Bad("no time", settings={"timeout": 0}, error="ValueError: timeout must be a positive number of seconds"),
    Bad("True as time", settings={"timeout": True}, error="TypeError: timeout must be a number of seconds"),
    Bad("retries below 0", settings={"max_retries": -1}, error="ValueError: max_retries must be 0 or more"),
    Bad("True as retries", settings={"max_retries": True}, error="TypeError: max_retries must be a whole number"),
    Bad("a list of headers", settings={"headers": [("a", "b")]}, error="TypeError: headers must be a dict"),
    Bad("a number in headers", settings={"headers": {"a": 1}}, error="TypeError: each value in headers"),
    Bad("a bad header name", settings={"headers": {f"{KEY} ": "a"}}, error="ValueError: headers has a name"),
    Bad("a line end in a header", settings={"headers": {"a": KEY + "\n"}}, error="ValueError: headers has a value"),
    *(Bad(name, settings={"headers": {name: "a"}}, error="ValueError: headers has a name") for name in FRAMING_HEADERS),
    Bad("no model", model=" ", error="ValueError: model is empty"),
    Bad("None as model", model=None, error="TypeError: model must be a str"),
    Bad("no input", input=None, error="TypeError: input must be a str, a list, a dict or an InputObject"),
    Bad("no messages", input={"temperature": 0}, error="ValueError: input has no messages"),
    Bad("text as a message", input=["Hi"], error="TypeError: messages[0] must be a dict or a Message"),
    Bad("NaN", input={"messages": [USER], "x": float("nan")}, error="ValueError: input cannot be sent as JSON"),
    Bad("nested too deep", input={"messages": [USER], "x": DEEP}, error="ValueError: input cannot be sent as JSON"),
    Bad("a set", input={"messages": [USER], "x": {1}}, error="TypeError: input cannot be sent as JSON"),
    Bad("a call's timeout", options={"timeout": -1}, error="ValueError: timeout must be a positive number of seconds"),
    Bad("a call's header", options={"headers": {"Host": "a"}}, error="ValueError: headers has a name"),
]

# An input, and the body that it becomes. Its model is "m", and its messages are [USER] if none are named.
Sent = row_type("Sent", input="", body={})

FUNCTION = {"name": "f"}
TOOLS = [edgee.Tool("function", edgee.FunctionDefinition("f"))]
CALLING = {"role": "assistant", "tool_calls": [{"id": "a", "type": "function", "function": FUNCTION}]}
CALLING_OBJECT = edgee.Message("assistant", tool_calls=[edgee.ToolCall("a", "function", FUNCTION)])
EXTRA = {"tags": ["b"], "seed": 1, "model": "other"}
SENT = [
    Sent("a prompt beyond ASCII", "é😀", body={"messages": [user("é😀")]}),
    Sent("a list of messages", [USER, CALLING_OBJECT], body={"messages": [USER, CALLING]}),
    Sent("other keys of a dict", {"messages": [USER], "x": None, "stop": []}, body={"x": None, "stop": []}),
    Sent("model and stream in a dict", {"messages": [USER], "model": "other", "stream": "yes"}, body={}),
    Sent("tools", InputObject([USER], TOOLS), body={"tools": [{"type": "function", "function": FUNCTION}]}),
    Sent("extra_body", InputObject([USER], tags=["a"], extra_body=EXTRA), body={"tags": ["b"], "seed": 1}),
    Sent("text as a switch", {"messages": [USER], "output_brevity": "low"}, body={"output_brevity": "low"}),
]


@mock.patch.dict(os.environ)  # Each test has a copy.
class SettingsTest(unittest.TestCase):
    def test_wrong_settings_and_arguments_raise_at_once(self):
        with Gateway(HELLO) as gateway:
            for row in BAD:
                for method in ("send", "stream"):
                    with self.subTest(row.name, method=method):
                        with self.assertRaises((TypeError, ValueError)) as caught:
                            client = gateway.client(**row.settings)
                            getattr(client, method)(row.model, row.input, **row.options)
                        self.assertEqual(told(caught.exception)[: len(row.error)], row.error)
                        self.assertNotIn(KEY, "".join(shown_by(caught.exception)))
            self.assertEqual(gateway.connections, 0)

    def test_config_of_another_type_is_refused(self):
        for config in (5, [KEY], KEY.encode()):
            with self.assertRaisesRegex(TypeError, "^config must be an API key, an EdgeeConfig or a dict"):
                Edgee(config)

    def test_argument_then_environment_then_default(self):
        self.assertEqual(Edgee(KEY).base_url, "https://edgee.io")
        with Gateway(HELLO) as gateway:
            os.environ.update(EDGEE_API_KEY="from-environment", EDGEE_BASE_URL=gateway.url)
            for config, key in ((None, "from-environment"), (KEY, KEY)):
                with Edgee(config) as client:
                    list(client.stream("m", "Hi"))
                self.assertEqual(gateway.requests[-1].headers["authorization"], f"Bearer {key}")
        self.assertEqual(Edgee({"base_url": "http://argument"}).base_url, "http://argument")

    def test_base_url_may_end_in_v1(self):
        with Gateway(HELLO) as gateway:
            for end in ("", "/", "/v1", "/v1/", "/v1/chat/completions"):
                with self.subTest(end), gateway.client(base_url=f"{gateway.url}/a{end}") as client:
                    list(client.stream("m", "Hi"))
                    self.assertEqual(client.base_url, f"{gateway.url}/a")
                    self.assertEqual(gateway.requests[-1].path, "/a/v1/chat/completions")

    def test_no_attribute_of_a_client_can_be_set(self):
        for name in ("base_url", "timeout", "api_key", "anything"):
            with self.subTest(name), self.assertRaises(AttributeError):
                setattr(Edgee(KEY), name, "https://other")

    def test_no_repr_shows_the_key(self):
        config = edgee.EdgeeConfig(KEY, headers={"X-Key": KEY})
        self.assertNotIn(KEY, f"{config!r} {config} {Edgee(config)!r} {Edgee(config)}")


class RequestTest(unittest.TestCase):
    def test_body_is_what_was_asked_for(self):
        for row in SENT:
            before = copy.deepcopy(row.input)
            for method, stream in (("stream", {"stream": True}), ("send", {})):
                with self.subTest(row.name, method=method):
                    (request,) = ask(sized(COMPLETION), method=method, options={"prompt": row.input}).requests
                    expected = {"model": "m", "messages": [USER], **stream, **row.body}
                    self.assertEqual(json.loads(request.body), expected)
            self.assertEqual(row.input, before)

    def test_switches_become_headers(self):
        for switch, name in {
            "tool_result_trimming": "x-edgee-compression-tool-result-trimming",
            "tool_surface_reduction": "x-edgee-compression-tool-surface-reduction",
            "output_brevity": "x-edgee-compression-brevity",
        }.items():
            for input in (InputObject([USER], **{switch: True}), {"messages": [USER], switch: False}):
                (request,) = ask(HELLO, options={"prompt": input}).requests
                sent = {name: text for name, text in request.headers.items() if name.startswith("x-")}
                self.assertEqual(sent, {name: "true" if isinstance(input, InputObject) else "false"})
                self.assertEqual(json.loads(request.body), {"model": "m", "stream": True, "messages": [USER]})

    def test_headers_of_the_call_win_over_its_switches(self):
        brief, header = InputObject([USER], output_brevity=True), {"X-Edgee-Compression-Brevity": "false"}
        (request,) = ask(HELLO, options={"prompt": brief, "headers": header}).requests
        self.assertEqual(request.headers["x-edgee-compression-brevity"], "false")

    def test_head_of_a_request(self):
        own = {"authorization": f"Bearer {KEY}", "user-agent": f"edgee-py/{edgee.__version__}"}
        own.update({"content-type": "application/json", "accept-encoding": "identity"})
        for method, accept in (("send", {}), ("stream", {"accept": "text/event-stream"})):
            with self.subTest(method):
                (request,) = ask(sized(COMPLETION), method=method).requests
                del request.headers["host"], request.headers["content-length"]
                self.assertEqual((request.method, request.path), ("POST", "/v1/chat/completions"))
                self.assertEqual(request.headers, {**own, **accept})

    def test_headers_of_the_call_win(self):
        mine = {"user-agent": "mine", "AUTHORIZATION": "Other", "X-A": "1"}
        with serving(HELLO, headers=mine) as (gateway, client):
            list(client.stream("m", "Hi", headers={"x-a": "2"}))
            list(client.stream("m", "Hi"))
        for request, last in zip(gateway.requests, "21"):
            sent = [request.headers[name] for name in ("user-agent", "authorization", "x-a")]
            self.assertEqual(sent, ["mine", "Other", last])

    def test_nothing_is_sent_before_the_first_chunk(self):
        with serving(HELLO) as (gateway, client):
            generators = [client.stream("m", "Hi"), client.send("m", "Hi", stream=True)]
            self.assertEqual(gateway.connections, 0)
            for generator in generators:
                self.assertIsInstance(generator, types.GeneratorType)
                self.assertEqual(text_of(generator), "Hello")

    def test_models(self):
        data = [{"id": "a", "owned_by": "b", "created": 1}, {"id": "c", "object": "model"}]
        got = ask(sized({"data": data}), method="models")
        self.assertEqual(got.chunks, [edgee.Model("a", "b", 1), edgee.Model("c")])
        self.assertEqual(got.requests[0][:2], ("GET", "/v1/models"))


# ---- Answers, errors, retries ----------------------------------------------------------------------------------------

BOTH, ALL = ("stream", "send"), ("stream", "send", "models")
OURS = None

# What comes of one call. error: the beginning of Outcome.told, "" if the call ends well. text: of all chunks.
# waits: seconds before each retry; OURS stands for two waits that the client chooses.
Case = row_type("Case", answer=b"", error="", text="", waits=[], methods=["stream"])


class CaseTest(unittest.TestCase):
    def check(self, rows):
        for row in rows:
            for method in row.methods:
                with self.subTest(row.name, method=method):
                    got = ask(row.answer, method=method)
                    self.assertEqual(got.told[: len(row.error)] if row.error else got.told, row.error)
                    self.assertEqual(text_of(got.chunks), row.text)
                    if row.waits is OURS:
                        self.assertEqual([0.375 <= seconds <= 1 for seconds in got.waits], [True, True])
                    else:
                        self.assertEqual(got.waits, row.waits)
                    self.assertEqual(len(got.requests), 1 + len(got.waits))


def shown_by(error):
    """Yield all texts that a caller can get from an error, and from those that led to it."""
    yield from (*traceback.format_exception(type(error), error, error.__traceback__), repr(pickle.dumps(error)))
    while error:
        yield from (str(error), repr(error), repr(error.args), repr(vars(error)))
        error = error.__cause__ or error.__context__


CUT = "StreamInterruptedError: the stream ended before the answer was complete"
CUT_EVENT = "StreamInterruptedError: the answer from HOST was cut in the middle of an event"
CUT_JSON = "StreamInterruptedError: the answer from HOST ended after 13 bytes"
CUT_BODY = "StreamInterruptedError: the connection to HOST broke: the answer was cut"
GAVE_UP = "StreamInterruptedError: the gateway gave up: its finish reason is "
NO_OBJECT = "ProtocolError: the gateway sent no JSON object: "
NOT_ASKED = "ProtocolError: the answer is encoded as gzip, which was not asked for"
MALFORMED = "ProtocolError: the head of the answer is malformed"
BROKE = "NetworkError: the connection to HOST broke: "
NO_STATUS = "APIError: API error: No"
WENT_TO = "; check base_url: the request went to http://HOST/v1/chat/completions"
TOO_DEEP = b'{"a":' * 100_000
PING, BROKEN_PING = b"event: ping\ndata: 2026-11-30 12:00:00+00:00\n\n", b'event: ping\ndata: {"a\n\n'
SECOND = chunk("b", "stop", index=1)
GIVING_UP = ("error", "abort", "network_error", "insufficient_system_resource")
ENDINGS = [
    Case("[DONE] without a finish reason", stream_of(chunk("a")), text="a"),
    Case("[DONE], and the body does not end", [begun(chunk("a"), "[DONE]"), HANG], text="a"),
    Case("[DONE] alone", stream_of(), error=CUT),
    Case("[DONE] after no choice", stream_of({"choices": [], "usage": {}}), error=CUT),
    Case("every choice has finished", open_stream(chunk("a"), chunk(index=1), chunk(finish="stop"), SECOND), text="ab"),
    Case("one of two choices has finished", open_stream(chunk("a"), SECOND), error=CUT, text="ab"),
    Case("the first of two choices has finished", open_stream(chunk("a", "stop"), chunk(index=1)), error=CUT, text="a"),
    Case("an empty finish reason", open_stream(chunk("a", "")), error=CUT, text="a"),
    Case("finished, then null again", open_stream(chunk("a", "stop"), chunk()), text="a"),
    Case("the chunks end, and [DONE] never comes", begun(chunk("a")) + b"0\r\n\r\n", error=CUT, text="a"),
    Case("the last blank line is missing", open_stream(event(chunk("a", "stop"))[:-2]), text="a"),
    Case("the last blank line is cut off", [begun(chunk("a"), b"data: [DONE]"), CLOSE], text="a"),
    Case("finished, and a comment is cut", open_stream(chunk("a", "stop"), b": by"), text="a"),
    Case("finished, and an event is cut", open_stream(chunk("a", "stop"), b"data"), error=CUT_EVENT, text="a"),
    *(Case(why, stream_of(chunk("a", why)), error=GAVE_UP + why, text="a") for why in GIVING_UP),
    Case("a ping", stream_of(chunk("a"), PING, chunk("b")), text="ab"),
    Case("a chunk under another name", stream_of(b"event: token\n" + event(chunk("a"))), text="a"),
    Case("broken JSON under another name", stream_of(chunk("a"), BROKEN_PING), error=NO_OBJECT + '{"a', text="a"),
    Case("no object", stream_of(chunk("a"), "[1]"), error=NO_OBJECT + "[1]", text="a"),
    Case("more than an object", stream_of(chunk("a"), "{} {}"), error=NO_OBJECT + "{} {}", text="a"),
    Case("JSON that is too deep", stream_of(b"data: " + TOO_DEEP + b"\n\n"), error=NO_OBJECT),
    Case("an error that is null", stream_of({**chunk("a"), "error": None}), text="a"),
]

JSON_HEAD = head(Content_Type="application/json", Connection="close")
PAGE = sized(b"<p>Log\nin</p>", content_type="text/html; charset=utf-8")
NO_PAGE = "ProtocolError: the answer is text/html: <p>Log in</p>" + WENT_TO
TOO_LONG = [JSON_HEAD, *[b" " * (1 << 20)] * 65, HANG]
ANSWERS = [
    Case("JSON", sized(COMPLETION), text="Hello", methods=BOTH),
    Case("JSON without a length", [JSON_HEAD + json.dumps(COMPLETION).encode(), CLOSE], text="Hello", methods=BOTH),
    Case("a BOM before JSON", sized(b"\xef\xbb\xbf" + json.dumps(COMPLETION).encode()), text="Hello", methods=BOTH),
    Case("JSON without choices", sized({"id": "a"}), text="", methods=["send"]),
    Case("JSON under another label", sized(COMPLETION, content_type="text/plain"), text="Hello", methods=["send"]),
    Case("an event stream for send()", HELLO, error="ProtocolError: the answer is text/event-stream", methods=["send"]),
    Case("text", sized(b"a", content_type="text/plain"), error="ProtocolError: the answer is text/plain: a"),
    Case("a page", PAGE, error=NO_PAGE, methods=BOTH),
    Case("bad JSON that came whole", sized(b'{"a" 1}'), error=NO_OBJECT + '{"a" 1}', methods=BOTH),
    Case("JSON that is too deep", sized(TOO_DEEP), error=NO_OBJECT, methods=BOTH),
    Case("JSON cut", [JSON_HEAD + b'{"choices": [', CLOSE], error=CUT_JSON, methods=BOTH),
    Case("JSON shorter than its length", [sized(COMPLETION)[:-1], CLOSE], error=CUT_BODY, methods=BOTH),
    Case("the server gave up", sized({"choices": [{"finish_reason": "abort"}]}), error=GAVE_UP + "abort", methods=BOTH),
    Case("more than 64 MiB", TOO_LONG, error="ProtocolError: the answer is longer than 64 MiB", methods=["send"]),
    Case("100 and 103 before the answer", head("100 Continue") + head("103 Early Hints") + HELLO, text="Hello"),
    Case("parameters of the content type", HELLO.replace(b"event-stream", b"Event-Stream;charset=UTF-8"), text="Hello"),
    Case("encodings that change nothing", with_header(HELLO, "Content-Encoding: identity, none, utf-8"), text="Hello"),
    Case("the encoding gzip", with_header(HELLO, "Content-Encoding: gzip"), error=NOT_ASKED),
    Case("another transfer coding", HELLO.replace(b": chunked", b": gzip, chunked"), error=MALFORMED),
    Case("a length of two numbers", with_header(OPEN_HEAD, "Content-Length: 5 5"), error=MALFORMED),
    Case("a header without a colon", with_header(HELLO, "nonsense"), error=MALFORMED),
    Case("another protocol", [b"SSH-2.0-OpenSSH_9.2\r\n", CLOSE], error="ProtocolError: HOST did not answer in HTTP: "),
]

# The events of a short answer, to be cut. LAST has the finish reason.
LAST = event('{"choices":[{"delta":{"content":"é"},"finish_reason":"stop"}]}')
SHORT = [event('{"choices":[{"delta":{"content":"H"}}]}'), LAST, event('{"choices":[],"usage":{}}'), event("[DONE]")]


class AnswerTest(CaseTest):
    def test_how_a_stream_may_end(self):
        self.check(ENDINGS)

    def test_which_answers_are_read(self):
        self.check(ANSWERS)

    def check_cuts(self, start, body, end):
        """Cut an answer after every byte of its body. It may end well only after these bytes of it came."""
        answers = [[start + body[:size], CLOSE] for size in range(len(body) + 1)]
        with serving(*answers, max_retries=0) as (_, client):
            outcomes = [drain(client.stream("m", "Hi")) for _ in answers]
        whole, error = outcomes[-1]
        self.assertEqual((text_of(whole), error), ("Hé", None))
        for size, (chunks, error) in enumerate(outcomes):
            with self.subTest(size=size):
                self.assertEqual(chunks, whole[: len(chunks)])
                self.assertGreaterEqual(len(chunks), min(body[:size].count(b"\n\n"), len(whole)))
                self.assertIsInstance(error, (type(None), edgee.StreamInterruptedError))
                self.assertTrue(error or end in body[:size])

    def test_chunked_stream_cut_at_any_byte(self):
        self.check_cuts(STREAM_HEAD, in_chunks(*SHORT) + b"0\r\n\r\n", end=b"[DONE]")

    def test_stream_of_known_length_cut_at_any_byte(self):
        body = b"".join(SHORT)
        self.check_cuts(head(Content_Type="text/event-stream", Content_Length=len(body)), body, end=b"[DONE]")

    def test_open_stream_cut_at_any_byte(self):
        self.check_cuts(OPEN_HEAD, b"".join(SHORT), end=LAST.strip())

    def test_json_cut_at_any_byte(self):
        body = '{"choices": [{"message": {"content": "Hé"}}], "x": [true, {}]}'.encode()
        for start in (JSON_HEAD, with_header(JSON_HEAD, f"Content-Length: {len(body)}")):
            self.check_cuts(start, body, end=body)


ERROR_400 = "APIError: API error 400: "
ERRORS = [
    Case("of OpenAI", refused(400, {"error": {"message": "No\nsuch\tmodel"}}), error=ERROR_400 + "No such model"),
    Case("an outer message", refused(400, {"error": {"code": "c"}, "message": "No"}), error=ERROR_400 + "No"),
    Case("an error beside details", refused(400, {"error": {"message": "No"}, "detail": {}}), error=ERROR_400 + "No"),
    Case("a list of errors", refused(400, {"errors": [{"code": 7, "message": "No"}]}), error=ERROR_400 + "No"),
    Case("nested", refused(400, {"detail": {"error": {"message": "No"}}, "message": "Bad"}), error=ERROR_400 + "No"),
    Case("detail", refused(400, {"detail": "No"}), error=ERROR_400 + "No"),
    Case("a list of details", refused(400, {"detail": [{"loc": [], "msg": "required"}]}), error=ERROR_400 + "required"),
    Case("message beside error", refused(400, {"error": "Bad", "message": "No such"}), error=ERROR_400 + "No such"),
    Case("a list of one error", refused(400, [{"error": {"message": "No"}}]), error=ERROR_400 + "No"),
    Case("a BOM", refused(400, b'\xef\xbb\xbf{"error": "No"}'), error=ERROR_400 + "No"),
    Case("no message", refused(400, {"a": None}), error=ERROR_400 + '{"a": null}'),
    Case("a page", refused(400, b"<html>\r\n<title>No\tway"), error=ERROR_400 + "<html> <title>No way" + WENT_TO),
    Case("a labelled page", sized(b"<p>No", "400 X", content_type="text/html"), error=ERROR_400 + "<p>No" + WENT_TO),
    Case("JSON that is too deep", refused(400, TOO_DEEP), error=ERROR_400 + '{"a":{"a":'),
    Case("404 without JSON", refused(404), error="APIError: API error 404: X" + WENT_TO, methods=BOTH),
    Case("an empty body", refused(400, b" \r\n"), error=ERROR_400 + "X"),
    Case("a body that is cut", [refused(400, b"abc")[:-1], CLOSE], error=ERROR_400 + "ab"),
    Case("terminal escapes", refused(400, b"\x1b[31mred\x07caf\xe9"), error=ERROR_400 + "[31mred caf\ufffd"),
    Case("a long text", refused(400, b"x" * 501), error=ERROR_400 + "x" * 500 + "…"),
    Case("in a chunk", stream_of(chunk("a"), {**chunk("b"), "error": "No"}), error=NO_STATUS, text="a"),
    Case("code", stream_of(chunk("a"), {"error": {"message": "No", "code": 400}}), error=ERROR_400 + "No", text="a"),
    Case("status", stream_of(chunk("a"), {"status": 400, "error": "No"}), error=ERROR_400 + "No", text="a"),
    Case("status_code", stream_of(chunk("a"), {"error": "No", "status_code": "400"}), error=ERROR_400 + "No", text="a"),
    Case("no status", stream_of(chunk("a"), {"error": {"message": "No", "code": 7}}), error=NO_STATUS, text="a"),
    Case("by object", stream_of(chunk("a"), {"object": "error", "message": "No"}), error=NO_STATUS, text="a"),
    Case("by name", stream_of(chunk("a"), b"event: error\ndata: No\ndata: a\n\n"), error=NO_STATUS + " a", text="a"),
]
ECHOES = {
    "a body": sized({"error": {"message": f"bad key {KEY}!"}}, "401 X"),
    "headers": sized(b"", "401 X", X_Request_Id=KEY, X_Echo=KEY),
    "a reason phrase": sized(b"", f"401 {KEY}"),
    "a redirect": sized(b"", "307 X", Location=f"http://a/?key={KEY}"),
    "a page": sized(KEY.encode(), content_type="text/html"),
    "a content type": sized(b"", content_type=f"text/{KEY}"),
    "an encoding": sized(b"", Content_Encoding=f"gzip, {KEY}"),
    "an error event": stream_of({"error": {"message": KEY, "code": KEY}}),
    "an error event by name": stream_of(b"event: error\n" + event({"error": KEY})),
    "an event that is no JSON": stream_of(KEY),
}
BASES = {
    EdgeeError: (RuntimeError,),
    edgee.APIError: (EdgeeError,),
    edgee.ProtocolError: (EdgeeError,),
    edgee.NetworkError: (OSError, EdgeeError),
    edgee.RequestTimeoutError: (edgee.NetworkError, TimeoutError),
    edgee.StreamInterruptedError: (edgee.NetworkError,),
}


class ErrorTest(CaseTest):
    def test_what_an_error_says(self):
        self.check(ERRORS)

    def test_every_method_raises_the_gateways_error(self):
        answer = refused(404, {"error": "No", "code": "c"}, Request_Id="r2", Retry_After="90")
        for method in ALL:
            error = ask(answer, method=method).error
            self.assertEqual(told(error), "APIError: API error 404: No")
            self.assertEqual((error.status, error.code, error.message), (404, "c", "No"))
            self.assertEqual((error.body, error.request_id), ('{"error": "No", "code": "c"}', "r2"))
            self.assertEqual((error.headers["Retry-AFTER"], error.retry_after), ("90", 90))
        self.assertEqual(ask(with_header(answer, "X-Request-Id: r1")).error.request_id, "r1")

    def test_no_redirect_is_followed(self):
        with Gateway(HELLO) as other:
            reason = f"redirect to {other.url} not followed, because the key would go with it; check base_url"
            for status in (301, 302, 303, 307, 308):
                for method in ALL:
                    got = ask(refused(status, Location=other.url), method=method)
                    self.assertEqual((got.told, len(got.requests)), (f"APIError: API error {status}: {reason}", 1))
            self.assertEqual(other.connections, 0)

    def test_text_that_repeats_the_key_is_redacted(self):
        for name, answer in ECHOES.items():
            with self.subTest(name):
                with self.assertLogs("edgee", "DEBUG") as logs:
                    error = ask(answer, max_retries=0).error
                self.assertIsInstance(error, EdgeeError)
                self.assertNotIn(KEY[:8], "".join((*shown_by(error), *logs.output)))
        self.assertEqual(ask(ECHOES["a body"]).told, "APIError: API error 401: bad key [api key]!")
        not_http = ask([f"SSH-2.0 {KEY}\r\n".encode(), CLOSE]).told
        self.assertEqual(not_http, "ProtocolError: HOST did not answer in HTTP: SSH-2.0 [api key]")

    def test_short_key_is_not_looked_for(self):
        answer = sized({"error": "not a test"}, "401 X")
        self.assertEqual(ask(answer, api_key="test").told, "APIError: API error 401: not a test")

    def test_tree_of_errors(self):
        self.assertEqual({kind: kind.__bases__ for kind in BASES}, BASES)

    def test_errors_survive_pickle_and_copy(self):
        api_error = ask(refused(400, {"code": 7}, Retry_After="9", X_Request_Id="r")).error
        for error in (api_error, *(kind("text") for kind in BASES)):
            for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
                self.assertEqual((told(twin), twin.args, vars(twin)), (told(error), error.args, vars(error)))

    def test_log_tells_a_requests_story(self):
        busy, hello = sized(b"", "503 Busy", X_Request_Id="r1"), with_header(HELLO, "X-Request-Id: r2\x1b")
        with self.assertLogs("edgee", "DEBUG") as logs:
            ask(busy, hello)
            ask(open_stream(chunk("a")))
        lines = [re.sub(r"127.0.0.1:\d+", "HOST", record.getMessage()) for record in logs.records]
        lines = [re.sub(r"\d+\.\d+", "N", line) for line in lines]
        story = [
            "POST http://HOST/v1/chat/completions, attempt 1",
            "on a new connection, made in N s",
            "503 Busy, request id r1",
            "trying again in N s: API error 503: Busy",
            "POST http://HOST/v1/chat/completions, attempt 2",
            "on a kept connection",
            "200 OK, request id r2",
            "first event after N s",
            "whole after N s, 3 chunks",
        ]
        self.assertEqual(lines[: len(story)], story)
        self.assertEqual(lines[-1], "failed after N s: the stream ended before the answer was complete")
        self.assertEqual({record.levelno for record in logs.records}, {logging.DEBUG})


BUSY = {"error": {"code": 503, "message": "Busy"}}
PAST, FUTURE, NO_DAY = (f"Wed, {day} 07:28:00 GMT" for day in ("21 Oct 2015", "21 Oct 2115", "32 Oct 2015"))
OLD_FORMS = ("Friday, 21-Oct-05 07:28:00 GMT", "Fri Oct 21 07:28:00 2005")  # of RFC 850 and of C
QUOTA, LIMIT = {"error": {"code": "insufficient_quota"}}, {"error": {"code": "usage_limit_exceeded"}}
TRIED_AGAIN, FINAL = (408, 409, 429, 500, 501, 503, 529), (400, 401, 402, 403, 404, 407, 413, 422)
RETRIES = [
    *(Case(f"{status}", refused(status), error="APIError", waits=OURS, methods=ALL) for status in TRIED_AGAIN),
    *(Case(f"{status}", refused(status), error="APIError", methods=ALL) for status in FINAL),
    Case("another status in the body", sized(BUSY, "401 X"), error="APIError: API error 401: Busy"),
    Case("retry-after-ms", refused(503, Retry_After_Ms="1500", Retry_After="9"), error="APIError", waits=[1.5, 1.5]),
    Case("Retry-After: 60", refused(429, Retry_After="60"), error="APIError", waits=[60, 60]),
    Case("Retry-After: 61", refused(429, Retry_After="61"), error="APIError"),
    Case("Retry-After in the past", refused(429, Retry_After=PAST), error="APIError", waits=[0, 0]),
    *(Case(f"Retry-After: {day}", refused(429, Retry_After=day), error="APIError", waits=[0, 0]) for day in OLD_FORMS),
    Case("Retry-After in the far future", refused(429, Retry_After=FUTURE), error="APIError"),
    Case("Retry-After: soon", refused(429, Retry_After="soon"), error="APIError", waits=OURS),
    Case("Retry-After on no day", refused(429, Retry_After=NO_DAY), error="APIError", waits=OURS),
    Case("no credit", refused(429, QUOTA), error="APIError"),
    Case("no credit, but 503", refused(503, QUOTA), error="APIError", waits=OURS),
    Case("a limit", refused(429, LIMIT), error="APIError"),
    Case(
        "a limit with a number", refused(429, {"code": "insufficient_quota", "error": {"code": 429}}), error="APIError"
    ),
    Case("a limit that ends", refused(429, LIMIT, Retry_After="3"), error="APIError", waits=[3, 3]),
    Case("another code", refused(429, {"code": "rate_limit_exceeded"}), error="APIError", waits=OURS),
    Case("a first event with 503", stream_of(BUSY), error="APIError: API error 503: Busy", waits=OURS),
    Case("a first event without a status", stream_of({"error": "No"}), error="APIError: API error: No"),
    Case("provider_error", stream_of({"error": {"code": "provider_error"}}), error="APIError", waits=OURS),
    Case("internal_error", stream_of({"error": {"code": "internal_error"}}), error="APIError", waits=OURS),
    Case("a second event with 503", stream_of(chunk("a"), BUSY), error="APIError: API error 503: Busy", text="a"),
    Case("JSON with 503", sized(BUSY), error="APIError: API error 503: Busy", waits=OURS, methods=BOTH),
    Case("closed without a byte", [CLOSE], error=BROKE, waits=OURS, methods=ALL),
    Case("reset without a byte", [RESET], error=BROKE, waits=OURS),
    Case("closed after a byte", [b"H", CLOSE], error=BROKE),
    Case("closed inside the head", [b"HTTP/1.1 200 OK\r\nX: a", CLOSE], error=BROKE),
    Case("reset inside the head", [b"H", lambda: time.sleep(0.1), RESET], error=BROKE),
    Case("closed after 103", [head("103 Early Hints"), CLOSE], error=BROKE),
    Case("closed after the head", [STREAM_HEAD, CLOSE], error="StreamInterruptedError: "),
    Case("no event stream", sized(b"", content_type="text/plain"), error="ProtocolError: "),
]


class RetryTest(CaseTest):
    def test_what_is_sent_again(self):
        self.check(RETRIES)

    def test_answer_ends_the_retries(self):
        for first in (refused(503), [CLOSE], stream_of(BUSY)):
            got = ask(first, HELLO, options={"headers": {"X": "y"}})
            self.assertEqual((text_of(got.chunks), got.told, len(got.requests)), ("Hello", "", 2))
            self.assertEqual(got.requests[0], got.requests[1])

    def test_max_retries_counts_what_is_sent_again(self):
        for answer in (refused(503), [CLOSE], stream_of(BUSY)):
            for max_retries in (0, 1, 4):
                self.assertEqual(len(ask(answer, max_retries=max_retries).requests), 1 + max_retries)

    def test_connection_that_fails_is_tried_again(self):
        with socket.create_server(("127.0.0.1", 0)) as server:
            host = f"127.0.0.1:{server.getsockname()[1]}"
        got = ask(HELLO, base_url=f"http://{host}")
        self.assertRegex(got.told, f"^NetworkError: could not connect to {host}: ")
        self.assertEqual(len(got.waits), 2)
        self.assertIsInstance(got.error.__cause__, ConnectionRefusedError)

    def test_look_up_that_fails_is_tried_again(self):
        def look_up(*_):
            if failures:
                raise failures.pop()

        failures = 2 * [socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")]
        with before_calls(look_up, socket, "getaddrinfo"):
            got = ask(HELLO)
        self.assertEqual((text_of(got.chunks), len(got.waits)), ("Hello", 2))

    def test_wait_doubles_up_to_8_seconds(self):
        waits = ask(refused(503), max_retries=12).waits
        for seconds, longest in zip(waits, [0.5, 1, 2, 4, *[8] * 8]):
            self.assertTrue(0.75 * longest <= seconds <= longest, waits)
        self.assertGreater(len(set(waits[4:])), 1, "the waits have no jitter")

    @unittest.skipIf(os.name == "nt", "a reset discards there what came before it")
    def test_413_before_the_request_was_read_is_raised(self):
        class Hasty(Gateway):
            def _serve_requests(self, connection):
                self._take(connection, self.answers[0])

        for tls in (None, True):
            with self.subTest(tls=tls), Hasty(sized({"error": "too large"}, "413 X"), tls=tls) as gateway:
                with gateway.client(max_retries=0) as client:
                    error = drain(client.stream("m", "x" * (8 << 20)))[1]
                self.assertEqual(told(error), "APIError: API error 413: too large")


# ---- Time, close and signals: whatever ends a wait -------------------------------------------------------------------

CLOSED = "StreamInterruptedError: the client was closed before the answer was complete"
NO_CONNECTION = "RequestTimeoutError: could not connect to HOST: timed out"
NO_TUNNEL = NO_CONNECTION.replace("HOST", "gateway.invalid through the proxy HOST (see HTTPS_PROXY)")
NO_ANSWER, NO_EVENT, NOT_WHOLE = (
    f"RequestTimeoutError: no {what} from HOST within 0.5 s" for what in ("answer", "event", "whole answer")
)


# A place where a call waits. error: how the call ends after 0.5 s. got: what comes before the wait. then: the steps
# meanwhile. way: "http", "https" or "proxy". asked: the gateway reads the request first. kept: the call uses a kept
# connection, over TLS.
Stage = row_type("Stage", error="", got=b"", then=[HANG], way="http", asked=True, kept=False, prompt="Hi")
HALF_AN_ERROR = head("503 Busy", Content_Length=9) + b"abc"
OPEN_ERROR = head("503 Busy", Connection="close") + b"abc"
TRY_LATER = sized(b"", "503 Busy", Retry_After=50, Connection="close")
STAGES = [
    Stage("TLS", error=NO_CONNECTION, way="https", asked=False),
    Stage("the proxy's answer", error=NO_TUNNEL, way="proxy"),
    Stage("TLS behind the proxy", error=NO_TUNNEL, way="proxy", got=head()),
    Stage("sending", error=NO_ANSWER, then=[STALL], asked=False, prompt="x" * (16 << 20)),
    Stage("the answer", error=NO_ANSWER),
    Stage("the answer on a kept connection", error=NO_ANSWER, way="https", kept=True),
    Stage("inside the head", error=NO_ANSWER, got=b"HTTP/1.1 200 OK\r\nContent-Ty"),
    Stage("the first event", error=NO_EVENT, got=STREAM_HEAD),
    Stage("the first event on a kept connection", error=NO_EVENT, got=STREAM_HEAD, way="https", kept=True),
    Stage("the second event", error=NO_EVENT, got=begun(chunk("a"), b"data: ")),
    Stage("comments", error=NO_EVENT, got=begun(chunk("a")), then=trickle(in_chunks(b": ping\n\n"))),
    Stage("pings", error=NO_EVENT, got=begun(chunk("a")), then=trickle(in_chunks(PING))),
    Stage("an event that trickles", error=NO_EVENT, got=OPEN_HEAD + b"data: ", then=trickle(b"x")),
    Stage("a JSON answer", error=NOT_WHOLE, got=sized(COMPLETION)[:-1]),
    Stage("the body of an error", error="APIError: API error 503: abc", got=HALF_AN_ERROR),
    Stage("a JSON answer that trickles", error=NOT_WHOLE, got=JSON_HEAD, then=trickle(b" ")),
    Stage("an error that trickles", error="APIError: API error 503: abc", got=OPEN_ERROR, then=trickle(b" ")),
    Stage("the wait before a retry", error="APIError: API error 503: Busy", got=TRY_LATER),
]


@contextlib.contextmanager
def stopped_at(stage, reached, **settings):
    """Make a gateway at which a call comes to a stage, and a client of it. `reached` is called at the stage."""
    steps = [stage.got, reached, *stage.then]
    with contextlib.ExitStack() as stack:
        answers = [HELLO, steps] if stage.kept else [steps]
        gateway = stack.enter_context(Gateway(*answers, at_connect=() if stage.asked else steps, tls=stage.kept))
        base_url = f"{stage.way}://{gateway.host}"
        if stage.way == "proxy":
            stack.enter_context(mock.patch.dict(os.environ, HTTPS_PROXY=gateway.url))
            base_url = "https://gateway.invalid"
        client = stack.enter_context(gateway.client(base_url=base_url, **settings))
        if stage.kept:
            list(client.stream("m", "Hi"))
        yield gateway, client


def before_connect(act):
    return before_calls(act, socket.socket, "connect")


def two_addresses(*arguments, look_up=socket.getaddrinfo):
    """Look up a name, and find each address twice."""
    return 2 * look_up(*arguments)


TWO_ADDRESSES = mock.patch.object(socket, "getaddrinfo", two_addresses)


class TimeTest(unittest.TestCase):
    def test_each_wait_ends_when_time_is_up(self):
        """What may be under way, and paid for, is not sent again."""

        def wait(stage):
            retries = 2 if " within " in stage.error else 0
            with stopped_at(stage, lambda: None, timeout=0.5, max_retries=retries) as (gateway, client):
                error = drain(client.stream("m", stage.prompt))[1]
                return stage.name, told(error).replace(gateway.host, "HOST"), gateway.connections

        proxied = [stage for stage in STAGES if stage.way == "proxy"]  # They share the environment.
        others = [stage for stage in STAGES if stage.way != "proxy"]
        start = time.monotonic()
        outcomes = list(map(wait, proxied))
        with concurrent.futures.ThreadPoolExecutor(len(others)) as pool:
            outcomes += pool.map(wait, others)
        self.assertEqual(outcomes, [(stage.name, stage.error, 1) for stage in proxied + others])
        self.assertLess(time.monotonic() - start, WAIT / 2)

    def test_late_comment_buys_no_time(self):
        pause = functools.partial(time.sleep, 0.4)
        answer = [STREAM_HEAD, pause, in_chunks(b": ping\n\n"), pause, in_chunks(event(chunk("a", "stop"))), END]
        self.assertEqual(ask(answer, timeout=0.5).told, NO_EVENT)

    def test_timeout_may_be_huge(self):
        self.assertEqual(text_of(ask(HELLO, timeout=1e300, options={"timeout": 10**15}).chunks), "Hello")

    def test_each_event_has_the_whole_time(self):
        """A late comment does not shorten it. The time that the caller takes with a chunk does not count."""

        def pass_time():
            time.sleep(0.05)  # until the client waits
            clock.ahead += 9.8

        data = in_chunks(b": ping\n\n", event(chunk("b")))
        end = in_chunks(event(chunk("c", "stop"))) + END
        answer = [begun(chunk("a")), pass_time, data, functools.partial(time.sleep, 0.3), end]
        with patched_clock() as clock, serving(answer, timeout=10) as (_, client):
            for _ in client.stream("m", "Hi"):
                clock.ahead += 11

    def test_connecting_is_part_of_the_time(self):
        def connect(*_):
            clock.ahead += 9.8

        start = time.monotonic()
        with patched_clock() as clock, serving([HANG], timeout=20) as (gateway, client), before_connect(connect):
            error = drain(client.stream("m", "Hi", timeout=10))[1]
        self.assertEqual(told(error), f"RequestTimeoutError: no answer from {gateway.host} within 10 s")
        self.assertLess(time.monotonic() - start, 5)

    def test_connecting_has_10_seconds_in_all(self):
        """All addresses of a host share them, and so do TCP, the proxy's answer and TLS."""

        def time_out(sock):
            limits.append(round(sock.gettimeout()))
            clock.ahead += sock.gettimeout() + 0.001
            raise socket.timeout("timed out")

        def connect(sock, _):
            if not limits:
                time_out(sock)
            limits.append(round(sock.gettimeout()))
            clock.ahead += 2

        def pass_time():
            clock.ahead += 1

        limits, stage = [], Stage("a slow proxy", error=NO_TUNNEL, way="proxy", then=[head()])
        handshake = mock.patch.object(ssl.SSLSocket, "do_handshake", time_out)
        with patched_clock() as clock, stopped_at(stage, pass_time, timeout=600, max_retries=0) as (proxy, client):
            with TWO_ADDRESSES, before_connect(connect), handshake:
                error = drain(client.stream("m", "Hi"))[1]
        self.assertEqual((told(error).replace(proxy.host, "HOST"), limits), (NO_TUNNEL, [5, 5, 2]))

    def test_time_out_of_system_is_a_broken_connection(self):
        error = TimeoutError(errno.ETIMEDOUT, "Connection timed out")
        with mock.patch.object(http.client.HTTPConnection, "getresponse", side_effect=error):
            got = ask(HELLO)
        self.assertRegex(got.told, "^NetworkError: the connection to HOST broke: .*Connection timed out")
        self.assertEqual(len(got.waits), 2)

    def test_sockets_have_keepalive(self):
        def connect(sock, _):
            found.append(sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) > 0)
            found.append(sock.getsockopt(socket.IPPROTO_TCP, idle) if idle else 60)

        found = []
        idle = getattr(socket, "TCP_KEEPIDLE", getattr(socket, "TCP_KEEPALIVE", None))
        with before_connect(connect):
            ask(HELLO)
        self.assertEqual(found[:2], [True, 60])


class CloseTest(unittest.TestCase):
    @unittest.skipIf(os.name == "nt", "a blocked read may not wake there")
    def test_close_ends_each_wait_at_once(self):
        for stage in STAGES:
            reached = threading.Event()
            with self.subTest(stage.name), stopped_at(stage, reached.set, timeout=600) as (gateway, client):
                outcome = in_thread(lambda: drain(client.stream("m", stage.prompt))[1])
                self.assertTrue(reached.wait(WAIT))
                start = time.monotonic()
                client.close()
                self.assertEqual((told(outcome()), gateway.connections), (CLOSED, 1))
                self.assertLess(time.monotonic() - start, 5)  # Connecting ends after 10 s anyway.

    def test_close_while_connecting_ends_that_call_alone(self):
        def connect(*_):
            client.close()

        with serving(HELLO) as (gateway, client):
            with before_connect(connect):
                self.assertEqual((told(drain(results(client))[1]), gateway.requests), (CLOSED, []))
            self.assertEqual(text_of(client.stream("m", "Hi")), "Hello")

    def test_leaving_a_stream_or_client_frees_sockets(self):
        """A stream does not need the name of its client. On CPython nothing is left to the garbage collector."""
        gc.disable()
        self.addCleanup(gc.enable)
        for left, how in itertools.product(("stream", "client"), ("closed", "dropped")):
            with self.subTest(left, how=how), Gateway(HELLO) as gateway, warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                names = {"client": gateway.client()}
                names["stream"] = names["client"].stream("m", "Hi")
                next(names["stream"])
                if left == "stream":
                    del names["client"]
                else:
                    list(names.pop("stream"))  # Its connection is kept.
                if how == "closed":
                    names[left].close()
                else:
                    names.clear()
                collect_dropped()
                self.assertTrue(gateway.closed.acquire(timeout=WAIT))
            self.assertEqual([str(warning.message) for warning in caught], [])


class TimerExpired(TimeoutError):
    """A time-out with an errno, as a program may raise it."""

    def __init__(self, text):
        super().__init__(errno.ETIME, text)


class SignalTest(unittest.TestCase):
    KINDS = (TimeoutError, TimerExpired, LookupError, KeyboardInterrupt)  # what a signal handler raises

    @unittest.skipUnless(hasattr(signal, "pthread_kill"), "needs the signals of POSIX")
    def test_alarm_and_ctrl_c_end_each_wait(self):
        def ring():
            time.sleep(0.02)
            signal.pthread_kill(threading.main_thread().ident, signal.SIGALRM)

        def handler(*_):
            raise kind("alarm")

        self.addCleanup(signal.signal, signal.SIGALRM, signal.signal(signal.SIGALRM, handler))
        for kind, stage in itertools.product(self.KINDS, STAGES):
            with self.subTest(stage.name, kind=kind), stopped_at(stage, ring) as (gateway, client):
                start = time.monotonic()
                with self.assertRaises((kind, EdgeeError)):
                    list(client.stream("m", stage.prompt))
                self.assertLess(time.monotonic() - start, WAIT / 2)
                self.assertEqual(gateway.connections, 1)
                if stage.then != [STALL]:
                    collect_dropped()
                    self.assertTrue(gateway.closed.acquire(timeout=WAIT))

    def test_alarm_and_ctrl_c_end_connecting(self):
        def connect(sock, _):
            opened.append(sock)
            raise kind("alarm")

        for kind in self.KINDS:
            opened = []
            with self.subTest(kind), serving(HELLO) as (gateway, client), TWO_ADDRESSES, before_connect(connect):
                with self.assertRaises((kind, EdgeeError)):
                    list(client.stream("m", "Hi"))
            self.assertEqual([sock.fileno() for sock in opened], [-1])

    def test_alarm_and_ctrl_c_end_reading_a_rest(self):
        """The end of the last answer's body is read when its connection is next wanted."""
        rest = event(chunk("a", "stop")) + event("[DONE]")
        for kind in self.KINDS:
            with self.subTest(kind), serving([HELLO[:-5], HANG], HELLO) as (gateway, client):
                list(client.stream("m", "Hi"))
                with mock.patch.object(http.client.HTTPResponse, "read1", side_effect=[kind("alarm"), rest]):
                    with self.assertRaises((kind, EdgeeError)):
                        list(client.stream("m", "Hi"))
                self.assertTrue(gateway.closed.acquire(timeout=WAIT))


# ---- TLS and proxies -------------------------------------------------------------------------------------------------

# Where a request goes: the host and the port that are looked up. In the environment are HTTPS_PROXY=http://p:1,
# HTTP_PROXY=http://p:2, and what a row adds.
Way = row_type("Way", base_url="", leads_to=(), added={})
WAYS = [
    Way("http", "http://a.test", leads_to=("p", 2)),
    Way("https", "https://a.test", leads_to=("p", 1)),
    Way("a proxy without a port", "https://a.test", leads_to=("p", 80), added={"https_proxy": "p"}),
    Way("an empty variable", "https://a.test", leads_to=("a.test", 443), added={"HTTPS_PROXY": ""}),
    Way("NO_PROXY for all", "http://a.test", leads_to=("a.test", 80), added={"NO_PROXY": "*"}),
    Way("NO_PROXY for a domain", "https://a.test", leads_to=("a.test", 443), added={"NO_PROXY": "b, .test"}),
    Way("NO_PROXY for an address", "https://[::1]:8443", leads_to=("::1", 8443), added={"NO_PROXY": "::1"}),
    Way("NO_PROXY with a port", "https://a.test", leads_to=("a.test", 443), added={"NO_PROXY": "a.test:443"}),
    Way("NO_PROXY with another port", "https://a.test", leads_to=("p", 1), added={"NO_PROXY": "a.test:9"}),
]


@mock.patch.dict(os.environ)  # Each test has a copy.
class TLSAndProxyTest(unittest.TestCase):
    def test_untrusted_certificate_is_final(self):
        for reason, store, host in (
            ("self[- ]signed certificate", os.devnull, "127.0.0.1"),
            ("Hostname mismatch", CERTIFICATE_FILE, "localhost"),
        ):
            with self.subTest(reason), Gateway(HELLO, tls=True) as gateway:
                os.environ["SSL_CERT_FILE"] = store
                got = ask(HELLO, base_url=f"https://{host}:{gateway.port}")
                text = f"the certificate of {host}:{gateway.port} is not trusted: {reason}"
                self.assertRegex(got.told, f"^NetworkError: {text}.*SSL_CERT_FILE")
                self.assertEqual((got.waits, gateway.requests), ([], []))

    def test_unreadable_store_is_final(self):
        with mock.patch.object(ssl, "create_default_context", side_effect=PermissionError(13, "Permission denied")):
            got = ask(HELLO, tls=True)
        self.assertRegex(got.told, "^NetworkError: cannot read the trusted certificates: .*Permission denied")
        self.assertEqual((type(got.error.__cause__), got.waits, got.requests), (PermissionError, [], []))

    @unittest.skipIf(os.name == "nt", "Windows always has a store")
    def test_certifi_is_used_only_without_a_store(self):
        certifi = mock.Mock(where=mock.Mock(side_effect=lambda: CERTIFICATE_FILE))
        with mock.patch.dict(sys.modules, certifi=certifi), tempfile.TemporaryDirectory() as empty:
            self.assertEqual(ask(HELLO, tls=True).told, "")  # The file in SSL_CERT_FILE is a store.
            self.assertFalse(certifi.where.called)
            os.environ.update(SSL_CERT_FILE=os.devnull, SSL_CERT_DIR=empty)
            self.assertEqual(ask(HELLO, tls=True).told, "")
            sys.modules["certifi"] = None  # It is not installed.
            self.assertRegex(ask(HELLO, tls=True).told, "^NetworkError: the certificate of HOST is not trusted")

    def test_cut_without_close_notify_is_a_cut(self):
        for answer in (begun(chunk("a")), OPEN_HEAD + event(chunk("a")), sized(COMPLETION)[:-1]):
            self.assertRegex(ask([answer, CLOSE], tls=True).told, "^StreamInterruptedError: ", answer)

    def test_http_works_without_the_ssl_module(self):
        with mock.patch.dict(sys.modules, ssl=None):
            self.assertEqual(ask(HELLO).told, "")
            refusal = ask(HELLO, base_url="https://127.0.0.1:1").told
        self.assertEqual(refusal, "NetworkError: https:// needs the ssl module, which this Python does not have")

    def test_environment_names_the_way(self):
        unknown = mock.patch.object(socket, "getaddrinfo", side_effect=socket.gaierror(8, "unknown"))
        system = mock.patch.object(urllib.request, "getproxies", return_value={"https": "http://system"})
        for way in WAYS:
            environment = {"HTTPS_PROXY": "http://p:1", "HTTP_PROXY": "http://p:2", **way.added}
            with self.subTest(way.name), mock.patch.dict(os.environ, environment), system, unknown as lookup:
                with Edgee({"api_key": KEY, "base_url": way.base_url, "max_retries": 0}) as client:
                    self.assertIsInstance(drain(results(client))[1], edgee.NetworkError)
                self.assertEqual([made[0][:2] for made in lookup.call_args_list], [way.leads_to])

    def test_https_goes_through_a_tunnel(self):
        """The proxy never sees the key, and the gateway never sees the proxy's password."""
        with Gateway(HELLO, tls=True, tunnel=True) as proxy:
            os.environ["HTTPS_PROXY"] = f"http://user:pass%21@{proxy.host}"
            with proxy.client() as client:
                for _ in range(2):
                    self.assertEqual(text_of(client.stream("m", "Hi")), "Hello")
        tunnel, *requests = proxy.requests
        self.assertEqual((tunnel.method, tunnel.path, len(requests)), ("CONNECT", proxy.host, 2))
        self.assertEqual(tunnel.headers["proxy-authorization"], "Basic dXNlcjpwYXNzIQ==")
        self.assertNotIn(KEY, str(tunnel))
        self.assertNotIn("proxy-authorization", requests[0].headers)

    def test_http_goes_through_a_proxy_as_whole_url(self):
        with Gateway(HELLO) as proxy:
            os.environ["HTTP_PROXY"] = proxy.url.replace("//", "//token@")
            self.assertEqual(text_of(ask(base_url="http://gateway.invalid").chunks), "Hello")
        (request,) = proxy.requests
        self.assertEqual(request.path, "http://gateway.invalid/v1/chat/completions")
        self.assertEqual(request.headers["host"], "gateway.invalid")
        self.assertEqual(request.headers["proxy-authorization"], "Basic dG9rZW46")

    def test_unusable_proxy_is_refused_in_words(self):
        for url in ("socks5://p:1", "https://p:1", "http://a:b", "http://", "http://u:password@:1"):
            os.environ["HTTPS_PROXY"] = url
            got = ask(HELLO, base_url="https://gateway.invalid")
            with self.subTest(url):
                self.assertRegex(got.told, "^NetworkError: HTTPS_PROXY must be http://host:port")
                self.assertEqual((got.waits, "password" in got.told), ([], False))

    def test_proxy_that_fails_is_named_with_its_variable(self):
        """A wrong password, 407, may lock an account, so that is final."""
        for status, waits in (("407 Proxy Authentication Required", 0), ("503 Unavailable", 2), ("", 2)):
            answer = [head(status, Content_Length=0)] if status else []
            with self.subTest(status), Gateway([*answer, CLOSE]) as proxy:
                os.environ["HTTPS_PROXY"] = proxy.url.replace("//", "//me:password@")
                got = ask(HELLO, base_url="https://gateway.invalid")
                named = re.escape(f"gateway.invalid through the proxy {proxy.host} (see HTTPS_PROXY): ")
                self.assertRegex(got.told, f"^NetworkError: could not connect to {named}.*{status}")
                self.assertEqual((len(proxy.requests), len(got.waits)), (waits + 1, waits))
                self.assertNotIn("password", got.told)

    def test_refusal_over_http_is_an_api_error(self):
        with Gateway(sized(b"", "407 Proxy Authentication Required")) as proxy:
            os.environ["HTTP_PROXY"] = proxy.url
            got = ask(HELLO, base_url="http://gateway.invalid")
        self.assertEqual((got.told, len(proxy.requests)), ("APIError: API error 407: Proxy Authentication Required", 1))


# ---- Connections: kept, forked, left and shared ----------------------------------------------------------------------

# An answer, and the number of connections that it takes to ask for it and then for another one.
Kept = row_type("Kept", answer=HELLO, connections=1)
KEPT = [
    Kept("a stream", [HELLO]),
    Kept("JSON", [sized(COMPLETION)]),
    Kept("an error", [REFUSED]),
    Kept("more after [DONE]", [HELLO[:-5] + in_chunks(b": bye\n" * 20_000) + b"0\r\nX: y\r\n\r\n"]),
    Kept("Connection: close", [with_header(HELLO, "Connection: close")], connections=2),
    Kept("Connection: close in a 103", [head("103 Early Hints", Connection="close") + HELLO], connections=2),
    Kept("no end of the body", [HELLO[:-5], HANG], connections=2),
    Kept("a flood after [DONE]", [HELLO[:-5], *trickle(in_chunks(b": x\n" * 10_000))], connections=2),
    Kept("no JSON", [stream_of("nonsense")], connections=2),
    Kept("an incomplete answer", [begun(chunk("a")) + b"0\r\n\r\n"], connections=2),
    Kept("an error whose body is cut", [head("404 X", Content_Length=10) + b"abc", CLOSE], connections=2),
]


# What becomes of an answer, by the first word of its question.
FAULTS = {
    "none": lambda answer: [answer],
    "late": lambda answer: [answer[:-5], lambda: time.sleep(0.001), answer[-5:]],
    "cut": lambda answer: [answer[:-60], CLOSE],
    "refusal": lambda answer: [REFUSED],
}


def in_child(function):
    """Return True if a function returns True in a forked child."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Since Python 3.12 there is one, because this process has threads.
        child = os.fork()
    if child:
        return os.waitpid(child, 0)[1] == 0
    signal.alarm(2 * WAIT)  # ends a child that hangs
    try:
        os._exit(0 if function() is True else 1)
    finally:
        os._exit(2)


DAEMON_THREADS = """
import threading, edgee
client, reading = edgee.Edgee(), threading.Semaphore(0)
read = lambda: [reading.release() for chunk in client.stream("m", "Hi")]
for _ in range(4):
    threading.Thread(target=read, daemon=True).start()
for _ in range(8):
    reading.acquire()
"""
CLIENT_LEFT_OPEN = """
import edgee, socket
client = edgee.Edgee()
print(client.send("m", "Hi").text)
socket.socket.close = lambda sock: print("closed at exit")
"""


class ConnectionTest(unittest.TestCase):
    def ask_twice(self, *answers, closed=False, later=0, **settings):
        """Ask, and ask again after it has closed, or later. Return text, number of requests and of connections."""
        with patched_clock() as clock, serving(*answers, **settings) as (gateway, client):
            drain(client.stream("m", "Hi"))
            clock.ahead += later
            if closed:
                self.assertTrue(gateway.closed.acquire(timeout=WAIT))
            text = text_of(client.stream("m", "Hi"))
            self.assertEqual(sum(clock.waits), 0)
            return text, len(gateway.requests), gateway.connections

    def open_connections(self, client, number):
        """Read so many streams at once to their end."""
        streams = [client.stream("m", "Hi") for _ in range(number)]
        self.assertEqual([next(stream).text for stream in streams], ["Hel"] * number)
        self.assertEqual([text_of(stream) for stream in streams], ["lo"] * number)

    def test_which_connections_are_kept(self):
        for row in KEPT:
            with self.subTest(row.name):
                self.assertEqual(self.ask_twice(row.answer, HELLO), ("Hello", 2, row.connections))

    def test_none_is_kept_for_over_60_seconds(self):
        self.assertEqual([self.ask_twice(HELLO, later=seconds)[2] for seconds in (59, 61)], [1, 2])

    def test_ten_requests_that_end_late_make_one_handshake(self):
        late_end = [HELLO[:-5], lambda: time.sleep(0.005), HELLO[-5:]]
        with serving(late_end, tls=True) as (gateway, client):
            for _ in range(10):
                list(client.stream("m", "Hi"))
        self.assertLess(gateway.connections, 4)  # On a busy machine 5 ms may become more than is waited for.

    def test_dead_connection_is_replaced_without_error_or_wait(self):
        pause = functools.partial(time.sleep, 0.05)  # http.client reads ahead what comes at once.
        for end in ([CLOSE], [RESET], [pause, sized(b"", "408 Timeout"), CLOSE]):
            with self.subTest(end):
                self.assertEqual(self.ask_twice([HELLO, *end], HELLO, closed=True, max_retries=0), ("Hello", 2, 2))

    def test_request_that_meets_a_close_is_sent_again(self):
        self.assertEqual(self.ask_twice(HELLO, [CLOSE], HELLO), ("Hello", 3, 2))
        with self.assertRaisesRegex(edgee.NetworkError, "^the connection to .* broke"):
            self.ask_twice(HELLO, [CLOSE], HELLO, max_retries=0)

    def test_several_dead_connections_cost_one_retry(self):
        """A gateway that starts again closes all of them."""
        with serving(*[HELLO] * 4, [CLOSE], HELLO, max_retries=1) as (gateway, client):
            self.open_connections(client, 4)
            self.assertEqual(text_of(client.stream("m", "Hi")), "Hello")
            self.assertEqual((len(gateway.requests), gateway.connections), (6, 5))

    def test_few_idle_connections_are_kept(self):
        with serving(HELLO) as (gateway, client):
            self.open_connections(client, 24)
            self.assertTrue(gateway.closed.acquire(timeout=WAIT))
            list(client.stream("m", "Hi"))
            self.assertEqual(gateway.connections, 24)

    @unittest.skipUnless(hasattr(os, "fork"), "needs fork()")
    def test_forked_child_leaves_its_parents_connections_alone(self):
        def leave():
            streams.pop().close()
            client.close()
            return True

        for tls in (False, True):
            forked = threading.Event()
            held = [begun(chunk("a")), lambda: forked.wait(WAIT), in_chunks(event(chunk("b", "stop"))), END]
            with self.subTest(tls=tls), serving(HELLO, held, held, HELLO, tls=tls) as (gateway, client):
                idle, *streams = [client.stream("m", "Hi") for _ in range(3)]
                self.assertEqual([next(stream).text for stream in (idle, *streams)], ["Hel", "a", "a"])
                list(idle)
                self.assertTrue(in_child(leave))
                self.assertTrue(in_child(lambda: text_of(client.stream("m", "Hi")) == "Hello"))
                forked.set()
                streams.append(client.stream("m", "Hi"))
                self.assertEqual([text_of(stream) for stream in streams], ["b", "b", "Hello"])
                self.assertEqual((gateway.connections, len(gateway.requests)), (4, 5))

    @unittest.skipUnless(hasattr(os, "fork"), "needs fork()")
    def test_forked_child_leaves_its_parents_async_stream_alone(self):
        def leave():
            with contextlib.suppress(StopIteration):
                stream.aclose().send(None)
            return True

        async def fork():
            await stream.__anext__()
            left = in_child(leave)
            forked.set()
            return left, text_of((await adrain(stream))[0])

        forked = threading.Event()
        with serving([begun(chunk("a")), lambda: forked.wait(WAIT), HELLO_BODY]) as (_, client):
            stream = client.astream("m", "Hi")
            self.assertEqual(asyncio.run(fork()), (True, "Hello"))

    def test_daemon_threads_are_silent_at_exit(self):
        def endless(request):
            return itertools.chain([STREAM_HEAD], itertools.repeat(in_chunks(event(chunk("a")))))

        with Gateway(endless) as gateway:
            process = start_process("-X", "dev", "-W", "error", "-c", DAEMON_THREADS, gateway=gateway)
            self.assertEqual(end_of(process), (0, "", ""))

    def test_nothing_runs_at_exit(self):
        with Gateway(sized(COMPLETION)) as gateway:
            process = start_process("-c", CLIENT_LEFT_OPEN, gateway=gateway)
            self.assertEqual(end_of(process), (0, "Hello\n", ""))

    def test_threads_share_a_client(self):
        """No answer is mixed up with another. A fault of one answer changes no other."""

        def answer_to(request):
            question = json.loads(request.body)["messages"][0]["content"]
            return FAULTS[question.split()[0]](stream_of(*map(chunk, question), chunk(finish="stop")))

        def ask_often(thread):
            for fault in [*FAULTS, "none", "late", "none"] * 2:
                question, whole = f"{fault} in thread {thread}", fault in ("none", "late")
                chunks, error = drain(client.stream("m", question))
                text = text_of(chunks)
                self.assertEqual((text, error is None), (question if whole else question[: len(text)], whole))

        with serving(answer_to, timeout=4 * WAIT) as (_, client):
            with concurrent.futures.ThreadPoolExecutor(16) as pool:
                list(pool.map(ask_often, range(16)))

    def test_mutated_stream_fails_or_has_its_end(self):
        """Some bytes are dropped, doubled or replaced by another. Such an answer does not spoil the next one."""
        chance, answers = random.Random(20261122), []
        for data in [HELLO, OPEN_HEAD + event(chunk("a")) + event("[DONE]")] * 100:
            start = chance.randrange(len(data))
            end = start + chance.randrange(1, 40)
            middle = chance.choice((b"", data[start:end] * 2, bytes([chance.randrange(256)])))
            answers.append(data[:start] + middle + data[end:])

        def answer_to(request):
            prompt = json.loads(request.body)["messages"][0]["content"]
            return [HELLO] if prompt == "Hi" else [answers[int(prompt)], CLOSE]

        with patched_clock(), serving(answer_to) as (_, client):
            for number, answer in enumerate(answers):
                error = drain(client.stream("m", str(number)))[1]
                self.assertNotIsInstance(error, edgee.RequestTimeoutError, answer)
                self.assertTrue(error or b"[DONE]" in answer or b"finish_reason" in answer, answer)
                self.assertEqual(text_of(client.stream("m", "Hi")), "Hello", answer)


# ---- asyncio ---------------------------------------------------------------------------------------------------------

SAME_OUTCOMES = {
    "whole": stream_of(*100 * [chunk("x")], chunk(finish="stop")),
    "document": sized(COMPLETION),
    "status": REFUSED,
    "cut": [begun(chunk("Hel")), CLOSE],
    "silence": [HANG],
}


async def until(condition):
    """Wait for a condition. The event loop goes on meanwhile."""
    for _ in range(200 * WAIT):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError(f"it did not happen within {WAIT} s")


async def adrain(generator):
    """Do as drain(), for asyncio."""
    chunks = []
    try:
        async for one in generator:
            chunks.append(one)
    except EdgeeError as error:
        return chunks, error
    return chunks, None


def frees_connection(leave):
    """Test a way to leave a stream: when its thread waits for the gateway, and when it has read far enough ahead."""

    def test(self):
        async def take_one_and_leave():
            streams = [client.astream("m", "Hi")]
            await streams[0].__anext__()
            await asyncio.sleep(0.05)
            await leave(self, streams, client)

        for count in (1, 100):
            answer = [begun(*count * [chunk("x")]), HANG]
            with self.subTest(chunks=count), serving(answer, timeout=600) as (self.gateway, client):
                self.run_loop(take_one_and_leave())
                self.run_loop(self.connection_is_freed())

    return test


class AsyncTest(unittest.TestCase):
    def threads(self):
        return [thread for thread in threading.enumerate() if thread.name == "edgee"]

    async def connection_is_freed(self):
        await until(lambda: not self.threads() and not self.gateway.sockets)

    async def cancel(self, call, is_reached):
        task = asyncio.ensure_future(call)
        await until(is_reached)
        task.cancel()
        await asyncio.wait([task], timeout=WAIT / 2)
        self.assertTrue(task.cancelled())

    def run_loop(self, main):
        """Run a coroutine in an event loop. Afterwards no thread is left, and Python has complained of nothing."""

        async def watched():
            loop = asyncio.get_running_loop()
            loop.set_exception_handler(lambda loop, context: complaints.append(context))
            loop.slow_callback_duration = WAIT
            return await asyncio.wait_for(main, 3 * WAIT)

        gc.collect()
        with warnings.catch_warnings(record=True) as complaints:
            warnings.simplefilter("always")
            with mock.patch.object(sys, "unraisablehook", complaints.append):
                with mock.patch.object(threading, "excepthook", complaints.append):
                    result = asyncio.run(watched())
                    for thread in self.threads():
                        thread.join(WAIT)
                    gc.collect()
        self.assertEqual((self.threads(), list(map(str, complaints))), ([], []))
        return result

    def test_outcomes_are_those_of_send_and_stream(self):
        async def asend(*arguments, **options):
            yield await client.asend(*arguments, **options)

        for name, answer in SAME_OUTCOMES.items():
            options = {"timeout": 0.2 if name == "silence" else WAIT, "headers": {"X-A": "b"}}
            for method in ("send", "stream"):
                with self.subTest(name, method=method), serving(answer, max_retries=0) as (gateway, client):
                    chunks, expected = drain(results(client, method, **options))
                    ask = asend if method == "send" else client.astream
                    got, error = self.run_loop(adrain(ask("m", "Hi", **options)))
                    self.assertEqual((got, told(error)), (chunks, told(expected)))
                    self.assertEqual(*gateway.requests)

    def test_nothing_is_sent_before_the_first_chunk(self):
        async def ask():
            stream = client.astream("m", "Hi")
            with self.assertRaises(ValueError):
                client.astream("m", {})
            await asyncio.sleep(0.1)
            await stream.aclose()

        with serving(HELLO) as (gateway, client):
            self.run_loop(ask())
            self.assertEqual(gateway.connections, 0)

    def test_call_runs_in_context_of_task(self):
        name, seen = contextvars.ContextVar("name", default="of nobody"), []
        name.set("of the task")
        look_ups = before_calls(lambda *_: seen.append(name.get()), socket, "getaddrinfo")
        with serving(HELLO) as (_, client), look_ups:
            self.run_loop(adrain(client.astream("m", "Hi")))
        self.assertEqual(seen, ["of the task"])

    def test_chunk_that_comes_just_before_wait_is_taken(self):
        late = before_calls(lambda *_: time.sleep(0.1), asyncio.Event, "clear")
        with serving(HELLO) as (_, client), late:
            chunks, _ = self.run_loop(adrain(client.astream("m", "Hi")))
        self.assertEqual(text_of(chunks), "Hello")

    def test_event_loop_goes_on_while_call_waits(self):
        async def ask():
            task = asyncio.ensure_future(adrain(client.astream("m", "Hi")))
            for barrier in barriers:
                await until(lambda: barrier.n_waiting)
                barrier.wait()
            return await task

        importing, trusting, connecting, *answering = barriers = [threading.Barrier(2, timeout=WAIT) for _ in range(5)]
        imports = before_calls(lambda name, *_: name == "http.client" and importing.wait(), builtins, "__import__")
        contexts = before_calls(lambda *_: trusting.wait(), ssl, "create_default_context")
        look_ups = before_calls(lambda *_: connecting.wait(), socket, "getaddrinfo")
        answer = [answering[0].wait, begun(chunk("Hello")), answering[1].wait, in_chunks(event("[DONE]"))]
        with serving(answer, tls=True) as (_, client), imports, contexts, look_ups:
            chunks, error = self.run_loop(ask())
        self.assertEqual((text_of(chunks), error), ("Hello", None))

    def test_chunks_are_read_little_ahead(self):
        """The gateway sends no more than what the sockets hold, some MiB, and what the client has read ahead."""

        async def take_one():
            async for _ in client.astream("m", "Hi"):
                await asyncio.sleep(0.3)
                break

        sent = threading.Event()
        answer = [STREAM_HEAD, *400 * [in_chunks(event(chunk("x" * (64 << 10))))], sent.set, HANG]
        with serving(answer, timeout=600) as (_, client):
            self.run_loop(take_one())
        self.assertFalse(sent.is_set())

    def test_many_streams_in_two_loops_share_a_client(self):
        async def ask():
            streams = [client.astream("m", "Hi") for _ in range(50)]
            for stream in streams:
                await stream.__anext__()
            await streams.pop().aclose()
            return [(text_of(chunks), error) for chunks, error in await asyncio.gather(*map(adrain, streams))]

        all_asked = threading.Barrier(100, timeout=WAIT)
        with serving([begun(chunk("a")), all_asked.wait, HELLO_BODY]) as (_, client):
            other = in_thread(lambda: asyncio.run(ask()))
            self.assertEqual(self.run_loop(ask()) + other(), 98 * [("Hello", None)])

    def test_cancelled_task_ends_at_each_stage(self):
        for stage in STAGES:
            reached = threading.Event()
            with self.subTest(stage.name), stopped_at(stage, reached.set, timeout=600) as (_, client):
                self.run_loop(self.cancel(adrain(client.astream("m", stage.prompt)), reached.is_set))

    def test_cancelled_task_does_not_wait_for_look_up(self):
        async def cancel():
            await self.cancel(client.asend("m", "Hi"), lambda: barrier.n_waiting)
            # Threads that are no daemons would hold up the end of the program.
            self.assertEqual([thread.daemon for thread in self.threads()], [True])
            barrier.wait()

        barrier = threading.Barrier(2, timeout=WAIT)
        with serving(HELLO) as (gateway, client), before_calls(lambda *_: barrier.wait(), socket, "getaddrinfo"):
            self.run_loop(cancel())
            self.assertEqual(gateway.requests, [])

    @frees_connection
    async def test_aclose_frees_connection(self, streams, client):
        await streams[0].aclose()

    @frees_connection
    async def test_dropped_stream_frees_connection(self, streams, client):
        streams.clear()
        collect_dropped()
        await self.connection_is_freed()

    @frees_connection
    async def test_timeout_of_wait_for_frees_connection(self, streams, client):
        with self.assertRaises(asyncio.TimeoutError):
            await asyncio.wait_for(adrain(streams[0]), 0.1)

    @frees_connection
    async def test_end_of_event_loop_frees_connection(self, streams, client):
        """The stream is still open then."""

    def test_loop_that_is_closed_alone_frees_connection(self):
        """A loop's close() does not end the streams that are left in it, as asyncio.run() does."""
        loop = asyncio.new_event_loop()
        with serving([begun(*100 * [chunk("x")]), HANG], timeout=600) as (self.gateway, client):
            stream = client.astream("m", "Hi")
            loop.run_until_complete(stream.__anext__())
            loop.close()
            self.run_loop(self.connection_is_freed())

    @frees_connection
    async def test_close_ends_stream_that_nobody_takes(self, streams, client):
        client.close()
        await self.connection_is_freed()
        self.assertEqual(told((await adrain(streams[0]))[1]), CLOSED)


# ---- The command line ------------------------------------------------------------------------------------------------

# What came of a run: its exit status, what it wrote, and the requests that the gateway got.
Ran = collections.namedtuple("Ran", "status out err requests")


def unread(terminal=False):
    """Return a standard input that must not be read: a pipe, or a terminal where nobody types."""
    stdin = mock.Mock(spec=io.StringIO)
    stdin.isatty.return_value = terminal
    stdin.read.side_effect = AssertionError("standard input was read")
    return stdin


def run_main(*arguments, answer=HELLO, stdin=None, **environment):
    """Run main() in this process, and return what came of it. The argument URL stands for the gateway's.

    stdin: bytes, or a stream; a terminal by default. The encoding of standard output is ASCII to begin with.
    """
    stdin = io.TextIOWrapper(io.BytesIO(stdin), "ascii") if isinstance(stdin, bytes) else stdin or unread(terminal=True)
    out = io.TextIOWrapper(io.BytesIO(), "ascii", newline="\n")
    err = io.TextIOWrapper(io.BytesIO(), "utf-8", "backslashreplace", newline="\n")
    with Gateway(answer) as gateway:
        environment = {"EDGEE_API_KEY": KEY, "EDGEE_BASE_URL": gateway.url, **environment}
        streams = mock.patch.multiple(sys, stdin=stdin, stdout=out, stderr=err)
        with mock.patch.dict(os.environ, environment), streams:
            status = edgee.main([gateway.url if word == "URL" else word for word in arguments])
            out.flush()
            err.flush()
    texts = [stream.buffer.getvalue().decode().replace(gateway.host, "HOST") for stream in (out, err)]
    return Ran(status, *texts, gateway.requests)


# What is asked: how the body of the request differs from that of the prompt Hi, and headers that it has.
Asked = row_type("Asked", arguments=[], stdin=None, environment={}, body={}, headers={})
NOWHERE = "http://127.0.0.1:9"  # Nobody listens there.
BRIEF, COUNTED = {"role": "system", "content": "Be brief"}, {"include_usage": True}
IN_FILE = {"messages": [user("é")], "seed": 1, "model": "from-file", "tags": ["a"]}  # what FILE holds
WITH_HI = {**IN_FILE, "messages": [user("é"), USER]}
WITH_ALL = {"messages": [BRIEF, user("é"), USER], "seed": 1, "model": "x", "tags": ["a", "b"]}
ASKED = [
    Asked("prompt", ["Hi"]),
    Asked("several words", ["Say", "Hi"], body={"messages": [user("Say Hi")]}),
    Asked("standard input", [], stdin=b"Hi\n"),
    Asked("UTF-8 with a BOM", [], stdin="\ufeffé".encode(), body={"messages": [user("é")]}),
    Asked("blank standard input", ["Hi"], stdin=b" \n"),
    Asked("input before prompt", ["Hi"], stdin=b"  indented\n\n", body={"messages": [user("  indented\n\nHi")]}),
    Asked("model", ["Hi", "-m", "x"], environment={"EDGEE_MODEL": "y"}, body={"model": "x"}),
    Asked("EDGEE_MODEL", ["Hi"], environment={"EDGEE_MODEL": "y"}, body={"model": "y"}),
    Asked("empty EDGEE_MODEL", ["Hi"], environment={"EDGEE_MODEL": ""}),
    Asked("--base-url", ["Hi", "--base-url", "URL"], environment={"EDGEE_BASE_URL": NOWHERE}),
    Asked("system message", ["Hi", "-s", "Be brief"], body={"messages": [BRIEF, USER]}),
    Asked("tags", ["Hi", "-t", "a", "--tag", "b"], body={"tags": ["a", "b"]}),
    Asked("option, JSON", ["Hi", "--option", "stop", '["x"]'], body={"stop": ["x"]}),
    Asked("option, text", ["Hi", "-o", "user", "me"], body={"user": "me"}),
    Asked("option, null", ["Hi", "-o", "seed", "null"], body={"seed": None}),
    Asked("headers", ["Hi", "-H", "X-A", "b", "--header", "X-C", "d"], headers={"x-a": "b", "x-c": "d"}),
    Asked("usage", ["Hi", "-u"], body={"stream_options": COUNTED}),
    Asked("and more", ["Hi", "-u", "-o", "stream_options", '{"x": 1}'], body={"stream_options": {"x": 1, **COUNTED}}),
    Asked("list of messages", ["--input", "-"], stdin=b'[{"role": "user", "content": "Hi"}]'),
    Asked("object and prompt", ["--input", "-", "Hi"], stdin=b'{"messages": []}'),
    Asked("file", ["--input", "FILE"], environment={"EDGEE_MODEL": "y"}, body=IN_FILE),
    Asked("file and standard input", ["--input", "FILE"], stdin=b"Hi", body=WITH_HI),
    Asked("file and all", ["--input", "FILE", "Hi", "-t", "b", "-m", "x", "-s", "Be brief"], body=WITH_ALL),
]


# Wrong usage, and a regular expression for the beginning of the line on standard error.
Wrong = row_type("Wrong", arguments=[], stdin=None, err="")
NOTHING, TWO_WORDS = "nothing to ask: give a prompt", "-o and -H take two words each, as in -o temperature 0.2"
NO_OPTION, MISSING = "unrecognized arguments: --x; see python -m edgee --help", os.path.join(HERE, "missing.json")
WRONG = [
    Wrong("terminal", [], err=NOTHING),
    Wrong("empty standard input", [], stdin=b"", err=NOTHING),
    Wrong("all blank", [" "], stdin=b" \n", err=NOTHING),
    Wrong("unknown option", ["Hi", "--x"], err=NO_OPTION),
    Wrong("key=value", ["-o", "temperature=0.2", "Hi"], err=TWO_WORDS),
    Wrong("key=value at the end", ["Hi", "-o", "temperature=0.2"], err=TWO_WORDS),
    Wrong("name: value", ["-H", "X-Team: red", "Hi"], err=TWO_WORDS),
    Wrong("stream", ["Hi", "-o", "stream", "false"], err="-o stream .*--no-stream"),
    Wrong("no JSON value", ["Hi", "-o", "x", "NaN"], err=".*JSON"),
    Wrong("bad JSON", ["--input", "-"], stdin=b"[\n,", err="--input .*line 2 column 1"),
    Wrong("deep JSON", ["--input", "-"], stdin=b"[" * 100_000),
    Wrong("no object", ["--input", "-", "Hi"], stdin=b"0", err="--input must be a JSON object or a list"),
    Wrong("no messages", ["--input", "-"], stdin=b"{}", err=".*messages"),
    Wrong("bad tags", ["--input", "-", "Hi", "-t", "a"], stdin=b'{"messages": [], "tags": "x"}', err=".*tags"),
    Wrong("missing file", ["Hi", "--input", MISSING], err=".*missing.json"),
    Wrong("no number", ["Hi", "--timeout", "x"], err=".*--timeout.*'x'"),
    Wrong("no URL", ["Hi", "--base-url", "nonsense"], err="base_url must be "),
    Wrong("demo elsewhere", ["Hi", "--demo", "--base-url", "URL"], err="--demo .*--base-url"),
]


# What is printed of an answer to Hi. err: a regular expression for all of standard error.
Printed = row_type("Printed", answer=HELLO, arguments=[], out="", err="", status=0)
ESCAPES = "\x1b]0;pwned\x07a\x9b\x7f\tb\u3000c"
SPLIT = (json.dumps(chunk("\ud83d")), json.dumps(chunk("\ude00")))
SPLIT_THOUGHT = stream_of(*(json.dumps(chunk(reasoning=half)) for half in ("\ud83d", "\ude00")), chunk("a"))
TWO_CHOICES = stream_of(chunk("a"), chunk("x", index=1), chunk("b", "stop"), chunk("y", "stop", index=1))
HALF_CALL = {"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": "{"}}
OTHER_HALF = {"index": 0, "function": {"arguments": "}"}}
CALLED = [chunk(tool_calls=[HALF_CALL]), chunk(tool_calls=[OTHER_HALF], finish="tool_calls")]
CALL_LINE = '{"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}\n'
PICTURE = [{"type": "image_url", "image_url": {"url": "data:,a"}}]
THOUGHTS = stream_of(chunk(reasoning="h\x1b"), chunk(reasoning="m"), chunk("Hello"), chunk(finish="stop"))
SECOND_THOUGHT = stream_of(chunk("Hel"), chunk(reasoning="hm"), chunk("lo"))
TOKENS = {"prompt_tokens": 1234, "completion_tokens": 567, "cached_tokens": 1024, "reasoning_tokens": 200}
NUMBERS = {"usage": TOKENS, "compression": {"saved_tokens": 321, "cost_savings": 27_000}}
TOLD = r"edgee: m: 1234 tokens in \(1024 cached\), 567 out \(200 reasoning\), saved 321 tokens \(\$0\.027000\), "
TIMES = r"first text after \d\.\d\d s, \d\.\d\d s in all\n"
STORY = r"edgee: POST http://HOST/v1/chat/completions.*\n(edgee: .+\n)+"
SLOW = [lambda: time.sleep(0.4), HELLO]
CODED = refused(400, {"error": {"code": "bad_model_id", "message": "no\nmodel"}})
PRINTED = [
    Printed("newline is there", stream_of(chunk("Hello\n")), out="Hello\n"),
    Printed("control characters", stream_of(chunk(ESCAPES)), out=f"{ESCAPES}\n"),
    Printed("split character", stream_of(*SPLIT), out="😀\n"),
    Printed("split character in the reasoning", SPLIT_THOUGHT, arguments=("--reasoning",), out="a\n", err="😀\n"),
    Printed("half a character", stream_of(SPLIT[0], chunk("a")), out="?a\n"),
    Printed("half a character at the end", stream_of(chunk("a"), SPLIT[0]), out="a?\n"),
    Printed("refusal", stream_of(chunk(refusal="I "), chunk(refusal="won't", finish="stop")), out="I won't\n"),
    Printed("tool calls", stream_of(*CALLED), out=CALL_LINE),
    Printed("text and tool calls", stream_of(chunk("Hi"), *CALLED), out=f"Hi\n{CALL_LINE}"),
    Printed("two choices", TWO_CHOICES, out="ab\n", err="edgee: warning: 2 choices .*--json.*\n"),
    Printed("length", stream_of(chunk("a", "length")), out="a\n", err="edgee: warning: .* token limit\n"),
    Printed("max_tokens", stream_of(chunk("a", "max_tokens")), out="a\n", err="edgee: warning: .* token limit\n"),
    Printed("filter", stream_of(chunk("a", "content_filter")), out="a\n", err="edgee: warning: .* filtered\n"),
    Printed("other finish reason", stream_of(chunk("a", "end_turn")), out="a\n"),
    Printed("no text", stream_of(chunk(images=PICTURE, finish="stop")), err="edgee: warning: .* no text; --json .*\n"),
    Printed("reasoning", THOUGHTS, arguments=["--reasoning"], out="Hello\n", err="h\ufffdm\n"),
    Printed("reasoning in between", SECOND_THOUGHT, arguments=["--reasoning"], out="Hello\n", err="hm\n"),
    Printed("reasoning is not asked for", THOUGHTS, out="Hello\n"),
    Printed("usage", stream_of({**chunk("a"), **NUMBERS}), arguments=["-u"], out="a\n", err=TOLD + TIMES),
    Printed("no usage", stream_of(chunk("a")), arguments=["--usage"], out="a\n", err=f"edgee: m: {TIMES}"),
    Printed("log", HELLO, arguments=["-v"], out="Hello\n", err=STORY),
    Printed("cut answer", [begun(chunk("a")), CLOSE], out="a\n", err="edgee: .* HOST broke: .* was cut\n", status=1),
    Printed("code of an error", CODED, err=r"edgee: API error 400: no model \(bad_model_id\)\n", status=1),
    Printed("no answer in time", SLOW, arguments=["--timeout", "0.1"], err=r"edgee: .* HOST within 0\.1 s\n", status=1),
]


class CommandTest(unittest.TestCase):
    def test_what_is_asked(self):
        with tempfile.TemporaryDirectory(suffix="100%d") as folder:
            path = os.path.join(folder, "input.json")
            with open(path, "w", encoding="utf-8-sig") as file:
                json.dump(IN_FILE, file, ensure_ascii=False)
            for row in ASKED:
                with self.subTest(row.name):
                    arguments = [path if word == "FILE" else word for word in row.arguments]
                    ran = run_main(*arguments, stdin=row.stdin, **row.environment)
                    self.assertEqual((ran.status, ran.out), (0, "Hello\n"))
                    body = {"model": "openai/gpt-5.2", "messages": [USER], **row.body, "stream": True}
                    self.assertEqual(json.loads(ran.requests[0].body), body)
                    self.assertLessEqual(row.headers.items(), ran.requests[0].headers.items())

    def test_wrong_usage_is_status_2_and_one_line(self):
        for row in WRONG:
            with self.subTest(row.name):
                ran = run_main(*row.arguments, stdin=row.stdin)
                self.assertEqual((ran.status, ran.out, ran.requests), (2, "", []))
                self.assertRegex(ran.err, rf"\Aedgee: {row.err}.*\n\Z")

    def test_what_is_printed(self):
        for row in PRINTED:
            with self.subTest(row.name):
                ran = run_main("Hi", *row.arguments, answer=row.answer)
                self.assertEqual((ran.status, ran.out), (row.status, row.out))
                self.assertRegex(ran.err, rf"\A{row.err}\Z")
                self.assertNotIn(KEY, ran.err)

    def test_json_is_a_line_for_each_chunk(self):
        raws = [chunk(f"é{ESCAPES}"), chunk(tool_calls=[HALF_CALL]), chunk("b", "stop", index=1)]
        ran = run_main("Hi", "--json", answer=stream_of(*raws))
        self.assertEqual((ran.status, list(map(json.loads, ran.out.splitlines())), ran.err), (0, raws, ""))
        ran = run_main("Hi", "--json", "--no-stream", answer=sized(COMPLETION))
        self.assertEqual((ran.status, json.loads(ran.out), ran.out.count("\n")), (0, COMPLETION, 1))

    def test_missing_key_is_told_before_input_is_read(self):
        line = "edgee: EDGEE_API_KEY is not set: export EDGEE_API_KEY=YOUR-KEY, or try --demo\n"
        self.assertEqual(run_main(stdin=unread(), EDGEE_API_KEY=""), (2, "", line, []))

    def test_no_stream_asks_for_a_whole_answer(self):
        ran = run_main("Hi", "-u", "--no-stream", answer=sized({**COMPLETION, **NUMBERS}))
        self.assertEqual(ran.out, "Hello\n")
        self.assertRegex(ran.err, rf"\A{TOLD}{TIMES}\Z")
        body = json.loads(ran.requests[0].body)
        self.assertEqual((body.get("stream") or False, "stream_options" in body), (False, False))

    def test_demo_needs_no_key_and_no_network(self):
        dead = dict.fromkeys(("HTTP_PROXY", "http_proxy", "EDGEE_BASE_URL"), NOWHERE)
        asked = [("Zebra", "-u"), (), ("Zebra", "--json"), ("Zebra", "--no-stream"), ("--models",)]
        with mock.patch.object(time, "sleep"):  # It writes a word each 20 ms.
            demos = [run_main("--demo", *words, EDGEE_API_KEY="", **dead) for words in asked]
        for demo in demos:
            self.assertEqual((demo.status, bool(demo.out.strip())), (0, True))
            self.assertRegex(demo.err, r"\Aedgee: this is a demo: .*\n")
        streamed, unasked, documents, whole, _ = demos
        self.assertRegex(streamed.err, r"\nedgee: .*: \d+ tokens in, \d+ out, first text after .*\n\Z")
        self.assertEqual(("Zebra" in streamed.out, "Zebra" in unasked.out, whole.out), (True, False, streamed.out))
        deltas = [json.loads(line)["choices"][0]["delta"] for line in documents.out.splitlines()]
        self.assertEqual("".join(delta.get("content") or "" for delta in deltas).strip(), streamed.out.strip())

    def test_help_version_and_models_read_no_input(self):
        ran = run_main("-h", stdin=unread())
        self.assertRegex(ran.out, r'\Ausage:\s+python -m edgee "(?s:.*)EDGEE_API_KEY(?s:.*)130.*\n\Z')
        self.assertEqual(run_main("--version", stdin=unread()).out, f"edgee {edgee.__version__}\n")
        models = sized({"data": [{"id": "a"}, {"id": "b"}]})
        self.assertEqual(run_main("--models", stdin=unread(), answer=models).out, "a\nb\n")

    def test_main_returns_130_after_ctrl_c(self):
        stdin = unread()
        stdin.read.side_effect = KeyboardInterrupt
        self.assertEqual(run_main("Hi", stdin=stdin), (130, "", "", []))

    @unittest.skipUnless(tracemalloc, "needs tracemalloc")
    def test_memory_does_not_grow_with_the_answer(self):
        piece = in_chunks(event({**chunk("word ", reasoning="x" * 5000), "usage": {"prompt_tokens": 1}}))

        def peak(pieces):
            tracemalloc.clear_traces()
            run_main("Hi", answer=[STREAM_HEAD, *[piece] * pieces, in_chunks(event("[DONE]"))])
            return tracemalloc.get_traced_memory()[1]

        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        self.assertLess(peak(300) - peak(50), 500_000)  # of 1,250,000 bytes


# How a process ends. out: a pipe, a pipe that nobody reads, or a full disk. err: a regular expression for all of it.
Ending = row_type("Ending", answer=HELLO, arguments=["Hi"], out="pipe", err="", status=0)
NOT_KNOWN = "edgee: unrecognized arguments: --x; .*\n"
FULL = {"out": "/dev/full", "status": 1, "err": "edgee: .*No space left on device\n"}
ENDINGS_OF_PROCESSES = [
    Ending("wrong usage", arguments=["--x"], status=2, err=NOT_KNOWN),
    Ending("closed pipe", out="closed pipe"),
    Ending("closed pipe of the help", arguments=["-h"], out="closed pipe"),
    Ending("closed pipe, refused", REFUSED, out="closed pipe", status=1, err="edgee: API error 400: No\n"),
    Ending("closed pipe, wrong usage", arguments=["--x"], out="closed pipe", status=2, err=NOT_KNOWN),
    Ending("full disk", **FULL),
    Ending("full disk for the help", arguments=["-h"], **FULL),
]


class ProcessTest(unittest.TestCase):
    def test_how_a_process_ends(self):
        rows = [row for row in ENDINGS_OF_PROCESSES if row.out != "/dev/full" or os.path.exists(row.out)]
        with contextlib.ExitStack() as stack:
            processes = []
            for row in rows:
                out = subprocess.PIPE
                if row.out == "closed pipe":
                    reader, out = os.pipe()
                    os.close(reader)
                    stack.callback(os.close, out)
                elif row.out == "/dev/full":
                    out = stack.enter_context(open(row.out, "wb"))
                gateway = stack.enter_context(Gateway(row.answer))
                processes.append(start_process("-m", "edgee", *row.arguments, gateway=gateway, stdout=out))
            for row, process in zip(rows, processes):
                with self.subTest(row.name):
                    status, _, err = end_of(process)
                    self.assertEqual(status, row.status)
                    self.assertRegex(err, rf"\A{row.err}\Z")

    def test_words_are_written_as_they_come(self):
        """A reader that leaves after the third word is no error."""
        read = threading.Semaphore(0)

        def wait_until_read():
            if not read.acquire(timeout=WAIT):
                raise OSError  # The connection ends.

        words = [step for word in "abc" for step in (in_chunks(event(chunk(word))), wait_until_read)]
        answer = [STREAM_HEAD, *words, in_chunks(event(chunk("d"))), HANG]
        with Gateway(answer) as gateway, start_process("-m", "edgee", "Hi", gateway=gateway) as process:
            for word in b"abc":
                self.assertEqual(process.stdout.read(1), bytes([word]))
                if word == ord("c"):
                    process.stdout.close()
                read.release()
            self.assertEqual((process.stderr.read(), process.wait(WAIT)), (b"", 0))

    @unittest.skipIf(os.name == "nt", "needs the signals of POSIX")
    def test_reader_that_leaves_hides_no_other_end(self):
        # What a shell starts in the background ignores SIGINT, and so would our child.
        self.addCleanup(signal.signal, signal.SIGINT, signal.signal(signal.SIGINT, signal.default_int_handler))
        for step, status, err in ((HANG, -signal.SIGINT, ""), (CLOSE, 1, "edgee: the connection to .* was cut\n")):
            left = threading.Event()
            with self.subTest(step), Gateway([begun(chunk("a")), lambda: left.wait(WAIT), step]) as gateway:
                with start_process("-m", "edgee", "Hi", gateway=gateway) as process:
                    process.stdout.read(1)
                    process.stdout.close()
                    left.set()
                    if step == HANG:
                        process.send_signal(signal.SIGINT)
                    self.assertRegex(process.stderr.read().decode(), rf"\A{err}\Z")
                    self.assertEqual(process.wait(WAIT), status)

    def test_pipes_get_utf_8_unless_told_otherwise(self):
        bare = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": ""}
        environments = (bare, {**bare, "PYTHONIOENCODING": "ascii"})
        with Gateway(stream_of(chunk("é 😀"))) as gateway:
            processes = [start_process("-m", "edgee", "Hi", gateway=gateway, env=env) for env in environments]
            self.assertEqual([end_of(process) for process in processes], [(0, "é 😀\n", ""), (0, "? ?\n", "")])


# What a terminal shows. screen: the streams that are on it. left: a regular expression for what it shows in the end.
# shown: a regular expression for what must be shown meanwhile. hidden: what must never be written to the terminal.
# then: what is done when `shown` is there: Ctrl-C, or Hi is written to standard input, which is silent until then.
# out: what comes out of the stream that is not on the terminal.
TERMINAL, MEANWHILE = {"screen": ("stdout", "stderr"), "left": ""}, {"shown": "", "hidden": "", "then": ""}
OnTerminal = row_type(
    "OnTerminal", answer=[HELLO], arguments=[], environment={}, **TERMINAL, **MEANWHILE, out="", status=0
)

SHOWN = object()  # a step of an answer: wait until `shown` is on the terminal
WAITING_LINE, THINKING_LINE, SILENT = r"waiting, \d+ s", r"thinking, \d+ s", "edgee: waiting for standard input"
LOGGED = r"(edgee: .+\n)+"
THINKS = begun(chunk(reasoning="h\x1bm"))
REASONING = {"arguments": ("--reasoning",), "screen": ["stderr"], "left": "h\ufffdm\n", "out": "Hello\n"}
ASCII = {"PYTHONIOENCODING": "ascii"}


def later():
    """Let more than a second go by, so that what must not be shown has time to come."""
    time.sleep(1.2)


ON_TERMINAL = [
    OnTerminal("silent standard input", [HELLO], shown=SILENT, then="Hi", left=f"{SILENT}.*\nHello\n"),
    OnTerminal("waiting", [SHOWN, HELLO], shown=WAITING_LINE, left="Hello\n"),
    OnTerminal("thinking", [THINKS, SHOWN, HELLO_BODY], shown=THINKING_LINE, left="Hello\n"),
    OnTerminal("error", [SHOWN, REFUSED], shown=WAITING_LINE, left="edgee: API error 400: No\n", status=1),
    OnTerminal("Ctrl-C", [HANG], shown=WAITING_LINE, then="Ctrl-C", left="\n?", status=-signal.SIGINT),
    OnTerminal("log", [SHOWN, HELLO], arguments=["-v"], shown=WAITING_LINE, left=f"{LOGGED}Hello\n{LOGGED}"),
    OnTerminal("pause after text", [begun(chunk("a")), later, HELLO_BODY], left="aHello\n"),
    OnTerminal("only standard output", [later, HELLO], screen=["stdout"], hidden="waiting", left="Hello\n"),
    OnTerminal("JSON", [later, HELLO], arguments=["--json"], hidden="waiting", left=r"(\{.+\}\n){3}"),
    OnTerminal("reasoning after a wait", [SHOWN, THOUGHTS], shown=WAITING_LINE, **REASONING),
    OnTerminal("reasoning is dim", [THINKS, later, HELLO_BODY], shown=r"\x1b\[2m", **REASONING),
    OnTerminal("NO_COLOR", [THOUGHTS], environment={"NO_COLOR": "1"}, hidden="\x1b[2m", **REASONING),
    OnTerminal("TERM=dumb", [THOUGHTS], environment={"TERM": "dumb"}, hidden="\x1b[2m", **REASONING),
    OnTerminal("control characters", [stream_of(chunk("\x1b[0ma\x9b\x07\tb"))], left="\ufffd\\[0ma\ufffd\ufffd\tb\n"),
    OnTerminal("models", [sized({"data": [{"id": "\x1b"}]})], arguments=["--models"], left="\ufffd\n"),
    OnTerminal("unknown characters", [stream_of(chunk("é"))], environment=ASCII, left=r"\?\n"),
]


def left_on_screen(written):
    """Return what a terminal shows when this was written to it."""
    lines, column = [""], 0
    for part in re.findall(r"\x1b\[[\d;]*[A-Za-z]|[^\x1b]", written):
        if part == "\n":
            lines, column = [*lines, ""], 0
        elif part == "\r":
            column = 0
        elif part == "\x1b[K":
            lines[-1] = lines[-1][:column]
        elif len(part) == 1:
            lines[-1] = lines[-1][:column] + part + lines[-1][column + 1 :]
            column += 1
    return "\n".join(line.rstrip(" ") for line in lines)


@unittest.skipUnless(pty, "needs a pseudo-terminal")
class TerminalTest(unittest.TestCase):
    def setUp(self):
        # What a shell starts in the background ignores SIGINT, and so would our child.
        self.addCleanup(signal.signal, signal.SIGINT, signal.signal(signal.SIGINT, signal.default_int_handler))

    def run_on_terminal(self, row):
        """Run the command as the row says. Return its exit status, all that the terminal got, output and errors."""
        shown = threading.Event()
        answer = [(lambda: shown.wait(WAIT)) if step is SHOWN else step for step in row.answer]
        ours, theirs = pty.openpty()
        streams = {"stdin": subprocess.PIPE if row.then == "Hi" else theirs, **dict.fromkeys(row.screen, theirs)}
        words = [*row.arguments] if row.then == "Hi" else ["Hi", *row.arguments]
        with Gateway(answer) as gateway, open(ours, "rb", buffering=0) as screen:
            process = start_process("-m", "edgee", *words, gateway=gateway, env=row.environment, **streams)
            os.close(theirs)
            seen = ""
            with contextlib.suppress(OSError):  # Linux tells the end by an error.
                for block in iter(lambda: screen.read(4096), b""):
                    seen += block.decode().replace("\r\n", "\n")
                    if row.shown and re.search(row.shown, seen) and not shown.is_set():
                        shown.set()
                        if row.then == "Ctrl-C":
                            process.send_signal(signal.SIGINT)
                        elif row.then:
                            process.stdin.write(b"Hi")
                            process.stdin.close()
                            process.stdin = None
            status, out, err = end_of(process)
        return status, seen, out, err

    def test_what_is_left_on_a_terminal(self):
        ends = [in_thread(functools.partial(self.run_on_terminal, row)) for row in ON_TERMINAL]
        for row, end in zip(ON_TERMINAL, ends):
            with self.subTest(row.name):
                status, seen, out, err = end()
                self.assertEqual((status, out, err), (row.status, row.out, ""))
                self.assertRegex(left_on_screen(seen), rf"\A{row.left}\Z")
                self.assertTrue(re.search(row.shown, seen), seen)
                self.assertFalse(row.hidden and row.hidden in seen, seen)


# ---- The file itself -------------------------------------------------------------------------------------------------

LIGHT_IMPORT = """
import os, sys
before, os.environ = set(sys.modules), None  # Nobody can read it.
import edgee
print(*set(sys.modules) - before)
"""
HEAVY = {"argparse", "asyncio", "email", "http", "logging", "socket", "ssl", "typing", "urllib.request"}


class FileTest(unittest.TestCase):
    def test_importing_is_light_and_reads_no_environment(self):
        status, out, err = end_of(start_process("-S", "-W", "error", "-c", LIGHT_IMPORT))
        self.assertEqual((status, err, "edgee" in out.split()), (0, "", True))
        self.assertEqual(HEAVY & set(out.split()), set())

    def test_it_works_wherever_it_is_put(self):
        with tempfile.TemporaryDirectory() as folder, Gateway(HELLO) as gateway:
            deep, archive = os.path.join(folder, "a", "b", "c"), os.path.join(folder, "edgee.zip")
            os.makedirs(deep)
            shutil.copy(edgee.__file__, os.path.join(deep, "edgee.py"))
            shutil.copy(edgee.__file__, os.path.join(deep, "other.py"))
            with zipfile.ZipFile(archive, "w") as file:
                file.write(edgee.__file__, "edgee.py")
            places = {
                "three packages deep": ("-m", "a.b.c.edgee", "Hi"),
                "under another name": ("-c", "from a.b.c import other; other.main(['Hi'])"),
                "as a script": (os.path.join(deep, "other.py"), "Hi"),
                "without docstrings": ("-OO", "-m", "a.b.c.edgee", "Hi"),
                "in a zip file": ("-c", f"import sys; sys.path[:0] = [{archive!r}]; import edgee; edgee.main(['Hi'])"),
            }
            processes = [start_process(*words, gateway=gateway, cwd=folder) for words in places.values()]
            for name, process in zip(places, processes):
                with self.subTest(name):
                    self.assertEqual(end_of(process), (0, "Hello\n", ""))

    def test_all_names_every_public_name(self):
        own = {
            name
            for name, value in vars(edgee).items()
            if not isinstance(value, types.ModuleType)
            and getattr(value, "__module__", edgee.__name__) == edgee.__name__
        }
        public = {name for name in own if not name.startswith("_")}
        self.assertEqual(public - {"TYPE_CHECKING"}, set(edgee.__all__))
        self.assertEqual([name for name in edgee.__all__ if not getattr(edgee, name).__doc__], [])

    @unittest.skipIf(sys.version_info < (3, 10), "X | Y is no type before Python 3.10")
    def test_types_of_fields_can_be_read(self):
        kinds = [kind for kind in vars(edgee).values() if isinstance(kind, type) and dataclasses.is_dataclass(kind)]
        for kind in kinds:
            self.assertEqual(set(typing.get_type_hints(kind)), {field.name for field in dataclasses.fields(kind)})
        self.assertGreater(len(kinds), 10)

    @unittest.skipIf(sys.implementation.name == "pypy", "what C does elsewhere is counted there")
    def test_what_a_chunk_costs_in_calls(self):
        """Counted, not timed: at most 16 calls of Python's and 32 of C's for each chunk of a burst."""
        calls, profile, sent = collections.Counter(), sys.getprofile(), threading.Event()
        with serving([begun(*[chunk(" word")] * 500), sent.set, HANG]) as (_, client):
            chunks = client.stream("m", "Hi")
            next(chunks)
            self.assertTrue(sent.wait(WAIT))
            sys.setprofile(lambda frame, kind, argument: calls.update((kind,)))
            try:
                for _ in range(400):
                    next(chunks)
            finally:
                sys.setprofile(profile)
            chunks.close()
        self.assertLessEqual(calls["call"] / 400, 16)
        self.assertLessEqual(calls["c_call"] / 400 - 1, 32)  # The loop's own call of next() does not count.


# ---- README ----------------------------------------------------------------------------------------------------------

README = os.path.join(HERE, "README.md")


def parrot(request):
    """Answer as a model would that repeats the last message, and first asks for the weather if it can."""
    if request.method == "GET":
        return [sized({"data": [{"id": "openai/gpt-5.2"}]})]
    asked = json.loads(request.body)
    said = {"role": "assistant", "content": f"{asked['messages'][-1]['content']}."}
    if "tools" in asked and len(asked["messages"]) == 1:
        function = {"name": "weather", "arguments": '{"city": "Paris"}'}
        said["tool_calls"] = [{"index": 0, "id": "a", "type": "function", "function": function}]
    if asked.get("stream"):
        return [stream_of(chunk(**said, finish="stop"))]
    return [sized({**COMPLETION, "choices": [{"index": 0, "message": said, "finish_reason": "stop"}]})]


def can_be_run(block):
    """Return True if all modules that a block imports are there, and it needs no process of its own."""
    nodes = [node for node in ast.walk(ast.parse(block)) if isinstance(node, (ast.Import, ast.ImportFrom))]
    modules = {getattr(node, "module", None) or node.names[0].name for node in nodes}
    return "__main__" not in block and all(importlib.util.find_spec(name.split(".")[0]) for name in modules)


@unittest.skipUnless(os.path.exists(README), "README.md is not here")
class ReadmeTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        with open(README, encoding="utf-8") as file:
            cls.text = file.read()

    def blocks(self, language):
        return re.findall(rf"^```{language}\n(.*?)^```$", self.text, re.MULTILINE | re.DOTALL)

    def test_python_runs_as_it_stands_there(self):
        blocks = [(block, compile(block, "README.md", "exec")) for block in self.blocks("python")]
        runs = [one for one in blocks if can_be_run(one[0])]
        self.assertGreater(len(runs), 5)
        for block, code in runs:
            names, printed = {"__name__": "readme"}, io.StringIO()
            with self.subTest(block), Gateway(parrot) as gateway, contextlib.redirect_stdout(printed):
                with mock.patch.dict(os.environ, EDGEE_API_KEY=KEY, EDGEE_BASE_URL=gateway.url):
                    with contextlib.redirect_stderr(io.StringIO()):
                        exec(code, names)
                names.clear()  # This ends the block's client.
                self.assertTrue(printed.getvalue().strip() or "print(" not in block)

    @unittest.skipUnless(all(map(shutil.which, ("bash", "git", "sha256sum"))), "needs a Unix shell")
    def test_commands_run_as_they_stand_there(self):
        start = f'set -e -o pipefail; git() {{ echo "a commit"; }}; python() {{ "{sys.executable}" "$@"; }}\n'
        with tempfile.TemporaryDirectory() as folder, Gateway(parrot) as gateway:
            shutil.copy(edgee.__file__, folder)
            with open(os.path.join(folder, "test_nothing.py"), "w", encoding="utf-8") as file:
                file.write("import unittest\nclass Test(unittest.TestCase):\n    def test(self): pass\n")
            environment = {**os.environ, "EDGEE_API_KEY": KEY, "EDGEE_BASE_URL": gateway.url}
            streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
            words = [["bash", "-c", start + block] for block in self.blocks("sh")]
            shells = [subprocess.Popen(one, cwd=folder, env=environment, **streams) for one in words]
            for status, _, err in map(end_of, shells):
                self.assertEqual(status, 0, err)

    def test_last_version_in_the_table_is_the_file(self):
        with open(edgee.__file__, "rb") as file:
            checksum = hashlib.sha256(file.read()).hexdigest()
        versions = re.findall(r"^\| (\d+\.\d+\.\d+) \| \d{4}-\d\d-\d\d \| `(.+?)` \|", self.text, re.MULTILINE)
        self.assertEqual(versions[-1], (edgee.__version__, checksum))

    def test_tables_have_each_option_setting_and_error(self):
        names = re.findall(r"(?<=[ \[])--?[a-z][\w-]*", run_main("-h").out)
        self.assertGreater(len(names), 15)
        names += [field.name for field in dataclasses.fields(edgee.EdgeeConfig)]
        names += [name for name in edgee.__all__ if name.endswith("Error")]
        tables = "".join(re.findall(r"^\|.*", self.text, re.MULTILINE))
        self.assertEqual([name for name in names if not re.search(rf"`{name}\b", tables)], [])
