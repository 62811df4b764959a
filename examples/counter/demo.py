"""The first app: from a manifest to an answered request, across two hosts, and on when one of them dies.

Run it with `make demo`. Everything it starts is a process of its own, everything it shows was measured just now.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
# compiled code is kept in this folder, so that the demo leaves nothing elsewhere
os.environ.setdefault("TRELLIS_CACHE", str(HERE / ".trellis" / "cache"))

import click  # noqa: E402  the cache is chosen above, before anything could use another

from lattice.lattice import Lattice  # noqa: E402
from lattice.nats_transport import connect  # noqa: E402
from trellis.commands.deploy import deploy, lines  # noqa: E402
from trellis.failures import Failure  # noqa: E402
from trellis.logs import configure  # noqa: E402
from trellis.options import Where  # noqa: E402
from trellis.output import TEXT  # noqa: E402
from trellis.planner import Planner  # noqa: E402
from trellis.show import columns, seconds  # noqa: E402
from trellis.stack import HostSpec, Stack  # noqa: E402

HOSTS = (HostSpec("host-a", {"zone": "a"}), HostSpec("host-b", {"zone": "b"}))
RESTORE = 30.0
"""Seconds that the manager may take to notice a dead host and replace what it ran."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One request. `count` and `host` are None when it failed."""

    at: float
    seconds: float
    count: int | None = None
    host: str | None = None


