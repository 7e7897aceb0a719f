"""How fast edgee.py is beside a loop by hand, the edgee package and openai: the figures of README's table.

    pip install --target FOLDER/edgee edgee==1.1.0
    pip install --target FOLDER/openai openai==3.57.0
    python .ci/bench.py [--peers FOLDER] [--rounds 5] [row ...]

Each figure comes from a process of its own, which makes one client and warms up. In a row the peers take turns, A B A
B, and read the same bytes. CPU is the peer's alone; the server is in this process. Peers run without site-packages
(-S): what is installed there may slow every start. Needs a Unix.
"""

import argparse
import asyncio
import http.client
import json
import os
import pathlib
import platform
import resource
import ssl
import statistics
import subprocess
import sys
import tempfile
import time

EDGEE, BY_HAND, PACKAGE, OPENAI = "edgee.py", "loop by hand", "edgee package", "openai"
TOP = pathlib.Path(__file__).resolve().parent.parent
PYTHON = (sys.executable, "-S")
LOOP = asyncio.new_event_loop()
ROUND_TRIP_SECONDS = 0.05


def make_answer(gateway, wait):
    """Return a function from a request to an answer that begins after a wait in seconds."""
    padding = {"object": "chat.completion.chunk", "created": 1700000000, "padding": "x" * 44}  # 200 bytes an event
    one = gateway.in_chunks(gateway.event({**gateway.chunk(" word"), **padding}))
    last = gateway.in_chunks(gateway.event({**gateway.chunk(finish="stop"), **padding}), gateway.event("[DONE]"))

    def answer(request):
        # The model's name says how many chunks, and the pause before the end of the body.
        count, pause = json.loads(json.loads(request.body)["model"])
        chunks = one * (count - 1) + last
        return [lambda: time.sleep(wait), gateway.STREAM_HEAD, chunks, lambda: time.sleep(pause), b"0\r\n\r\n"]

    return answer


# ---- The peers: each is a function from a model's name to its chunks -------------------------------------------------


def open_edgee(url, asynchronous):
    """Open edgee.py or the edgee package: PYTHONPATH decides."""
    from edgee import Edgee

    client = Edgee({"api_key": "k", "base_url": url})
    return lambda model: (client.astream if asynchronous else client.stream)(model, "hi")


def open_openai(url, asynchronous):
    import openai

    client = (openai.AsyncOpenAI if asynchronous else openai.OpenAI)(api_key="k", base_url=url + "/v1")
    options = {"messages": [{"role": "user", "content": "hi"}], "stream": True}

    async def stream(model):
        async for chunk in await client.chat.completions.create(model=model, **options):
            yield chunk

    return stream if asynchronous else lambda model: client.chat.completions.create(model=model, **options)


def open_by_hand(url, _):
    """Open a loop that does the least to make the chunks that edgee.py makes. It is ready for no error of any kind."""
    from edgee import StreamChoice, StreamChunk, StreamDelta

    connection = http.client.HTTPConnection("127.0.0.1", int(url.rpartition(":")[2]))

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
                    delta = StreamDelta(delta.get("role"), delta.get("content"), delta.get("tool_calls"))
                    choices.append(StreamChoice(choice["index"], delta, choice.get("finish_reason")))
                compression, usage, model = raw.get("compression"), raw.get("usage"), raw.get("model")
                yield StreamChunk(choices, compression, usage, raw.get("id"), model, raw, response.headers)

    return stream


OPENERS = {EDGEE: open_edgee, BY_HAND: open_by_hand, PACKAGE: open_edgee, OPENAI: open_openai}

# ---- What a peer's process measures ----------------------------------------------------------------------------------


def read(stream, count, pause=0):
    """Read an answer; return the seconds until its first chunk."""
    start, seconds, found = time.perf_counter(), 0.0, 0
    for _ in stream(json.dumps([count, pause])):
        seconds = seconds or time.perf_counter() - start
        found += 1
    assert found == count, f"{found} chunks came, not {count}"
    return seconds


def read_async(stream, count):
    async def count_chunks():
        return len([None async for _ in stream(json.dumps([count, 0]))])

    assert LOOP.run_until_complete(count_chunks()) == count


def first_token(stream):
    time.sleep(0.1)  # A program does something with an answer before it asks again.
    return read(stream, 20, 0.005)


def cpu(work, *arguments):
    start = time.process_time()
    work(*arguments)
    return time.process_time() - start


def per_chunk(reader, stream):
    """Return the CPU of one chunk: what a longer answer costs more."""
    return (cpu(reader, stream, 6000) - cpu(reader, stream, 1000)) / 5000


