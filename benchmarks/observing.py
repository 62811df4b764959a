"""What it costs to be observed: processor time for each call, and for each line that is logged.

    python benchmarks/observing.py [--calls 100000] [--lines 50000]

A call of a handler that does nothing, with each observer that a host has added to those before it. Then lines as guests
print them, from the log call until a listener has them, and until a nats-server beside this Python keeps all of them.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import statistics
import sys
import time
from collections.abc import Callable

sys.path.append(sys.path.pop(0))  # `lattice` is the package, not the file in this folder

import structlog

from lattice import EntityId, Function, Handler, Invocation, Value, subjects
from lattice.http import HANDLE
from lattice.journal import Journal, to_journal
from lattice.lattice import Lattice
from lattice.metrics import Metrics
from lattice.nats_transport import connect
from lattice.observing import Observing
from lattice.traces import Traces
from lattice.transport import Message
from trellis.broker import Broker

ROUNDS = 5
AT_ONCE = 64
"""Calls in one pass of the loop, as on a busy host: after it, the observers are told."""
TRACE = {"traceparent": f"00-{'ab' * 16}-{'cd' * 8}-01"}
CALLER, TARGET = EntityId("shop-web"), EntityId("shop-api")
PLAIN = Invocation(TARGET, Function.parse("demo:shop/cart#add"), (7,), CALLER, trace=TRACE)
REQUEST = {"method": "GET", "path-with-query": "/cart?id=7", "scheme": "http", "authority": "shop.example"}
HTTP = Invocation(TARGET, HANDLE, (REQUEST,), CALLER, trace=TRACE)

LINE = {"component": "shop-api", "stream": "stdout", "trace": "ab" * 16, "line": "no stock for sku 8812 " * 4}


async def nothing(invocation: Invocation) -> Value:
    return {"status": 200}


async def cpu(handler: Handler, call: Invocation, calls: int) -> float:
    """Microseconds of processor time for one call: the best of ROUNDS."""
    best, passes = float("inf"), -(-calls // AT_ONCE)
    for _ in range(ROUNDS):
        begun = time.process_time()
        for _ in range(passes):
            for _ in range(AT_ONCE):
                await handler(call)
            await asyncio.sleep(0)
        best = min(best, (time.process_time() - begun) / (passes * AT_ONCE) * 1e6)
    return best


async def calls(title: str, call: Invocation, number: int) -> None:
    observing, metrics, traces = Observing(), Metrics(), Traces("N1", "host-a")
    before = await cpu(nothing, call, number)
    steps: dict[str, Callable[[], None]] = {
        "a span of its own": lambda: None,
        "counted": lambda: observing.observers.append(metrics.observe),
        "remembered": lambda: observing.observers.append(traces.observe),
    }
    print(f"{title}: {before:.2f} us unobserved")
    for name, step in steps.items():
        step()
        now = await cpu(observing.around(nothing, "component"), call, number)
        print(f"  {name:<20} + {now - before:.2f} us")
        before = now


async def lines(number: int) -> None:
    log, arrived = structlog.get_logger(), dict[int, float]()

    def heard(message: Message) -> None:
        now = time.perf_counter()
        arrived.update((line["n"], now) for line in json.loads(message.data)["lines"] if "n" in line)

    async with Broker() as broker:
        async with (
            Lattice("bench", await connect(broker.url)) as ours,
            Lattice("bench", await connect(broker.url)) as its,
        ):
            subscription = await its.transport.subscribe(subjects.logs("bench", "*"), heard)
            await its.transport.flush()
            journal = Journal("N1", "host-a")
            async with journal.sending(ours):
                begun = {}
                for n in range(200):
                    begun[n] = time.perf_counter()
                    log.info("component.wrote", n=n, **LINE)
                    await asyncio.sleep(0.03)
                await journal.sent()
                await its.transport.flush()
                took = [(arrived[n] - at) * 1000 for n, at in begun.items()]
                middle, most = statistics.median(took), max(took)
                print(f"a line, until a listener has it: median {middle:.1f} ms, at most {most:.1f} ms")
                await subscription.unsubscribe()
                at, processor = time.perf_counter(), time.process_time()
                for n in range(number):
                    log.info("component.wrote", **LINE)
                    if n % 100 == 0:
                        await asyncio.sleep(0)
                await journal.sent()
                each = (time.process_time() - processor) / number * 1e6
                rate = number / (time.perf_counter() - at)
                print(f"{number} lines: {each:.1f} us each, kept at {rate:,.0f} a second, {journal.dropped} dropped")


async def main(number: int, printed: int) -> None:
    structlog.configure(
        processors=[structlog.processors.add_log_level, to_journal, lambda *_: ""],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.ReturnLoggerFactory(),
    )
    await calls("a call", PLAIN, number)
    await calls("a wasi:http request", HTTP, number)
    await lines(printed)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=100_000)
    parser.add_argument("--lines", type=int, default=50_000)
    options = parser.parse_args()
    asyncio.run(main(options.calls, options.lines))
