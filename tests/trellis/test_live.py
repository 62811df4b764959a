"""`trellis up` while somebody works on the app: an actor in Python, one with a toolchain of its own, and a provider."""

from __future__ import annotations

import itertools
import os
import re
import signal
import subprocess
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

import components
import pytest
from pseudo_terminal import terminal
from servers import free_port
from verbs import COMMAND

from lattice import EntityId, Function, Invocation, Value
from lattice.lattice import Lattice
from lattice.nats_transport import connect
from trellis.building import recipe
from trellis.live.parts import Built
from trellis.scaffolding import scaffold

pytestmark = [pytest.mark.nats, pytest.mark.toolchain]

PATIENCE = 120.0
"""Seconds: the runner may have to be built, and compiled."""

ENDED = "it has ended"

ACTOR = """
from componentize_py_types import Err, Ok
from wit_world import exports
from wit_world.imports.types import Fields, OutgoingBody, OutgoingResponse, ResponseOutparam


class IncomingHandler(exports.IncomingHandler):
    def handle(self, request, response_out):
        print("asked for", request.path_with_query())
        response = OutgoingResponse(Fields())
        body = response.body()
        ResponseOutparam.set(response_out, Ok(response))
        with request.consume() as incoming, incoming.stream() as source, body.write() as stream:
            stream.blocking_write_and_flush(b"begun, ")
            try:
                while source.blocking_read(64):
                    pass
            except Err:
                pass
            import answers
            stream.blocking_write_and_flush(answers.TEXT)
        OutgoingBody.finish(body, None)
"""

PROVIDER = """
from providers import Link, Provider, export


class Echo(Provider):
    @export("demo:text/transform#shout")
    async def shout(self, link: Link, text: str) -> str:
        return text + link.config["suffix"]
"""

TEA = """[build]
command = "sh build.sh"
output = "build/tea.wasm"
"""

BUILD = """set -e
grep -q component app.wat || { echo "app.wat:1: no component" >&2; exit 1; }
cp app.wat build/tea.wasm
echo "built by $$" > written-by-the-build.txt
"""

APP = """
apiVersion: core.oam.dev/v1beta1
kind: Application
metadata: {name: hello}
spec:
  components:
    - name: tea
      type: component
      properties: {image: ./tea/build/tea.wasm}
      traits: [{type: spreadscaler, properties: {instances: 2}}]
    - name: http
      type: capability
      properties: {image: "builtin:http-server"}
      traits:
        - type: link
          properties:
            target: tea
            namespace: wasi
            package: http
            interfaces: [incoming-handler]
            source: {config: [{name: tea-address, properties: {address: "127.0.0.1:TEA"}}]}
"""

REST = """
        - type: link
          properties:
            target: actor
            name: actor
            namespace: wasi
            package: http
            interfaces: [incoming-handler]
            source: {config: [{name: address, properties: {address: "127.0.0.1:ACTOR"}}]}
    - name: actor
      type: component
      properties: {image: ./actor/build/hello.wasm}
      traits:
        - type: spreadscaler
          properties: {instances: 4}
        - type: link
          properties:
            target: {name: echo, config: [{name: echo-suffix, properties: {suffix: "!"}}]}
            namespace: demo
            package: text
            interfaces: [transform]
    - name: echo
      type: capability
      properties: {image: ./echo/echo.py}
"""


class Up:
    """A running `trellis up`, and what it prints."""

    def __init__(self, folder: Path, port: int, tea: int) -> None:
        self.folder = folder
        self.port = port
        self.tea = tea
        named = ("TRELLIS_NATS", "TRELLIS_LATTICE")
        self.process = subprocess.Popen(
            [*COMMAND, "up"],
            cwd=folder,
            env={name: value for name, value in os.environ.items() if name not in named},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.said = ""
        self._seen = 0
        self._more = threading.Condition()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in itertools.chain(self.process.stdout, [ENDED]):
            with self._more:
                self.said += line
                self._more.notify_all()

    def says(self, pattern: str) -> str:
        """Wait until it says that, after all that was waited for before; the line."""
        expected = re.compile(f"^.*(?:{pattern}).*$", re.MULTILINE)
        with self._more:
            self._more.wait_for(lambda: expected.search(self.said, self._seen) or ENDED in self.said, PATIENCE)
            found = expected.search(self.said, self._seen)
            assert found is not None, f"it did not say {pattern!r}:\n{self.said}"
            self._seen = found.end()
            return found[0]

    def get(self, port: int | None = None) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port or self.port}/", timeout=30) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def edits(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text)

    async def echoes(self, text: str) -> Value:
        """What the provider answers the actor."""
        url = re.search(r"nats://\S+", self.said)
        assert url is not None
        transport = await connect(url[0])
        try:
            function = Function.parse("demo:text/transform#shout")
            call = Invocation(EntityId("hello-echo"), function, (text,), EntityId("hello-actor"))
            return await Lattice("default", transport).invoke(call.within(30))
        finally:
            await transport.close()


