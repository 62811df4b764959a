"""wasi:cli: environment, standard streams, exit. There is a terminal only where the guest was given one."""

from __future__ import annotations

from actors.adapters import ADAPTERS, Callee
from actors.guest import Guest, Output
from actors.host_api import Resource, serves
from actors.pipes import Sink
from actors.wasi.io import InputStream, OutputSink, OutputStream, Tee
from lattice import Invocation, Trap, Value, WitError
from lattice.streams import ByteStream


class Exited(Exception):
    """The guest ended itself through wasi:cli/exit. `code` 0 is success."""

    def __init__(self, code: int) -> None:
        super().__init__(f"the guest exited with code {code}")
        self.code = code


@serves("wasi:cli/environment")
class Environment:
    @staticmethod
    def get_environment(guest: Guest) -> list[tuple[str, str]]:
        return list(guest.environment.items())

    @staticmethod
    def get_arguments(guest: Guest) -> list[str]:
        return list(guest.arguments)

    @staticmethod
    def initial_cwd(guest: Guest) -> str | None:
        return None


@serves("wasi:cli/exit")
class Exit:
    @staticmethod
    def exit(guest: Guest, status: Value) -> None:
        raise Exited(1 if "err" in status else 0)

    @staticmethod
    def exit_with_code(guest: Guest, status_code: int) -> None:
        raise Exited(status_code)


async def run(callee: Callee, invocation: Invocation) -> None:
    """`wasi:cli/run#run` of a command: it may return, or exit."""
    try:
        await callee.call(*invocation.args)
    except Trap as trap:
        if not isinstance(trap.__cause__, Exited):
            raise
        if trap.__cause__.code != 0:
            raise WitError from trap


ADAPTERS["wasi:cli/run#run"] = run


@serves("wasi:cli/stdin")
class Stdin:
    @staticmethod
    def get_stdin(guest: Guest) -> InputStream:
        return InputStream(ByteStream.of(b"") if guest.stdio is None else guest.stdio.stdin)


@serves("wasi:cli/stdout")
class Stdout:
    @staticmethod
    def get_stdout(guest: Guest) -> OutputStream:
        return OutputStream(_sink(guest.stdout, None if guest.stdio is None else guest.stdio.stdout))


@serves("wasi:cli/stderr")
class Stderr:
    @staticmethod
    def get_stderr(guest: Guest) -> OutputStream:
        return OutputStream(_sink(guest.stderr, None if guest.stdio is None else guest.stdio.stderr))


def _sink(output: Output, elsewhere: Sink | None) -> Sink:
    """`output` keeps the end for errors, wherever else the bytes go."""
    return OutputSink(output) if elsewhere is None else Tee(elsewhere, output)


def _terminal(guest: Guest, stream: str) -> bool:
    return guest.stdio is not None and stream in guest.stdio.terminals


class TerminalInput(Resource, interface="wasi:cli/terminal-input", name="terminal-input"):
    """`terminal-input`: only a sign that there is one."""


class TerminalOutput(Resource, interface="wasi:cli/terminal-output", name="terminal-output"):
    """`terminal-output`: only a sign that there is one."""


@serves("wasi:cli/terminal-input", TerminalInput)
class TerminalInputs:
    """Has no functions of its own."""


@serves("wasi:cli/terminal-output", TerminalOutput)
class TerminalOutputs:
    """Has no functions of its own."""


@serves("wasi:cli/terminal-stdin")
class TerminalStdin:
    @staticmethod
    def get_terminal_stdin(guest: Guest) -> TerminalInput | None:
        return TerminalInput() if _terminal(guest, "stdin") else None


@serves("wasi:cli/terminal-stdout")
class TerminalStdout:
    @staticmethod
    def get_terminal_stdout(guest: Guest) -> TerminalOutput | None:
        return TerminalOutput() if _terminal(guest, "stdout") else None


@serves("wasi:cli/terminal-stderr")
class TerminalStderr:
    @staticmethod
    def get_terminal_stderr(guest: Guest) -> TerminalOutput | None:
        return TerminalOutput() if _terminal(guest, "stderr") else None
