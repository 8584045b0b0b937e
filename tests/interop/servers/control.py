"""What the servers in Python, and the daemons that a script in Python starts, have in common."""

import atexit
import http.client
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

HERE = pathlib.Path(__file__).resolve().parent
SECRETS = dict(json.loads((HERE / "clients.json").read_text(encoding="utf-8"))["secrets"])
# The folders of daemons, which the PATH of an ordinary user may not have.
PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])


def serve(handler):
    """Serves `handler` on a free port of 127.0.0.1. Returns the URL."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def reply(self, status, content, headers):
        self.send_response_only(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


def control(paths):
    """Serves for each path the JSON that its function returns; of a list, the part after the first `?since=N`."""

    class Control(Handler):
        def do_GET(self):
            name, _, since = self.path.partition("?since=")
            body = paths[name]() if name in paths else None
            if isinstance(body, list):
                body = body[int(since or 0) :]
            content = json.dumps(body).encode()
            self.reply(404 if body is None else 200, content, [("Content-Type", "application/json")])

    return serve(Control)


def entry(method, path, authorization):
    """A request that has no response yet."""
    return {
        "method": method,
        "path": path.partition("?")[0],
        "authorization": authorization,
        "status": None,
        "error": None,
        "challenge": None,
    }


def complete(noted, status, challenge, body):
    noted["challenge"] = challenge
    try:
        noted["error"] = json.loads(body).get("error")
    except (ValueError, AttributeError):
        pass
    noted["status"] = status


def recorded(port):
    """A reverse proxy that notes each request to a daemon on `port`, and its response. Returns its URL and the notes."""
    requests = []

    class Front(Handler):
        def forward(self):
            noted = entry(self.command, self.path, self.headers.get("Authorization"))
            requests.append(noted)
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            upstream = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
            headers = {name: value for name, value in self.headers.items() if name.lower() != "connection"}
            upstream.request(self.command, self.path, body, {**headers, "Connection": "close"})
            response = upstream.getresponse()
            content = response.read()
            upstream.close()
            own = ("connection", "content-length", "keep-alive", "transfer-encoding")
            kept = [(name, value) for name, value in response.getheaders() if name.lower() not in own]
            complete(noted, response.status, response.headers.get("WWW-Authenticate"), content)
            self.reply(response.status, content, kept)

        do_GET = do_POST = forward

    return serve(Front), requests


def page(port, path):
    """What a daemon's own page says."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", path)
    content = connection.getresponse().read().decode()
    connection.close()
    return content


def account():
    """The account of a daemon. Some daemons refuse to run as root."""
    return {"user": "nobody", "group": "nogroup", "extra_groups": []} if os.geteuid() == 0 else {}


def directory():
    """A new folder for one daemon, removed at the end."""
    path = pathlib.Path(tempfile.mkdtemp(prefix="interop-"))
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path


def own(path):
    """Gives a folder and its files to the account of the daemon."""
    if os.geteuid() == 0:
        for name in [path, *path.rglob("*")]:
            shutil.chown(name, "nobody", "nogroup")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def version(command, pattern):
    shown = subprocess.run([program(command[0]), *command[1:]], capture_output=True, text=True, check=False)
    return re.search(pattern, shown.stdout + shown.stderr).group(1)


def program(name):
    return shutil.which(name, path=PATH) or sys.exit(f"{name} is not installed")


def spawn(command, port, **settings):
    """Starts a daemon, and waits until it listens on `port`."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    command = [program(command[0]), *command[1:]]
    child = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=sys.stderr, stderr=sys.stderr, **account(), **settings
    )

    def stop():
        child.terminate()
        try:
            child.wait(5)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()

    atexit.register(stop)
    end = time.monotonic() + 60
    while True:
        if child.poll() is not None:
            sys.exit(f"{command[0]} ended with {child.returncode}")
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return child
        except OSError:
            if time.monotonic() > end:
                sys.exit(f"{command[0]} does not listen on port {port}")
            time.sleep(0.05)


def ready(server, version, url, control, places=None):
    facts = {"server": server, "version": version, "url": url, "control": control, "places": places or {}}
    print(f"ready {json.dumps(facts)}", flush=True)