def written(folder: Path, tea: int, port: int | None = None) -> Path:
    """The app, its actor in Python and its provider where it has a `port` for them."""
    files = {
        "app.yaml": APP.replace("TEA", str(tea)),
        "tea/trellis.toml": TEA,
        "tea/build.sh": BUILD,
        "tea/app.wat": components.TEAPOT,
    }
    if port is not None:
        made = scaffold("app", "hello", "python", "http").items()
        files |= {str(name.relative_to("hello")): text for name, text in made if "actor" in name.parts}
        files |= {"actor/app.py": ACTOR, "actor/answers.py": 'TEXT = b"first"\n', "echo/echo.py": PROVIDER}
        files["app.yaml"] += REST.strip("\n").replace("ACTOR", str(port))
    for name, text in files.items():
        (folder / name).parent.mkdir(exist_ok=True, parents=True)
        (folder / name).write_text(text)
    return folder


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    port, tea = free_port(), free_port()
    started = Up(written(tmp_path_factory.mktemp("live") / ".git", tea, port), port, tea)
    try:
        started.says("Ctrl-C stops everything")
        yield started
    finally:
        started.process.send_signal(signal.SIGINT)
        assert started.process.wait(60) == 0, started.said
        assert "stopped: nothing is left running" in started.said


def test_an_edit_of_a_python_actor_is_live_without_a_build(up: Up):
    assert up.get() == (200, "begun, first")
    up.says(r"hello-actor +asked for /$")
    up.edits("actor/answers.py", 'TEXT = b"second"\n')
    up.says(r"^actor/answers.py changed -> live in \d+ ms")
    assert up.get() == (200, "begun, second")
    assert not (up.folder / "actor" / "build").exists()


def test_a_request_in_hand_ends_on_the_code_that_it_began_with(up: Up):
    up.edits("actor/answers.py", 'TEXT = b"old"\n')
    up.says(r"actor/answers.py changed -> live")
    slow = HTTPConnection("127.0.0.1", up.port, timeout=30)
    slow.putrequest("POST", "/slow")
    slow.putheader("Transfer-Encoding", "chunked")
    slow.endheaders()
    up.says("asked for /slow")
    up.edits("actor/answers.py", 'TEXT = b"new"\n')
    up.says(r"actor/answers.py changed -> live")
    assert up.get() == (200, "begun, new")
    slow.send(b"0\r\n\r\n")
    assert slow.getresponse().read() == b"begun, old"
    slow.close()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("def broken(:", "SyntaxError: invalid syntax"),
        ("TEXT = totl", "NameError: name 'totl' is not defined"),
        ("import ssl", "No module named 'ssl'; it is a module of the standard library that components do not have"),
        ("raise SystemExit", "SystemExit"),
    ],
)
def test_an_edit_that_cannot_be_imported_is_told_with_its_line_and_what_ran_before_goes_on(
    up: Up, line: str, said: str
):
    up.edits("actor/answers.py", 'TEXT = b"good"\n')
    up.edits("actor/app.py", f"{line}\n{ACTOR.replace('begun', 'begun anew')}")
    up.says(rf"error\[TRL-UP-004\]: `hello` cannot be imported: .*{re.escape(said)}")
    up.says(r"--> actor/app.py:1:1$")
    up.says("hello goes on as it was")
    assert up.get()[1].startswith("begun, ")
    up.edits("actor/app.py", ACTOR)
    up.says("actor/app.py.* changed -> live")
    assert up.get() == (200, "begun, good")


def test_a_file_that_is_renamed_into_place_or_saved_many_times_at_once_is_followed(up: Up):
    file = up.folder / "actor" / "app.py"
    saved = file.with_name("app.py.tmp")
    saved.write_text(ACTOR.replace("begun", "renamed"))
    saved.rename(file)
    up.says(r"actor/app.py.* changed -> live")
    assert up.get()[1].startswith("renamed, ")
    for number in range(50):
        file.write_text(ACTOR.replace("begun", f"save {number}"))
    while not up.get()[1].startswith("save 49, "):
        up.says("changed -> live")
    up.edits("actor/app.py", ACTOR)
    while not up.get()[1].startswith("begun, "):  # what it says next may still be about a save
        up.says("changed -> live")


def test_a_file_in_a_folder_that_was_not_watched_yet_is_named(up: Up):
    folder = up.folder / "actor" / "words"
    folder.mkdir()
    (folder / "__init__.py").write_text('TEXT = b"from a folder"\n')
    up.says(r"^actor/words/__init__.py changed -> live")
    up.edits("actor/answers.py", "from words import TEXT\n")
    up.says(r"^actor/answers.py changed -> live")
    assert up.get()[1].endswith("from a folder")
    up.edits("actor/answers.py", 'TEXT = b"first"\n')
    up.says(r"^actor/answers.py changed -> live")


