"""Answers HTTP."""

from componentize_py_types import Ok
from wit_world import exports
from wit_world.imports.types import Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam


class IncomingHandler(exports.IncomingHandler):
    def handle(self, request: IncomingRequest, response_out: ResponseOutparam) -> None:
        answer(response_out, "hello from {{name}}\n")


def answer(response_out: ResponseOutparam, text: str) -> None:
    response = OutgoingResponse(Fields.from_list([("content-type", b"text/plain; charset=utf-8")]))
    body = response.body()
    ResponseOutparam.set(response_out, Ok(response))
    with body.write() as stream:
        data = text.encode()
        for begin in range(0, len(data), 4096):  # what one call takes at most
            stream.blocking_write_and_flush(data[begin : begin + 4096])
    OutgoingBody.finish(body, None)
