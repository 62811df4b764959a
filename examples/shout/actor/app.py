"""GET /?text=hi answers the text, shouted by whatever is linked as `demo:text/transform`."""

from urllib.parse import parse_qs

from componentize_py_types import Ok
from wit_world import exports
from wit_world.imports import transform
from wit_world.imports.types import Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam


class IncomingHandler(exports.IncomingHandler):
    def handle(self, request: IncomingRequest, response_out: ResponseOutparam) -> None:
        _, _, query = (request.path_with_query() or "/").partition("?")
        text = parse_qs(query).get("text", ["hello"])[0]
        answer(response_out, transform.shout(text) + "\n")


def answer(response_out: ResponseOutparam, text: str) -> None:
    response = OutgoingResponse(Fields.from_list([("content-type", b"text/plain; charset=utf-8")]))
    body = response.body()
    ResponseOutparam.set(response_out, Ok(response))
    with body.write() as stream:
        data = text.encode()
        for begin in range(0, len(data), 4096):  # what one call takes at most
            stream.blocking_write_and_flush(data[begin : begin + 4096])
    OutgoingBody.finish(body, None)
