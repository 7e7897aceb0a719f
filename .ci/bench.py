"""How fast edgee.py is beside what else its users could take.

    python .ci/bench.py [--peers FOLDER] [--rounds 5] [row ...]

Each peer is used as its users use it: its client made once, the same bytes from one server. Each row has one process
for each peer, which take turns, A B A B, after a round that warms up. All are of the interpreter that runs this file,
without its site-packages (-S): what lies there may slow every start, and an installed certifi doubles the certificates
that the edgee package loads. CPU is that of the peer's process alone; server and relay have their own.

    pip install --target FOLDER/edgee edgee==1.1.0
    pip install --target FOLDER/openai openai==3.57.0
"""

import argparse
import asyncio
import contextlib
import dataclasses
import functools
import http.client
import importlib
import json
import os
import pathlib
import platform
import shutil
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent.parent
EDGEE, PACKAGE, OPENAI, BARE, BY_HAND = "edgee.py", "edgee package", "openai", "bare loop", "loop by hand"
PYTHON = (sys.executable, "-S")
USER = [{"role": "user", "content": "hi"}]
ROUND_TRIP_SECONDS = 0.05

# ---- The server, and a relay that makes it a round trip away: a process of their own --------------------------------


def serve(certificate):
    """Print the ports of a gateway, of one with TLS and of the relay to that; serve until standard input ends."""
    sys.path.insert(0, str(HERE))
    gateway = importlib.import_module("test_edgee")
    padding = {"object": "chat.completion.chunk", "created": 1700000000, "padding": "x" * 44}
    one = gateway.in_chunks(gateway.event({**gateway.chunk(" word"), **padding}))
    last = gateway.in_chunks(gateway.event({**gateway.chunk(finish="stop"), **padding}), gateway.event("[DONE]"))

    def answer(request):  # whose model says how many chunks, the pause between two, and that before the body's end
        count, pause, last_pause = json.loads(json.loads(request.body)["model"])
        pieces = [one * (count - 1)]
        if pause:
            pieces = [piece for _ in range(count - 1) for piece in (one, lambda: time.sleep(pause))]
        return [gateway.STREAM_HEAD, *pieces, last, lambda: time.sleep(last_pause), b"0\r\n\r\n"]

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    near = socket.create_server(("127.0.0.1", 0))
    with gateway.Gateway(answer) as plain, gateway.Gateway(answer, tls=context) as secure, near:
        threading.Thread(target=asyncio.run, args=[relay(near, secure.port)], daemon=True).start()
        print(plain.port, secure.port, near.getsockname()[1], flush=True)
        sys.stdin.read()


async def relay(near, port):
    loop = asyncio.get_running_loop()

    async def accept(reader, writer):
        begun = loop.time() + ROUND_TRIP_SECONDS  # which to connect takes, elsewhere than on the loopback
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
        for side in (writer, far_writer):
            side.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.gather(pass_on(reader, far_writer, begun), pass_on(far_reader, writer, begun))

    async def pass_on(source, target, begun):
        data = b" "
        while data:
            try:
                data = await source.read(65536)
            except ConnectionError:
                data = b""
            due = max(loop.time(), begun) + ROUND_TRIP_SECONDS / 2
            loop.call_at(due, *((target.write, data) if data else (target.close,)))

    async with await asyncio.start_server(accept, sock=near) as server:
        await server.serve_forever()


# ---- The peers: of each a function from a model's name to its chunks ------------------------------------------------


def open_edgee(url, asynchronous):  # edgee.py or the edgee package: PYTHONPATH says which
    edgee = importlib.import_module("edgee").Edgee({"api_key": "k", "base_url": url})
    return lambda model: (edgee.astream if asynchronous else edgee.stream)(model, "hi")


def open_openai(url, asynchronous):
    openai = importlib.import_module("openai")
    client = (openai.AsyncOpenAI if asynchronous else openai.OpenAI)(api_key="k", base_url=url + "/v1")
    ask = client.chat.completions.create

    async def stream(model):
        async for chunk in await ask(model=model, messages=USER, stream=True):
            yield chunk

    return stream if asynchronous else lambda model: ask(model=model, messages=USER, stream=True)


