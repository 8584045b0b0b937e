"""PyPI grpcio on loopback: an API that asks the issuer about each token, and says UNAUTHENTICATED in five forms.

    python grpcio_server.py ISSUER
"""

import http.client
import json
import math
import sys
import urllib.parse
from concurrent import futures

import grpc

from control import SECRETS, complete, control, entry, ready

REQUESTS = []
UNAUTHENTICATED = grpc.StatusCode.UNAUTHENTICATED


def active(issuer, token):
    """RFC 7662."""
    fields = {"token": token, "client_id": "introspector", "client_secret": SECRETS["plain"]}
    connection = http.client.HTTPConnection(issuer, timeout=10)
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    connection.request("POST", "/token/introspection", urllib.parse.urlencode(fields), headers)
    said = json.loads(connection.getresponse().read())
    connection.close()
    return said.get("active") is True


def trailers_only(_, context):
    context.abort(UNAUTHENTICATED, "no")


def head_then_trailers(_, context):
    context.send_initial_metadata(())
    context.abort(UNAUTHENTICATED, "no")


def empty_message(_, context):
    context.set_code(UNAUTHENTICATED)
    return b""


def message(_, context):
    context.set_code(UNAUTHENTICATED)
    return b"a part"


def mid_stream(_, context):
    yield from (b"1", b"2", b"3")
    context.abort(UNAUTHENTICATED, "no")


UNARY = {
    "TrailersOnly": trailers_only,
    "HeadThenTrailers": head_then_trailers,
    "EmptyMessage": empty_message,
    "Message": message,
}


class Calls(grpc.GenericRpcHandler):
    def __init__(self, issuer):
        self.issuer = issuer

    def accepted(self, path, context):
        """Notes the call, and whether its token is active."""
        authorization = dict(context.invocation_metadata()).get("authorization", "")
        noted = entry("POST", path, authorization)
        left = context.time_remaining()
        # Without a deadline it is infinite, which JSON cannot represent.
        noted["seconds_left"] = left if left is not None and math.isfinite(left) else None
        REQUESTS.append(noted)
        good = active(self.issuer, authorization.removeprefix("Bearer "))
        complete(noted, 0 if good else UNAUTHENTICATED.value[0], None, "")
        return good

    def service(self, call):
        name = call.method.rpartition("/")[2]

        def unary(body, context):
            return b"whole" if self.accepted(call.method, context) else UNARY[name](body, context)

        def stream(body, context):
            yield from (b"1", b"2", b"3", b"4") if self.accepted(call.method, context) else mid_stream(body, context)

        if name == "MidStream":
            return grpc.unary_stream_rpc_method_handler(stream)
        return grpc.unary_unary_rpc_method_handler(unary) if name in UNARY else None


def main():
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=8))
    server.add_generic_rpc_handlers((Calls(sys.argv[1].removeprefix("http://")),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    ready("grpcio", grpc.__version__, f"http://127.0.0.1:{port}", control({"/requests": lambda: REQUESTS}))
    server.wait_for_termination()


if __name__ == "__main__":
    main()
