"""A service in Python: the handler of a component of wasi:http."""

from urllib.parse import urlsplit

from componentize_py_types import Err, Ok
from wit_world import exports
from wit_world.imports import environment
from wit_world.imports.streams import StreamError_Closed
from wit_world.imports.types import Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam


class IncomingHandler(exports.IncomingHandler):
    def handle(self, request: IncomingRequest, out: ResponseOutparam) -> None:
        path = urlsplit(request.path_with_query() or "/").path
        if path == "/":
            name = dict(environment.get_environment()).get("HOSTNAME", "a pod")
            answer(out, 200, f"Hello from Python in {name}\n".encode())
        elif path == "/healthz":
            answer(out, 200, b"ok\n")
        elif path == "/echo":
            answer(out, 200, body_of(request))
        else:
            answer(out, 404, b"nothing is there\n")


def body_of(request: IncomingRequest) -> bytes:
    body, parts = request.consume(), []
    with body.stream() as stream:
        while True:
            try:
                parts.append(stream.blocking_read(64 * 1024))
            except Err as error:
                if isinstance(error.value, StreamError_Closed):
                    return b"".join(parts)
                raise


def answer(out: ResponseOutparam, status: int, text: bytes) -> None:
    response = OutgoingResponse(Fields.from_list([("content-type", b"text/plain; charset=utf-8")]))
    response.set_status_code(status)
    body = response.body()
    ResponseOutparam.set(out, Ok(response))
    with body.write() as stream:
        # The most that one such call takes.
        for start in range(0, len(text), 4096):
            stream.blocking_write_and_flush(text[start : start + 4096])
    OutgoingBody.finish(body, None)
