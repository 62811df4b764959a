"""What the tests ask of every language, in Python: an answer over HTTP, a counter in a key-value store, an interface
that it both imports and exports, and a failure.
"""

from componentize_py_types import Ok
from wit_world import exports
from wit_world.imports import atomics, store, transform
from wit_world.imports.types import Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam


class IncomingHandler(exports.IncomingHandler):
    def handle(self, request: IncomingRequest, response_out: ResponseOutparam) -> None:
        page = PAGES[request.path_with_query() or "/"]()
        response = OutgoingResponse(Fields.from_list([("content-type", b"text/plain")]))
        body = response.body()
        ResponseOutparam.set(response_out, Ok(response))
        with body.write() as stream:
            stream.blocking_write_and_flush(page.encode())
        OutgoingBody.finish(body, None)


class Transform(exports.Transform):
    def shout(self, text: str) -> str:
        return f"{transform.shout(text)}, says Python"


def hello() -> str:
    return "Hello from Python!"


def count() -> str:
    with store.open("default") as bucket:
        return str(atomics.increment(bucket, "visits", 1))


def fail() -> str:
    raise ValueError("the guest fails on purpose")


PAGES = {"/": hello, "/count": count, "/fail": fail}
