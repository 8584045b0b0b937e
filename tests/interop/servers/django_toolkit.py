"""PyPI django-oauth-toolkit on loopback: one settings block, the toolkit's own URLs, and what it counted.

    python django_toolkit.py DIRECTORY

The database is a file in DIRECTORY.
"""

import datetime
import pathlib
import sys

import django
from django.conf import settings

from control import SECRETS, complete, control, entry, ready

SHORT_LIVED = {"short": 2, "renewed": 6}
REQUESTS = []
EVENTS = []


def lifetime(request):
    return SHORT_LIVED.get(request.client_id, 600)


def token(request, refresh_token=False):
    """Opaque, and a JWT for the client that has one."""
    from jwcrypto import jwt
    from oauthlib.common import generate_token

    if request.client_id != "orders-jwt":
        return generate_token()
    now = int(datetime.datetime.now(datetime.timezone.utc).timestamp())
    claims = {"iss": "django", "sub": request.client_id, "iat": now, "exp": now + lifetime(request), "jti": generate_token()}
    signed = jwt.JWT(header={"alg": "ES256", "typ": "at+jwt"}, claims=claims)
    signed.make_signed_token(KEY)
    return signed.serialize()


def recorder(get_response):
    def middleware(request):
        noted = entry(request.method, request.path, request.headers.get("Authorization"))
        REQUESTS.append(noted)
        response = get_response(request)
        complete(noted, response.status_code, response.headers.get("WWW-Authenticate"), response.content)
        return response

    return middleware


settings.configure(
    SECRET_KEY="interop",
    ALLOWED_HOSTS=["127.0.0.1"],
    ROOT_URLCONF=__name__,
    USE_TZ=True,
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "oauth2_provider"],
    # CommonMiddleware adds the trailing slash, as in every project that Django's own command begins.
    MIDDLEWARE=[f"{__name__}.recorder", "django.middleware.common.CommonMiddleware"],
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": pathlib.Path(sys.argv[1]) / "django.sqlite3",
            "OPTIONS": {"timeout": 30},
        }
    },
    # Client secrets are hashed at each token request; the default would make these tests slow.
    PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
    LOGGING_CONFIG=None,
    OAUTH2_PROVIDER={
        "SCOPES": {"read": "read", "write": "write", "introspection": "introspection"},
        "DEFAULT_SCOPES": ["read"],
        "ACCESS_TOKEN_GENERATOR": f"{__name__}.token",
        "EXTRA_SERVER_KWARGS": {"token_expires_in": lifetime},
    },
)
sys.modules.setdefault("django_toolkit", sys.modules[__name__])
django.setup()

import oauth2_provider  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.core.servers.basehttp import ThreadedWSGIServer, WSGIRequestHandler  # noqa: E402
from django.core.wsgi import get_wsgi_application  # noqa: E402
from django.http import JsonResponse  # noqa: E402
from django.urls import include, path  # noqa: E402
from jwcrypto import jwk  # noqa: E402
from oauth2_provider.models import get_application_model  # noqa: E402
from oauth2_provider.signals import app_authorized  # noqa: E402
from oauth2_provider.urls import metadata_urlpatterns  # noqa: E402
from oauth2_provider.views.generic import (  # noqa: E402
    ProtectedResourceMetadataView,
    ProtectedResourceView,
    ScopedProtectedResourceMetadataView,
)

KEY = jwk.JWK.generate(kty="EC", crv="P-256")


class Plain(ProtectedResourceView):
    """The toolkit's view as it is: 403 and no challenge for every bad token."""

    def get(self, request):
        return JsonResponse({})


class WithChallenge(ProtectedResourceMetadataView):
    def get(self, request):
        return JsonResponse({})


class Scoped(ScopedProtectedResourceMetadataView):
    required_scopes = ["write"]

    def get(self, request):
        return JsonResponse({})


urlpatterns = [
    path("", include((metadata_urlpatterns, "oauth2_provider"), namespace="metadata")),
    path("o/", include("oauth2_provider.urls", namespace="oauth2_provider")),
    path("plain/", Plain.as_view()),
    path("challenge/", WithChallenge.as_view()),
    path("scoped/", Scoped.as_view()),
]


def register():
    model = get_application_model()

    def client(client_id, secret=SECRETS["plain"], grant=model.GRANT_CLIENT_CREDENTIALS):
        model.objects.create(
            name=client_id,
            client_id=client_id,
            client_secret=secret,
            authorization_grant_type=grant,
            client_type=model.CLIENT_CONFIDENTIAL,
            redirect_uris="https://client.example/cb",
        )

    for client_id in ("orders", "orders-jwt", "short", "renewed", "introspector"):
        client(client_id)
    client("web", grant=model.GRANT_AUTHORIZATION_CODE)
    for name, secret in SECRETS.items():
        client(f"secret-{name}", secret)


class Quiet(WSGIRequestHandler):
    def log_message(self, *_):
        pass


def main():
    call_command("migrate", verbosity=0)
    register()
    # The toolkit's own count, beside that of the port.
    app_authorized.connect(
        lambda token, **_: EVENTS.append({"event": "success", "client": token.application.client_id}), weak=False
    )
    server = ThreadedWSGIServer(("127.0.0.1", 0), Quiet)
    server.set_app(get_wsgi_application())
    url = f"http://127.0.0.1:{server.server_port}"
    paths = {"/requests": lambda: REQUESTS, "/events": lambda: EVENTS}
    ready("django-oauth-toolkit", oauth2_provider.__version__, url, control(paths))
    server.serve_forever()


if __name__ == "__main__":
    main()
