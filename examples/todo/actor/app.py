"""A list of things to do, in a database.

GET    /todos        what there is, as JSON
POST   /todos        {"text": "...", "due": "2030-12-24"}; `due` may be left out
PATCH  /todos/ID     {"done": true}, or another text or day
DELETE /todos/ID
"""

import json
import re

from componentize_py_types import Err
from web import Exchange
from wit_world import exports
from wit_world.imports.query import (
    Answer,
    Statement,
    Value,
    Value_Integer,
    Value_Null,
    Value_Text,
    transact,
)
from wit_world.imports.types import IncomingRequest, ResponseOutparam

LONGEST = 10_000  # bytes of a request
TABLE = "CREATE TABLE IF NOT EXISTS todo (id INTEGER PRIMARY KEY, text TEXT NOT NULL, due TEXT, done INT DEFAULT 0)"
ALL = "SELECT id, text, due, done FROM todo"


class Refused(Exception):
    """A request that cannot be done: the status and why."""


class IncomingHandler(exports.IncomingHandler):
    def handle(self, request: IncomingRequest, response_out: ResponseOutparam) -> None:
        exchange = Exchange(request, response_out)
        try:
            status, value = respond(exchange)
        except Refused as refused:
            status, value = refused.args[0], {"error": refused.args[1]}
        except Err as error:
            status, value = 503, {"error": str(getattr(error.value, "value", error.value))}
        exchange.answer(status, json.dumps(value) + "\n", "application/json")


def respond(exchange: Exchange) -> tuple[int, object]:
    match exchange.method, exchange.parts:
        case "GET", ["todos"]:
            return 200, found(f"{ALL} ORDER BY id")
        case "POST", ["todos"]:
            given = fields(exchange)
            if "text" not in given:
                raise Refused(400, "a todo needs a `text`")
            run("INSERT INTO todo (text, due) VALUES (?, ?)", given["text"], given.get("due"))
            return 201, found(f"{ALL} ORDER BY id DESC LIMIT 1")[0]
        case "PATCH", ["todos", number] if number.isdigit():
            given = fields(exchange)
            for name in given:  # one of the three that `fields` lets pass
                changed(run(f"UPDATE todo SET {name} = ? WHERE id = ?", given[name], int(number)), number)
            return 200, found(f"{ALL} WHERE id = ?", int(number))[0]
        case "DELETE", ["todos", number] if number.isdigit():
            changed(run("DELETE FROM todo WHERE id = ?", int(number)), number)
            return 200, {"deleted": int(number)}
    raise Refused(404, "there is nothing here")


def fields(exchange: Exchange) -> dict[str, object]:
    """What the request's body says of a todo, checked."""
    body = exchange.body(LONGEST)
    try:
        given = json.loads(body or b"")
    except ValueError:
        given = None
    if not isinstance(given, dict) or not given:
        raise Refused(400, f"send a JSON object, of at most {LONGEST} bytes")
    for name, value in given.items():
        right = {
            "text": isinstance(value, str) and value.strip() != "",
            "due": value is None or (isinstance(value, str) and re.fullmatch(r"\d{4}-\d\d-\d\d", value) is not None),
            "done": isinstance(value, bool),
        }
        if not right.get(name, False):
            raise Refused(400, f"`{name}` cannot be {json.dumps(value)}; there are `text`, `due` (a day) and `done`")
    return given


def changed(answer: Answer, number: str) -> None:
    if not answer.changes:
        raise Refused(404, f"there is no todo {number}")


def found(sql: str, *params: object) -> list[dict[str, object]]:
    """The rows, as todos."""
    answer = run(sql, *params)
    todos = [dict(zip(answer.columns, (plain(value) for value in row), strict=True)) for row in answer.rows]
    return [{**todo, "done": bool(todo["done"])} for todo in todos]


def run(sql: str, *params: object) -> Answer:
    """One statement; the table is made before the first."""
    return transact([Statement(TABLE, []), Statement(sql, [bound(param) for param in params])])[1]


def bound(value: object) -> Value:
    match value:
        case None:
            return Value_Null()
        case int():
            return Value_Integer(int(value))
    return Value_Text(str(value))


def plain(value: Value) -> object:
    return getattr(value, "value", None)
