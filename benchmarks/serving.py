"""A service under load, with request batching and without: what people wait, and how many are answered.

    python benchmarks/serving.py load                          a network with wide layers, which gains from batches
    python benchmarks/serving.py load --network project1       the one that `python -m study run mnist` has saved: convolutions
    python benchmarks/serving.py wait                          how long should a batcher wait for others?

The service of 03_training/serving.py runs in a process of its own and is asked over HTTP, at random moments and whether it has
answered or not (open loop), so a time is what somebody would have waited. It takes two free cores: one for it, one for those who
ask. The rates are in units of what the network alone does one by one. Results: README.md here.
"""

import asyncio
import contextlib
import importlib
import json
import multiprocessing
import statistics
import sys
import threading
from collections.abc import Iterator
from multiprocessing.connection import Connection
from typing import Literal, NamedTuple

import torch
import tyro
import uvicorn
from torch import nn

from utils import paths, web
from utils.batching import Batcher
from utils.datasets import mnist
from utils.lesson import check, run

Network = Literal["wide", "project1"]
WIDTH, WAITING = 4096, 200


def lesson(name: str):
    """Import a lesson of stage 03: a module name in an import statement cannot start with a digit."""
    if str(paths.ROOT) not in sys.path:
        sys.path.insert(0, str(paths.ROOT))
    return importlib.import_module(f"03_training.{name}")


def load_network(kind: Network) -> nn.Module:
    """A network for pictures (n, 1, 28, 28) in 0..1: untrained, which takes the same time, or project 1's."""
    if kind == "wide":
        torch.manual_seed(0)
        return lesson("serving").make_network(WIDTH)
    from project1_mnist.predict import load_network as load

    return load(None, torch.device("cpu"))[0]


def answer(kind: Network, most: int, wait: float, connection: Connection) -> None:
    """Be the service, in a process of its own: tell the port, and stop when `connection` is closed."""
    torch.set_num_threads(1)
    app = lesson("serving").create_app(Batcher(load_network(kind), most, wait, WAITING))
    with web.listen("127.0.0.1", 0) as listening:
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False))

        def stop_when_told() -> None:
            with contextlib.suppress(EOFError):  # closed at the other end: that is the order to stop
                connection.recv()
            server.should_exit = True

        threading.Thread(target=stop_when_told, daemon=True).start()
        connection.send(listening.getsockname()[1])
        server.run(sockets=[listening])


@contextlib.contextmanager
def service(kind: Network, most: int, wait: float) -> Iterator[int]:
    """Start a service, and stop it afterwards; its port on this computer."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=answer, args=(kind, most, wait, theirs))
    process.start()
    theirs.close()  # if the service fails, recv says so instead of waiting for ever
    try:
        yield ours.recv()
    except EOFError:
        raise SystemExit("the service did not start; its own message is above") from None
    finally:
        ours.close()  # however it went: a service that is not told to stop would keep this process from ending
        process.join(20)


class Response(NamedTuple):
    """What came back, as far as the lesson reads it."""

    status_code: int
    content: bytes

    def json(self) -> dict:
        return json.loads(self.content)


class Client:
    """Asks over connections that stay open, with as little work as possible: HTTP by hand, a question in one piece.

    A library's client took longer to ask than the service to answer, so that it was the client that was measured; and it sends a
    question's head and body one after the other, of which the second may wait 40 ms for the first to be acknowledged.
    """

    def __init__(self, port: int):
        self.port, self.free = port, []

    async def request(self, method: str, path: str, content: bytes = b"") -> Response:
        reader, writer = self.free.pop() if self.free else await asyncio.open_connection("127.0.0.1", self.port)
        head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(content)}\r\n\r\n"
        writer.write(head.encode() + content)
        status, length = int((await reader.readline()).split()[1]), 0
        while line := (await reader.readline()).strip():
            name, _, value = line.partition(b":")
            length = int(value) if name.lower() == b"content-length" else length
        body = await reader.readexactly(length)
        self.free.append((reader, writer))
        return Response(status, body)

    async def post(self, path: str, content: bytes) -> Response:
        return await self.request("POST", path, content)

    async def close(self) -> None:
        for _, writer in self.free:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


async def ask(port: int, bodies: list[bytes], rate: float, seed: int) -> dict[str, float]:
    """Wait until the service is ready, ask, and summarise."""
    client = Client(port)
    try:
        while (await client.request("GET", "/ready")).status_code != 200:
            await asyncio.sleep(0.05)
        started = asyncio.get_running_loop().time()
        answers = await lesson("serving").ask_at_random(client, bodies, rate, seed)
        return lesson("serving").summary(answers, asyncio.get_running_loop().time() - started)
    finally:
        await client.close()


def measure(kind: Network, most: int, wait: float, rate: float, seconds: float, repeats: int) -> dict[str, float]:
    """Medians over several runs of one service at one rate."""
    pixels = mnist("sample").test.images
    bodies = [pixels[i % len(pixels)].numpy().tobytes() for i in range(int(rate * seconds) + 1)]
    with service(kind, most, wait) as port:
        found = [asyncio.run(ask(port, bodies, rate, seed)) for seed in range(repeats)]
    return {name: statistics.median(row[name] for row in found) for name in found[0]}


def tell(name: str, rate: float, row: dict[str, float]) -> None:
    """Print a row."""
    told = f"p50 {row['p50']:6.1f} ms, p99 {row['p99']:6.1f} ms, {row['a_second']:5.0f} answers a second"
    print(f"{rate:5.0f} questions a second, {name:16}: {told}, {row['refused']:4.0%} refused", flush=True)


def main(
    what: tyro.conf.Positional[Literal["load", "wait"]],
    network: Network = "wide",
    shares: tuple[float, ...] = (0.25, 0.5, 1.0, 2.0),
    most: int = 32,
    seconds: float = 5.0,
    repeats: int = 3,
) -> dict[str, float]:
    """Measure a service under load.

    Args:
        what: "load": with batches and without, at several rates. "wait": several times to wait for others, at each rate.
        network: "wide": three linear layers; "project1": the trained network of project 1.
        shares: Rates, in units of what the network alone answers one by one.
        most: Pictures in a batch.
        seconds: How long each load lasts.
        repeats: How often each load is tried; the medians are told.
    """
    check(min(most, seconds, repeats, *shares) > 0, "--shares, --most, --seconds and --repeats must be above 0")
    each = lesson("request_batching").milliseconds_each(load_network(network).eval(), [1, most])
    print(f"{network}: {each[0]:.2f} ms a picture one by one, {each[1]:.2f} ms in batches of {most}")
    results = {"ms_single": each[0], "ms_batch": each[1]}
    if what == "load":
        runs = [(share, name, size, 0.0) for share in shares for name, size in (("one by one", 1), ("in batches", most))]
    else:
        runs = [(share, f"waiting {1000 * wait:g} ms", most, wait) for share in shares for wait in (0.0, 0.002, 0.01, 0.05)]
    for share, name, size, wait in runs:
        rate = share * 1000 / each[0]
        row = measure(network, size, wait, rate, seconds, repeats)
        tell(name, rate, row)
        results |= {f"{key}_{share:g}_{name.replace(' ', '_')}": value for key, value in row.items()}
    return results


if __name__ == "__main__":
    run(main)