class Requests:
    """Requests from several threads at once, each over a connection of its own."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.answers: list[Answer] = []
        self.wrong: Counter[str] = Counter()
        """Why requests failed."""
        self._stop = threading.Event()

    def send(self, number: int, workers: int) -> list[Answer]:
        """`number` requests, as fast as `workers` can."""
        left = iter(range(number))
        lock = threading.Lock()

        def more() -> bool:
            with lock:
                return next(left, None) is not None

        before = len(self.answers)
        threads = [threading.Thread(target=self._work, args=(more, 0.0)) for _ in range(workers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return self.answers[before:]

    def flow(self, workers: int, pause: float) -> Callable[[], None]:
        """Requests until the function that comes back is called."""
        self._stop.clear()
        threads = [
            threading.Thread(target=self._work, args=(lambda: not self._stop.is_set(), pause)) for _ in range(workers)
        ]
        for thread in threads:
            thread.start()

        def stop() -> None:
            self._stop.set()
            for thread in threads:
                thread.join()

        return stop

    def _work(self, more: Callable[[], bool], pause: float) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        while more():
            begun = time.monotonic()
            try:
                connection.request("GET", "/")
                response = connection.getresponse()
                body = response.read()
                if response.status != 200:
                    raise OSError(f"HTTP {response.status}")
                said = json.loads(body)
                answer = Answer(begun, time.monotonic() - begun, int(said["count"]), str(said["host"]))
            except (OSError, http.client.HTTPException, ValueError, KeyError) as error:
                self.wrong[str(error) or type(error).__name__] += 1
                answer = Answer(begun, time.monotonic() - begun)
                connection.close()
            self.answers.append(answer)
            if pause:
                time.sleep(pause)
        connection.close()

    @property
    def answered(self) -> int:
        return sum(1 for a in self.answers if a.count is not None)


def title(number: int, text: str) -> None:
    click.echo()
    click.echo(click.style(f"{number}. {text}", bold=True))


def table(*rows: Iterable[object], right: Iterable[int] = ()) -> None:
    for line in columns([[str(cell) for cell in row] for row in rows], indent="  ", right=frozenset(right)):
        click.echo(line)


def trellis(stack: Stack, *arguments: str) -> None:
    """The command line, as in another terminal. Raises CalledProcessError."""
    assert stack.nats is not None
    click.echo(f"  $ trellis {' '.join(arguments)}")
    sys.stdout.flush()
    command = [sys.executable, "-P", "-m", "trellis", *arguments]
    done = subprocess.run(command, env={**os.environ, "TRELLIS_NATS": stack.nats}, capture_output=True, text=True)
    click.echo("".join(f"  {line}\n" for line in (done.stdout + done.stderr).splitlines()), nl=False)
    done.check_returncode()


def manifest(folder: Path, name: str, port: int) -> Path:
    """A copy of an example manifest that listens on a free port, and whose files are found from `folder`."""
    text = (HERE / name).read_text()
    copy = folder / name
    copy.write_text(
        text.replace("127.0.0.1:8080", f"127.0.0.1:{port}").replace("file://./actor", f"{HERE.as_uri()}/actor")
    )
    return copy


def percentile(answers: Iterable[Answer], percent: int) -> str:
    times = sorted(a.seconds for a in answers if a.count is not None)
    return seconds(statistics.quantiles(times, n=100)[percent - 1]) if len(times) > 1 else "-"


async def until(what: Callable[[], Awaitable[bool]], within: float) -> float:
    """Seconds until `what` became true. Raises TimeoutError."""
    begun = time.monotonic()
    async with asyncio.timeout(within):
        while not await what():
            await asyncio.sleep(0.05)
    return time.monotonic() - begun


async def restored(planner: Planner, survivor: str, wanted: int) -> bool:
    """All instances run, none of them anywhere but on the survivor."""
    app = await planner.app("counter")
    if app is None or app["state"] != "ready":
        return False
    counter = next(c for c in app["components"] if c["name"] == "counter")
    return counter["running"] == wanted and {h["name"] for h in counter["hosts"] if h["running"]} == {survivor}


async def show(stack: Stack, folder: Path) -> None:
    assert stack.nats is not None and stack.broker is not None and stack.manager is not None
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    requests = Requests(port)
    place = Where(stack.nats, stack.lattice, "the demo")
    table(
        ("broker", stack.nats, f"pid {stack.broker.process.pid if stack.broker.process else '-'}"),
        *(("host", spec, f"pid {stack.hosts[spec.name].pid}") for spec in stack.specs),
        ("manager", f"lattice {stack.lattice}", f"pid {stack.manager.pid}"),
    )

    title(2, "A manifest is deployed: examples/counter/app.yaml")
    deployed = await deploy(place, manifest(folder, "app.yaml", port))
    TEXT.answer(deployed, lines(deployed))

    title(3, "Real requests: each counts in the store, and says which host answered")
    begun = time.monotonic()
    await asyncio.to_thread(requests.send, 1, 1)
    first_answer = time.monotonic() - begun
    answers = await asyncio.to_thread(requests.send, 400, 32)
    hosts = sorted({a.host for a in answers if a.host})
    table(
        ("host", "answers", "lowest count", "highest count", "p50", "p99"),
        *(
            (
                host,
                len(mine := [a for a in answers if a.host == host]),
                min(a.count or 0 for a in mine),
                max(a.count or 0 for a in mine),
                percentile(mine, 50),
                percentile(mine, 99),
            )
            for host in hosts
        ),
        right=range(1, 6),
    )
    click.echo(f"  {requests.answered} of {len(requests.answers)} requests answered, 32 at a time")
    must(hosts == ["host-a", "host-b"], f"both hosts should have answered, and {hosts} did")
    must(requests.answered == len(requests.answers), f"every request should be answered: {dict(requests.wrong)}")

    title(4, "It scales")
    await asyncio.to_thread(trellis, stack, "scale", "counter=6")
    await asyncio.to_thread(trellis, stack, "status")

    title(5, "A host dies: first a version that may run anywhere, then SIGKILL for host-b while requests flow")
    anywhere = await deploy(place, manifest(folder, "app-anywhere.yaml", port))
    TEXT.answer(anywhere, lines(anywhere))
    transport = await connect(stack.nats)
    try:
        planner = Planner(Lattice(stack.lattice, transport))
        before = len(requests.answers)
        stop = requests.flow(8, 0.01)
        try:
            await asyncio.sleep(1.5)
            killed = time.monotonic()
            await stack.hosts["host-b"].kill()
            click.echo(f"  host-b (pid {stack.hosts['host-b'].pid}) was killed")
            restore = await until(lambda: restored(planner, "host-a", 6), RESTORE)
            await asyncio.sleep(1.5)
        finally:
            await asyncio.to_thread(stop)
    finally:
        await transport.close()
    flowed = requests.answers[before:]
    phases = [
        ("sent before the kill", [a for a in flowed if a.at < killed]),
        ("sent until 6 instances ran again", [a for a in flowed if killed <= a.at < killed + restore]),
        ("sent after that", [a for a in flowed if a.at >= killed + restore]),
    ]
    rows = [
        (name, len(its), len(ok := [a for a in its if a.count is not None]), len(its) - len(ok), percentile(its, 99))
        for name, its in phases
    ]
    table(("requests", "sent", "answered", "failed", "p99"), *rows, right=range(1, 5))
    for why, times in requests.wrong.most_common(3):
        click.echo(f"  {times} failed with: {why}")
    last = (await asyncio.to_thread(requests.send, 1, 1))[0]
    must(last.count is not None, "the app should answer after the host's death")
    count = last.count or 0
    click.echo(f"  the count is {count}: {requests.answered} requests were answered, {len(requests.answers)} sent")
    must(
        requests.answered <= count <= len(requests.answers),
        "every answered request should be counted, and none that was not sent",
    )

    title(6, "It goes as it came")
    await asyncio.to_thread(trellis, stack, "undeploy")

    click.echo()
    table(
        (
            "cold start",
            seconds(deployed["seconds"]),
            "from accepted to every instance ready, compiled code in the cache",
        ),
        ("first answer", seconds(first_answer), "the first request after that"),
        ("latency", f"p50 {percentile(answers, 50)}  p99 {percentile(answers, 99)}", "32 at a time, on both hosts"),
        ("restore", seconds(restore), "from SIGKILL to 6 instances on the survivor"),
        ("lost", sum(r[3] for r in rows), f"of {len(flowed)} requests while a host died"),
    )


class Unexpected(Exception):
    """The demo did not go as it should."""


def must(held: bool, sentence: str) -> None:
    if not held:
        raise Unexpected(sentence)


async def main() -> int:
    configure("text", "error")
    title(1, "A broker, two hosts and the deployment manager, each a process")
    stack = Stack(HOSTS)
    try:
        with tempfile.TemporaryDirectory(prefix="trellis-demo-") as folder, contextlib.chdir(folder):
            async with stack:
                await show(stack, Path(folder))
    except Failure as failure:
        failure.show()
        return failure.exit_code
    except (Unexpected, TimeoutError, subprocess.CalledProcessError) as error:
        click.echo(f"error: {error or 'the manager did not restore the app in time'}", err=True)
        return 1
    left = [child.name for child in (stack.manager, *stack.hosts.values()) if child is not None and child.running]
    click.echo(f"\n{'nothing is left running' if not left else f'still running: {left}'}")
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