def process_cpu(arguments):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([*PYTHON, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


OF_PACKAGE = """from edgee import Edgee
for chunk in Edgee().stream("[20, 0]", "hi"):
    print(chunk.text or "", end="", flush=True)"""
OF_OPENAI = """from openai import OpenAI
messages = [{"role": "user", "content": "hi"}]
for chunk in OpenAI().chat.completions.create(model="[20, 0]", messages=messages, stream=True):
    print(chunk.choices[0].delta.content or "", end="", flush=True)"""
COMMAND = ["-m", "edgee", "-m", "[20, 0]", "hi"]
# Rows of whole processes, and the arguments of each peer's.
PROCESSES = {
    "import": {EDGEE: ["-c", "import edgee"], PACKAGE: ["-c", "import edgee"], OPENAI: ["-c", "import openai"]},
    "process": {EDGEE: COMMAND, PACKAGE: ["-c", OF_PACKAGE], OPENAI: ["-c", OF_OPENAI]},
}

# Each row: what and its unit, a factor, the index of the server's URL, the peers, and what is done with a peer's
# stream, or with the arguments of its process.
US, MS, PLAIN, TLS, FAR = 1e6, 1e3, 0, 1, 2
ALL, CLIENTS, ASYNC = (EDGEE, BY_HAND, PACKAGE, OPENAI), (EDGEE, PACKAGE, OPENAI), (EDGEE, OPENAI)
ROWS = {
    "chunk": ("CPU of a chunk in a burst, us", US, PLAIN, ALL, lambda s: per_chunk(read, s)),
    "async": ("asyncio: CPU of a chunk in a burst, us", US, PLAIN, ASYNC, lambda s: per_chunk(read_async, s)),
    "later": ("CPU of a later TLS request, 20 chunks, ms", MS, TLS, CLIENTS, lambda s: cpu(read, s, 20)),
    "first": ("first token of a later TLS request, 50 ms away, ms", MS, FAR, CLIENTS, first_token),
    "import": ("CPU of the import, ms", MS, TLS, CLIENTS, lambda a: process_cpu(a) - process_cpu(["-c", "pass"])),
    "process": ("CPU of a process, TLS, ms", MS, TLS, CLIENTS, process_cpu),
}


def measure(row, peer, url):
    """Print a figure. This is all that a peer's process does."""
    subject = PROCESSES[row][peer] if row in PROCESSES else OPENERS[peer](url, row.startswith("async"))
    print(statistics.median([ROWS[row][-1](subject) for _ in range(6)][1:]))


# ---- Taking turns, and the table -------------------------------------------------------------------------------------


def take_turns(row, rounds, urls, options):
    """Print the median, lowest and highest figure of each peer, and edgee.py's figure over the peer's in each round."""
    title, factor, server, peers, _ = ROWS[row]
    peers = [peer for peer in peers if peer in options]
    turns = []
    for _ in range(rounds + 1):
        commands = {peer: [*PYTHON, __file__, "--measure", row, peer, urls[server]] for peer in peers}
        figures = [subprocess.check_output(command, **options[peer]) for peer, command in commands.items()]
        turns.append([float(figure) * factor for figure in figures])
    del turns[0]  # It fills the caches of the system and of Python.
    print(f"\n{row}: {title}")
    for peer, figures in zip(peers, zip(*turns)):
        ratios = [turn[0] / figure for turn, figure in zip(turns, figures)]
        beside = "" if peer == EDGEE else f" edgee.py to it {spread(ratios, 3)}"
        print(f"    {peer:14}{spread(figures, 2):32}{beside}", flush=True)


def spread(figures, digits):
    middle, lowest, highest = (f"{f(figures):.{digits}f}" for f in (statistics.median, min, max))
    return f"{middle:>9} ({lowest} to {highest})"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", default=os.devnull, type=pathlib.Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("rows", nargs="*", metavar="row", help=", ".join(ROWS))
    asked = parser.parse_args()
    sys.path.insert(0, str(TOP))
    import test_edgee as gateway

    found = {EDGEE: TOP, BY_HAND: TOP, PACKAGE: asked.peers / "edgee", OPENAI: asked.peers / "openai"}
    near, far = make_answer(gateway, 0), make_answer(gateway, ROUND_TRIP_SECONDS)
    # A new connection can be used after a round trip for TCP and one for TLS.
    connect = [lambda: time.sleep(2 * ROUND_TRIP_SECONDS)]
    with tempfile.TemporaryDirectory() as folder:
        own, trusted = pathlib.Path(folder, "own.pem"), pathlib.Path(folder, "trusted.pem")
        own.write_text(gateway.CERTIFICATE)
        gateway.CERTIFICATE_FILE = own
        system = ssl.get_default_verify_paths().cafile  # Programs read all of it when they start.
        trusted.write_text((pathlib.Path(system).read_text() if system else "") + gateway.CERTIFICATE)
        far_away = gateway.Gateway(far, tls=True, at_connect=connect)
        with gateway.Gateway(near) as plain, gateway.Gateway(near, tls=True) as secure, far_away:
            urls = [plain.url, secure.url, far_away.url]
            environment = {"PATH": os.environ["PATH"], "SSL_CERT_FILE": str(trusted)}
            environment.update(EDGEE_API_KEY="k", EDGEE_BASE_URL=urls[TLS])
            environment.update(OPENAI_API_KEY="k", OPENAI_BASE_URL=urls[TLS] + "/v1")
            # The folder is not this project's: there `-c` would import edgee.py for the package.
            found = {peer: str(path.resolve()) for peer, path in found.items() if path.is_dir()}
            options = {p: {"cwd": folder, "env": {**environment, "PYTHONPATH": found[p]}} for p in found}
            print(f"Python {platform.python_version()}, {platform.system()}, {os.cpu_count()} CPUs")
            for row in asked.rows or ROWS:
                take_turns(row, asked.rounds, urls, options)


if __name__ == "__main__":
    measure(*sys.argv[2:]) if sys.argv[1:2] == ["--measure"] else main()
