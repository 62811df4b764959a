"""Runs a Python actor from its sources: what `trellis up` has in the place of a built component.

componentize-py keeps the interpreter as it is when this module has been imported; the files of the standard library are
gone after that, so all of it is imported here. The actor's own modules are imported by each instance, from the
read-only folders that PYTHONPATH names, when it is first called.
"""

import contextlib
import gc
import importlib
import io
import os
import pkgutil
import sys
import traceback
import warnings

import wit_world
from componentize_py_types import Err
from wit_world import exports
from wit_world.exports.sources import Problem

NOT_WANTED = {"antigravity", "ensurepip", "idlelib", "test", "this", "tkinter", "turtle", "turtledemo"}
OURS = {"Sources", "WitWorld"}


def import_all(names):
    """Import as many of these modules as this Python has, and all that is in packages, whatever they print."""
    for name in names:
        if name.rpartition(".")[2] in NOT_WANTED | {"__main__"}:
            continue
        try:
            module = importlib.import_module(name)
        except BaseException:  # some need what WASI does not have, some end the interpreter
            continue
        inside = pkgutil.iter_modules(getattr(module, "__path__", ()))
        import_all(f"{name}.{found.name}" for found in inside)


with (
    warnings.catch_warnings(action="ignore"),
    contextlib.redirect_stdout(io.StringIO()),
    contextlib.redirect_stderr(io.StringIO()),
):
    import_all([*sorted(sys.stdlib_module_names), "wit_world", "componentize_py_async_support", "poll_loop"])
sys.path_hooks[:] = [hook for hook in sys.path_hooks if "zip" not in repr(hook)]
gc.collect()
gc.freeze()  # a collection in an instance would copy every page of what is shared


def actor(compiled=False):
    """The actor's module. Raises whatever its import raises."""
    name = os.environ["TRELLIS_MODULE"]
    if name not in sys.modules:
        sys.dont_write_bytecode = not compiled
        sys.path[:] = folders()
    return importlib.import_module(name)


def folders():
    return os.environ["PYTHONPATH"].split(":")


class Attribute:
    """Stands for `name` of the actor's module while componentize-py asks this one for it."""

    def __init__(self, name):
        self._name = name

    def __call__(self, *arguments):
        if "TRELLIS_MODULE" in os.environ:
            return getattr(actor(), self._name)(*arguments)
        return Exported(self._name)  # no instance yet: the class of an exported interface

    def __getattr__(self, name):
        return getattr(getattr(actor(), self._name), name)


class Exported:
    """Stands for an object of the actor's class `name`, which is made when a method of it is first called."""

    def __init__(self, name):
        self._name = name

    def __getattr__(self, method):
        made = getattr(actor(), self._name)()
        setattr(self, method, getattr(made, method))
        return getattr(made, method)


def __getattr__(name):
    if name.startswith("__"):
        raise AttributeError(name)
    return Attribute(name)


class Sources:
    def load(self):
        """Raises Err with what keeps the actor from being imported, and where."""
        try:
            module = actor(compiled=True)
        except BaseException as error:
            raise Err(problem(error)) from error
        wanted = {name for kind in (exports, wit_world) for name, it in vars(kind).items() if is_protocol(it, kind)}
        for name in sorted(wanted - OURS):
            if not hasattr(module, name):
                raise Err(Problem(module.__file__, 1, f"it has no {name}, which its world exports"))


def is_protocol(value, module):
    return isinstance(value, type) and value.__module__ == module.__name__ and getattr(value, "_is_protocol", False)


def problem(error):
    """Where in the actor's own files an import failed, and why."""
    said = f"{type(error).__name__}: {error}"
    if isinstance(error, SyntaxError):
        return Problem(error.filename or "", error.lineno or 1, f"{type(error).__name__}: {error.msg}")
    if isinstance(error, ModuleNotFoundError) and str(error.name).partition(".")[0] in sys.stdlib_module_names:
        said += "; it is a module of the standard library that components do not have"
    own = [at for at in traceback.extract_tb(error.__traceback__) if at.filename.startswith(tuple(folders()))]
    return Problem(own[-1].filename, own[-1].lineno or 1, said) if own else Problem("", 1, said)
