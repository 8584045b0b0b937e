"""PyPI Authlib on loopback, in Flask: a token endpoint with secrets and assertions, and routes that it protects.

    python authlib_server.py KEYS

KEYS is a URL with the keys of the clients that have an assertion.
"""

import json
import os
import sys
import time
import urllib.request

# Otherwise Authlib rejects http URLs.
os.environ["AUTHLIB_INSECURE_TRANSPORT"] = "1"

import authlib
from authlib.integrations.flask_oauth2 import AuthorizationServer, ResourceProtector, current_token
from authlib.oauth2.rfc6749 import ClientMixin, TokenMixin
from authlib.oauth2.rfc6749.grants import ClientCredentialsGrant
from authlib.oauth2.rfc6750 import BearerTokenValidator
from authlib.oauth2.rfc7523 import JWTBearerClientAssertion
from flask import Flask, request
from joserfc.jwk import import_key
from werkzeug.serving import WSGIRequestHandler, make_server

from control import SECRETS, complete, control, entry, ready

ALGORITHMS = ["ES256", "RS256", "PS256", "EdDSA"]
SECRET_METHODS = ["client_secret_basic", "client_secret_post"]
REQUESTS = []
EVENTS = []
TOKENS = {}
SEEN = set()


class Client(ClientMixin):
    def __init__(self, client_id, secret=None, grant="client_credentials", key=None):
        self.client_id, self.secret, self.grant, self.key = client_id, secret, grant, key

    def get_client_id(self):
        return self.client_id

    def get_default_redirect_uri(self):
        return None

    def get_allowed_scope(self, scope):
        return " ".join(one for one in (scope or "").split() if one == "read")

    def check_redirect_uri(self, redirect_uri):
        return False

    def check_client_secret(self, client_secret):
        return self.secret == client_secret

    def check_endpoint_auth_method(self, method, endpoint):
        return method not in SECRET_METHODS if self.key else method in SECRET_METHODS

    def check_response_type(self, response_type):
        return False

    def check_grant_type(self, grant_type):
        return grant_type == self.grant


class Token(TokenMixin):
    def __init__(self, client, token):
        self.client, self.scope = client, token.get("scope")
        self.end, self.revoked = time.time() + token["expires_in"], False

    def check_client(self, client):
        return client is self.client

    def get_scope(self):
        return self.scope

    def get_expires_in(self):
        return self.end - time.time()

    def is_expired(self):
        return self.end < time.time()

    def is_revoked(self):
        return self.revoked

    def get_user(self):
        return None

    def get_client(self):
        return self.client


def save(token, oauth_request):
    EVENTS.append({"event": "success", "client": oauth_request.client.client_id})
    TOKENS[token["access_token"]] = Token(oauth_request.client, token)


class Grant(ClientCredentialsGrant):
    TOKEN_ENDPOINT_AUTH_METHODS = [*SECRET_METHODS, JWTBearerClientAssertion.CLIENT_AUTH_METHOD]


class Assertion(JWTBearerClientAssertion):
    def validate_jti(self, claims, jti):
        fresh = jti not in SEEN
        SEEN.add(jti)
        return fresh

    def get_audiences(self):
        return [request.base_url]

    def resolve_client_public_key(self, client):
        return client.key


class Validator(BearerTokenValidator):
    def authenticate_token(self, token_string):
        return TOKENS.get(token_string)


class Quiet(WSGIRequestHandler):
    def log(self, *_, **__):
        pass


def register(keys):
    clients = [Client(name, SECRETS["plain"]) for name in ("orders", "short")]
    clients.append(Client("web", SECRETS["plain"], "authorization_code"))
    clients += [Client(f"secret-{name}", secret) for name, secret in SECRETS.items()]
    clients += [Client(f"assert-{name}", key=import_key(keys[name]["jwk"])) for name in ALGORITHMS]
    return {client.client_id: client for client in clients}


def application(clients):
    app = Flask("interop")
    app.config["OAUTH2_SCOPES_SUPPORTED"] = ["read", "write"]
    app.config["OAUTH2_TOKEN_EXPIRES_IN"] = {"client_credentials": 600}
    server = AuthorizationServer(app, query_client=clients.get, save_token=save)
    server.register_grant(Grant)
    # With the library's own list of algorithms.
    server.register_client_auth_method(Assertion.CLIENT_AUTH_METHOD, Assertion())
    protect = ResourceProtector()
    protect.register_token_validator(Validator())

    @app.before_request
    def begin():
        request.noted = entry(request.method, request.path, request.headers.get("Authorization"))
        REQUESTS.append(request.noted)

    @app.after_request
    def end(response):
        complete(request.noted, response.status_code, response.headers.get("WWW-Authenticate"), response.get_data())
        return response

    @app.post("/token")
    def token():
        return server.create_token_response()

    @app.get("/api")
    @protect("read")
    def api():
        return {"client": current_token.client.client_id}

    @app.get("/admin")
    @protect("admin")
    def admin():
        return {}

    @app.post("/revoke")
    def revoke():
        TOKENS[request.form["token"]].revoked = True
        return {}

    return app


def main():
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(sys.argv[1], timeout=30) as keys:
        app = application(register(json.load(keys)))
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=Quiet)
    paths = {"/requests": lambda: REQUESTS, "/events": lambda: EVENTS}
    ready("Authlib", authlib.__version__, f"http://127.0.0.1:{server.server_port}", control(paths))
    server.serve_forever()


if __name__ == "__main__":
    main()