def test_an_actor_in_another_language_is_built_and_takes_the_place_of_the_old_one(up: Up):
    assert up.get(up.tea)[0] == 418
    up.edits("tea/app.wat", components.TEAPOT.replace("418", "429"))
    while up.get(up.tea)[0] != 429:
        up.says("changed -> live")
    up.edits("tea/app.wat", "nothing")
    up.says("app.wat:1: no component")
    up.says("tea goes on as it was")
    assert up.get(up.tea)[0] == 429
    up.edits("tea/app.wat", components.TEAPOT)
    while up.get(up.tea)[0] != 418:
        up.says("changed -> live")


def test_wit_that_is_wrong_is_told_with_its_own_file_and_line(up: Up):
    file = up.folder / "actor" / "wit" / "world.wit"
    text = file.read_text()
    file.write_text(text.replace("export ", "exports "))
    up.says(r"error\[TRL-BLD-003\]: the runner of `hello` was not built")
    up.says(rf"{file}:4:3")
    up.says("app.yaml goes on as it was")
    assert up.get()[0] == 200
    file.write_text(text)
    up.says("app.yaml.* changed -> live|world.wit.* changed -> live")


async def test_a_build_that_writes_a_file_each_time_does_not_begin_again_for_ever(tmp_path: Path):
    folder = written(tmp_path, 1) / "tea"
    deployed: list[str] = []

    async def deploy() -> None:
        deployed.append("again")

    part, its_own = Built(recipe(folder), deploy), folder / "written-by-the-build.txt"
    (folder / "build").mkdir()
    for _ in range(3):
        assert part.has(its_own)
        assert await part.renew()
    assert not part.has(its_own) and part.has(folder / "app.wat")
    assert len(deployed) == 3


async def test_a_provider_is_started_anew_with_the_links_it_has(up: Up):
    assert await up.echoes("hello") == "hello!"
    up.edits("echo/echo.py", PROVIDER.replace("return text", "return text.upper()"))
    while await up.echoes("hello") != "HELLO!":
        up.says("changed -> live")
    up.edits("echo/echo.py", PROVIDER + "\n1 / 0\n")
    up.says(r"error\[TRL-UP-005\].*ZeroDivisionError")
    up.says(r"--> echo/echo.py:\d+:1")
    up.says(r"\| 1 / 0$")
    up.says("hello-echo goes on as it was")
    assert await up.echoes("hello") == "HELLO!"


def test_an_edit_of_the_manifest_is_deployed_and_one_that_is_wrong_is_told(up: Up):
    manifest = (up.folder / "app.yaml").read_text()
    up.edits("app.yaml", manifest.replace("instances: 4", "instancs: 4"))
    up.says(r"unknown field `instancs`")
    up.says(r"app.yaml goes on as it was")
    assert up.get()[0] == 200
    up.edits("app.yaml", manifest.replace("instances: 4", "instances: 7"))
    up.says("app.yaml.* changed -> live")
    status = subprocess.run([*COMMAND, "status"], cwd=up.folder, capture_output=True, text=True, timeout=60)
    assert re.search(r"actor +ready +7/7", status.stdout), status.stdout + status.stderr


def test_a_second_up_of_the_folder_is_refused_and_the_first_is_still_found(up: Up):
    second = subprocess.run([*COMMAND, "up"], cwd=up.folder, capture_output=True, text=True, timeout=60)
    assert second.returncode == 1
    assert f"error[TRL-UP-007]: `trellis up` (pid {up.process.pid}) runs in this folder already" in second.stderr
    status = subprocess.run([*COMMAND, "status"], cwd=up.folder, capture_output=True, text=True, timeout=60)
    assert re.search(r"component +actor +ready", status.stdout), status.stdout + status.stderr


async def test_at_a_terminal_one_key_opens_the_app_and_another_ends_it_all(tmp_path: Path):
    tea = free_port()
    browser = tmp_path / "browser"
    browser.write_text("#!/bin/sh\necho opened $1\n")
    browser.chmod(0o755)
    async with terminal("up", folder=written(tmp_path, tea), environment={"BROWSER": str(browser)}) as shown:
        before = shown.modes()
        await shown.sees("^o opens the app, q or Ctrl-C stops everything")
        assert shown.modes() != before, "keys come without Enter"
        shown.types("o")
        await shown.sees(f"^opened http://127.0.0.1:{tea}/")
        shown.types("q")
        await shown.sees("^stopped: nothing is left running")
        assert await shown.ends() == 0
        assert shown.modes() == before