def open_bare(url, _):
    def stream(model):
        body = json.dumps({"model": model}).encode()
        with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2]))) as connection:
            connection.sendall(b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
            rest = b""
            while True:
                *lines, rest = (rest + connection.recv(65536)).split(b"\n")
                for line in lines:
                    if line == b"data: [DONE]":
                        return
                    if line.startswith(b"data: "):
                        yield json.loads(line[6:])

    return stream


def open_by_hand(url, _):
    """The least that makes the chunks that edgee.py makes, of a server that does nothing unexpected."""
    connection = http.client.HTTPConnection("127.0.0.1", int(url.rpartition(":")[2]))
    new_delta = dataclasses.make_dataclass("Delta", ["role", "content", "tool_calls"])
    new_choice = dataclasses.make_dataclass("Choice", ["index", "delta", "finish_reason"])
    new_chunk = dataclasses.make_dataclass(
        "Chunk", ["choices", "compression", "usage", "id", "model", "raw", "headers"]
    )

    def stream(model):
        connection.request("POST", "/", json.dumps({"model": model}))
        response, rest = connection.getresponse(), b""
        while True:
            *events, rest = (rest + response.read1(65536)).split(b"\n\n")
            for event in events:
                if event == b"data: [DONE]":
                    response.read()
                    return
                raw = json.loads(event[6:])
                choices = []
                for choice in raw["choices"]:
                    delta = choice["delta"]
                    delta = new_delta(delta.get("role"), delta.get("content"), delta.get("tool_calls"))
                    choices.append(new_choice(choice["index"], delta, choice.get("finish_reason")))
                compression, usage, model = raw.get("compression"), raw.get("usage"), raw.get("model")
                yield new_chunk(choices, compression, usage, raw.get("id"), model, raw, response.headers)

    return stream


OPENERS = {EDGEE: open_edgee, PACKAGE: open_edgee, OPENAI: open_openai, BARE: open_bare, BY_HAND: open_by_hand}

# ---- What the process of a peer measures -----------------------------------------------------------------------------


def read(stream, count, *pauses):
    """Read an answer; return the seconds until its first chunk."""
    start, seconds, found = time.perf_counter(), 0.0, 0
    for _ in stream(json.dumps([count, *pauses, 0, 0][:3])):
        seconds = seconds or time.perf_counter() - start
        found += 1
    assert found == count, f"{found} chunks came, not {count}"
    return seconds


def read_async(stream, count, pause=0):
    async def work():
        found = len([None async for _ in stream(json.dumps([count, pause, 0]))])
        assert found == count, f"{found} chunks came, not {count}"

    asyncio.get_event_loop().run_until_complete(work())


def read_at_once(stream, number):
    threads = [threading.Thread(target=read, args=[stream, 500]) for _ in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def spent(number, work, *arguments):
    start = time.process_time()
    work(*arguments)
    return (time.process_time() - start) / number


def chunk_cost(reader, stream):
    """CPU of a chunk without its request: what a longer answer costs more."""
    short = spent(5000, reader, stream, 1000)
    return spent(5000, reader, stream, 6000) - short


def first_token(stream):
    time.sleep(0.1)  # whoever asks again has read the last answer
    return read(stream, 20, 0, 0.005)


# Of each row: what, in which unit, from which port, beside which peers, and how the process of a peer measures it.
MILLI, MICRO, PLAIN, TLS, RELAY = 1e3, 1e6, 0, 1, 2
ROWS = {
    "chunk": ("CPU of a chunk in a burst", MICRO, PLAIN, (EDGEE, BY_HAND, BARE, PACKAGE, OPENAI),
              lambda stream: chunk_cost(read, stream)),
    "later": ("CPU of a later request with 20 chunks, TLS", MILLI, TLS, (EDGEE, PACKAGE, OPENAI),
              lambda stream: spent(20, lambda: [read(stream, 20) for _ in range(20)])),
    "first": ("first token of a later request, 50 ms away, TLS", MILLI, RELAY, (EDGEE, PACKAGE, OPENAI),
              lambda stream: statistics.median(first_token(stream) for _ in range(5))),
    "alone": ("CPU of a request with 500 chunks, one at a time", MILLI, PLAIN, (EDGEE, PACKAGE, OPENAI),
              lambda stream: spent(64, lambda: [read_at_once(stream, 1) for _ in range(64)])),
    "64": ("CPU of a request with 500 chunks, 64 at once in threads", MILLI, PLAIN, (EDGEE, PACKAGE, OPENAI),
           lambda stream: spent(64, read_at_once, stream, 64)),
    "astream": ("asyncio: CPU of a chunk in a burst", MICRO, PLAIN, (EDGEE, OPENAI),
                lambda stream: chunk_cost(read_async, stream)),
    "astream-paced": ("asyncio: CPU of a chunk, one each 5 ms", MICRO, PLAIN, (EDGEE, OPENAI),
                      lambda stream: spent(200, read_async, stream, 200, 0.005)),
}  # fmt: skip

# Of each row of whole processes: what, and the arguments of each peer.
OF_EDGEE = """from edgee import Edgee
for chunk in Edgee().stream("[20, 0, 0]", "hi"):
    if chunk.text:
        print(chunk.text, end="", flush=True)"""
OF_OPENAI = f"""from openai import OpenAI
for chunk in OpenAI().chat.completions.create(model="[20, 0, 0]", messages={USER}, stream=True):
    if chunk.choices and chunk.choices[0].delta.content:
        print(chunk.choices[0].delta.content, end="", flush=True)"""
PEER_SCRIPTS = {PACKAGE: ["-c", OF_EDGEE], OPENAI: ["-c", OF_OPENAI]}
STARTS = {
    "import": ("CPU of an import, over that of a bare interpreter",
               {EDGEE: ["-c", "import edgee"], PACKAGE: ["-c", "import edgee"], OPENAI: ["-c", "import openai"]}),
    "process": ("CPU of a whole process, TLS: python -m edgee, and scripts of the peers",
                {EDGEE: ["-m", "edgee", "-m", "[20, 0, 0]", "hi"], **PEER_SCRIPTS}),
    "script": ("CPU of a whole process, TLS: scripts of all", {EDGEE: ["-c", OF_EDGEE], **PEER_SCRIPTS}),
}  # fmt: skip

# ---- Taking turns, and the table -------------------------------------------------------------------------------------


def measure(row, peer, url):
    """Be the process of a peer: print a figure for each line of standard input."""
    asyncio.set_event_loop(asyncio.new_event_loop())
    stream = OPENERS[peer](url, row.startswith("astream"))
    for _ in sys.stdin:
        print(ROWS[row][4](stream), flush=True)


def ask(process):
    process.stdin.write(b"\n")
    process.stdin.flush()
    return float(process.stdout.readline())


def process_seconds(arguments, **options):
    """The CPU of a process from its start to its end."""
    process = subprocess.Popen([*PYTHON, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, **options)
    _, process.returncode, usage = os.wait4(process.pid, 0)
    assert process.returncode == 0, f"{arguments} failed"
    return usage.ru_utime + usage.ru_stime


def import_seconds(arguments, **options):
    return process_seconds(arguments, **options) - process_seconds(["-c", "pass"], **options)


def take_turns(title, unit, samplers, rounds):
    """Print a row's figures: medians, lowest and highest, and of each round edgee.py's figure over the peer's."""
    found = {peer: [] for peer in samplers}
    for _ in range(rounds + 1):
        for peer, sample in samplers.items():
            found[peer].append(sample() * unit)
    print(f"\n{title}, {'ms' if unit == MILLI else 'us'}")
    for peer, figures in found.items():
        ratios = [ours / theirs for ours, theirs in zip(found[EDGEE][1:], figures[1:])]
        beside = "" if peer == EDGEE else f"    edgee.py to it {spread(ratios, 3)}"
        print(f"    {peer:14}{spread(figures[1:], 2):28}{beside}", flush=True)


def spread(figures, digits):
    middle, lowest, highest = (f"{f(figures):.{digits}f}" for f in (statistics.median, min, max))
    return f"{middle:>9} ({lowest} to {highest})"


def find_version(name, **options):
    """The version of a peer, empty if it cannot be imported."""
    code = f"import {name}, importlib.metadata as m; print(getattr({name}, '__version__', '') or m.version({name!r}))"
    options.update(stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    return subprocess.run([*PYTHON, "-c", code], **options).stdout.decode().strip()


def start_server(folder):
    """Start the server's process; return it, its URLs, and an environment in which peers find and trust it."""
    sys.path.insert(0, str(HERE))
    own, trusted = folder / "own.pem", folder / "trusted.pem"
    gateway = importlib.import_module("test_edgee")
    own.write_text(gateway.PRIVATE_KEY + gateway.CERTIFICATE)
    known = ssl.get_default_verify_paths().cafile  # a real start reads the system's certificates
    trusted.write_text((pathlib.Path(known).read_text() if known else "") + own.read_text())
    server = subprocess.Popen([*PYTHON, __file__, "--serve", own], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    ports = server.stdout.readline().decode().split()
    urls = [f"{scheme}://127.0.0.1:{port}" for scheme, port in zip(("http", "https", "https"), ports)]
    passed = {name: os.environ[name] for name in ("PATH", "SYSTEMROOT", "LD_LIBRARY_PATH") if name in os.environ}
    for name, url in (("EDGEE", urls[TLS]), ("OPENAI", f"{urls[TLS]}/v1")):
        passed.update({f"{name}_API_KEY": "k", f"{name}_BASE_URL": url, "SSL_CERT_FILE": str(trusted)})
    return server, urls, passed


def bench(folder, peers, rounds, rows):
    (folder / "vendored").mkdir()
    shutil.copy(HERE / "edgee.py", folder / "vendored")
    server, urls, passed = start_server(folder)
    print(f"Python {platform.python_version()}, {platform.system()}, {os.cpu_count()} x {processor()}; {rounds} rounds")
    there = {peer: {"cwd": folder, "env": passed} for peer in (BARE, BY_HAND)}
    for peer, name, path in ((EDGEE, "edgee", folder / "vendored"), (PACKAGE, "edgee", f"{peers}/edgee"),
                             (OPENAI, "openai", f"{peers}/openai")):  # fmt: skip
        options = {"cwd": folder, "env": {**passed, "PYTHONPATH": str(path)}}
        version = find_version(name, **options)
        there.update({peer: options} if version else {})
        print(f"    {peer:14} {version or 'cannot be imported: its rows are missing'}")
    for row in rows:
        if row in STARTS:
            title, arguments = STARTS[row]
            seconds = import_seconds if row == "import" else process_seconds
            samplers = {
                peer: functools.partial(seconds, arguments[peer], **there[peer]) for peer in arguments if peer in there
            }
            take_turns(title, MILLI, samplers, rounds * 4)
            continue
        title, unit, port, users, _ = ROWS[row]
        with contextlib.ExitStack() as processes:
            samplers = {}
            for peer in (peer for peer in users if peer in there):
                command = [*PYTHON, __file__, "--measure", row, peer, urls[port]]
                process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, **there[peer])
                samplers[peer] = functools.partial(ask, processes.enter_context(process))
            take_turns(title, unit, samplers, rounds)
    server.communicate()


def processor():
    with contextlib.suppress(OSError, IndexError):
        return pathlib.Path("/proc/cpuinfo").read_text().split("model name\t: ")[1].split("\n")[0]
    return platform.machine()


def main():
    if sys.argv[1:2] == ["--serve"]:
        return serve(sys.argv[2])
    if sys.argv[1:2] == ["--measure"]:
        return measure(*sys.argv[2:])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", default=os.devnull)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("rows", nargs="*", metavar="row", help=", ".join([*ROWS, *STARTS]))
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        return bench(pathlib.Path(name), asked.peers, asked.rounds, asked.rows or [*ROWS, *STARTS])


if __name__ == "__main__":
    main()
