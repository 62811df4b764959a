"""What a provider author writes: one class, async hooks, and methods that are exported.

class Shout(Provider):
    @export("demo:text/transform#shout")
    async def shout(self, link: Link, text: str) -> str:
        return text.upper() + link.config.get("suffix", "!")
"""

from __future__ import annotations

import asyncio
import inspect
import types
import typing
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar

import structlog
from pydantic import BaseModel

from lattice import EMPTY, BadValue, EntityId, Function, HostId, Value
from providers.link import Link, LinkId

if TYPE_CHECKING:
    from lattice.lattice import Lattice

log = structlog.get_logger("providers")

Method = TypeVar("Method", bound=Callable[..., Coroutine[Any, Any, Any]])

_MARK = "__trellis_exports__"


def export(*functions: str) -> Callable[[Method], Method]:
    """Answer the WIT functions named (`namespace:package/interface#function`, a version is ignored) with this method.

    The method is called as `method(self, link, *args)`. It returns the value, or raises WitError for the `err` side of
    a result. Raises ValueError for a name that is not a function's, TypeError for a method that is not `async def`.
    """
    parsed = [Function.parse(function) for function in functions]

    def mark(method: Method) -> Method:
        if not inspect.iscoroutinefunction(method):
            raise TypeError(f"{method.__qualname__} must be written `async def` to be exported")
        setattr(method, _MARK, [*getattr(method, _MARK, []), *parsed])
        return method

    return mark


Convert = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Export:
    """One exported method: how many arguments it takes, and which of them become tuples."""

    function: Function
    attribute: str
    least: int
    most: int | None
    converts: tuple[Convert | None, ...]

    def arguments(self, args: tuple[Value, ...]) -> tuple[Value, ...]:
        """`args` as the method's annotations want them. Raises BadValue when there are too few or too many."""
        count = len(args)
        if count < self.least or (self.most is not None and count > self.most):
            takes = str(self.least) if self.least == self.most else f"{self.least} to {self.most or 'any number'}"
            raise BadValue(f"{self.function.key} takes {takes} argument(s), {count} given")
        if not self.converts:
            return args
        given = list(args)
        for index, convert in enumerate(self.converts[:count]):
            if convert is not None:
                given[index] = convert(given[index])
        return tuple(given)


def _converter(hint: Any) -> Convert | None:
    """What turns the lists of a value into the tuples that `hint` speaks of; None when it speaks of none."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if hint is tuple:
        return tuple
    if origin is tuple:
        each = [_converter(part) for part in inner if part is not Ellipsis]
        if not any(each):
            return lambda value: tuple(value) if isinstance(value, list) else value
        if Ellipsis in inner:
            return lambda value: tuple(_apply(each[0], element) for element in value)
        return lambda value: tuple(_apply(convert, item) for convert, item in zip(each, value, strict=True))
    if origin in (list, Sequence) and inner and (item := _converter(inner[0])):
        return _each(item)
    if origin is dict and len(inner) == 2 and (item := _converter(inner[1])):
        return _each_value(item)
    if origin in (typing.Union, types.UnionType):
        arms = [arm for arm in inner if arm is not type(None)]
        if len(arms) == 1 and (item := _converter(arms[0])):
            return _unless_none(item)
    if origin is typing.Annotated:
        return _converter(inner[0])
    return None


def _each(convert: Convert) -> Convert:
    return lambda value: [convert(element) for element in value]


def _each_value(convert: Convert) -> Convert:
    return lambda value: {key: convert(element) for key, element in value.items()}


def _unless_none(convert: Convert) -> Convert:
    return lambda value: None if value is None else convert(value)


def _apply(convert: Convert | None, value: Any) -> Any:
    return value if convert is None else convert(value)


def _exports(cls: type) -> dict[str, Export]:
    found: dict[str, Export] = {}
    for attribute in dir(cls):
        method = inspect.getattr_static(cls, attribute, None)
        functions = getattr(method, _MARK, None)
        if not functions or not inspect.isfunction(method):
            continue
        parameters = list(inspect.signature(method).parameters.values())[2:]  # after self and link
        plain = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        try:
            hints = typing.get_type_hints(method, include_extras=True)
        except Exception:  # an annotation that only the type checker can resolve: such a method gets lists
            hints = {}
        converts = tuple(_converter(hints.get(p.name)) for p in plain)
        open_ended = any(p.kind is p.VAR_POSITIONAL for p in parameters)
        for function in functions:
            if function.key in found:
                one, other = found[function.key].attribute, attribute
                raise TypeError(f"{cls.__qualname__} exports {function.key} twice: {one} and {other}")
            found[function.key] = Export(
                function,
                attribute,
                least=sum(p.default is p.empty for p in plain),
                most=None if open_ended else len(plain),
                converts=converts if any(converts) else (),
            )
    return found


class Provider:
    """A capability in Python. Subclass it; every hook may stay as it is.

    The runtime sets `id`, `config`, `settings`, `lattice` and `host_id` before `started`, and keeps `links`. Hooks for
    one link never overlap; those of different links may. A hook that raises refuses what it was called for: `started`
    the whole provider, `link_added` that link.
    """

    link_config: ClassVar[type[BaseModel] | None] = None
    """Declare a model, and every link's `config` is one of these; one that does not fit refuses its link."""
    settings_model: ClassVar[type[BaseModel] | None] = None
    """Declare a model, and `settings` is the provider's own configuration as one of these."""
    concurrency: ClassVar[int] = 256
    """Calls answered at a time; more wait in line, and when the line is full too, get Busy."""

    exports: ClassVar[Mapping[str, Export]] = {}
    """What the class exports, by function key."""

    id: EntityId = EntityId("")
    host_id: HostId | None = None
    config: Mapping[str, str] = EMPTY
    """The provider's named configurations, merged."""
    settings: Any = None
    lattice: Lattice | None = None
    """The lattice it runs in; None in unit tests."""
    links: dict[LinkId, Link[Any]]
    """Every link that was accepted and not removed. The runtime keeps it; read only."""
    _tasks: set[asyncio.Task[None]]
    _broken: dict[str, str]

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        self = super().__new__(cls)  # not in __init__: subclasses need not call ours
        self.links = {}
        self._tasks = set()
        self._broken = {}
        return self

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.exports = _exports(cls)

    # -- hooks

    async def started(self) -> None:
        """Before any link and any call."""

    async def config_changed(self, config: Mapping[str, str]) -> None:
        """`config` (and `settings`) are the new ones already."""

    async def link_added(self, link: Link[Any]) -> None:
        """Before the first call through it."""

    async def link_changed(self, old: Link[Any], new: Link[Any]) -> None:
        """The same link with other interfaces or configuration. Unless overridden: removed, then added.

        When it raises, the link is gone altogether: leave nothing of `old` behind.
        """
        await self.link_removed(old)
        await self.link_added(new)

    async def link_removed(self, link: Link[Any]) -> None:
        """After its last call. Not called for a link that was refused."""

    async def healthy(self) -> bool | str:
        """True, or False, or a sentence that says what is wrong."""
        return True

    async def stopped(self) -> None:
        """After the last call and the last link. Cancelled when the grace period ends."""

    # -- what it can do

    def spawn(self, work: Coroutine[Any, Any, None], *, name: str | None = None) -> asyncio.Task[None]:
        """Run `work` beside the calls, until it ends or the provider stops. If it raises, the provider is unhealthy."""
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._broken[task.get_name()] = f"{type(error).__name__}: {error}"
            log.error("provider.task_failed", provider=self.id, task=task.get_name(), exc_info=error)
