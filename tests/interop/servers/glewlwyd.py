"""glewlwyd on loopback: its OpenID Connect plugin, set up through its own administration API.

    python glewlwyd.py
"""

import http.client
import json
import sqlite3
import sys

from control import SECRETS, control, directory, free_port, own, page, ready, recorded, spawn, version

# The scheme of the Debian package.
SCHEME = "/usr/share/dbconfig-common/data/glewlwyd/install/sqlite3"

CONFIG = """
port={port}
bind_address="127.0.0.1"
external_url="{url}"
api_prefix="api"
log_mode="file"
log_level="ERROR"
log_file="{place}/log"
session_key="SESSION"
admin_scope="g_admin"
profile_scope="g_profile"
user_module_path="/usr/lib/glewlwyd/user"
client_module_path="/usr/lib/glewlwyd/client"
user_auth_scheme_module_path="/usr/lib/glewlwyd/scheme"
plugin_module_path="/usr/lib/glewlwyd/plugin"
hash_algorithm="SHA512"
metrics_endpoint=true
metrics_endpoint_port={metrics}
metrics_endpoint_admin_session=false
database = {{ type="sqlite3" path="{place}/database" }}
"""

PLUGIN = {
    "module": "oidc",
    "name": "oidc",
    "display_name": "interop",
    "parameters": {
        "jwt-type": "sha",
        "jwt-key-size": "256",
        "key": "interop interop interop interop interop",
        "access-token-duration": 600,
        "refresh-token-duration": 600,
        "code-duration": 60,
        "allow-non-oidc": True,
        "auth-type-client-enabled": True,
        "auth-type-code-enabled": False,
        "auth-type-token-enabled": False,
        "auth-type-none-enabled": False,
        "auth-type-password-enabled": False,
        "auth-type-refresh-enabled": False,
        "introspection-revocation-allowed": True,
        "introspection-revocation-allow-target-client": True,
        "introspection-revocation-auth-scope": [],
    },
}


def register(port, url):
    """Adds the plugin, a scope and the clients, as the administrator of a new database."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    session = {}

    def post(path, body):
        connection.request("POST", f"/api/{path}", json.dumps(body), {"Content-Type": "application/json", **session})
        response = connection.getresponse()
        said = response.read().decode()
        if response.status != 200:
            sys.exit(f"glewlwyd: {path}: {response.status} {said}")
        return response

    login = post("auth/", {"username": "admin", "password": "password"})
    session["Cookie"] = login.headers["Set-Cookie"].partition(";")[0]
    PLUGIN["parameters"]["iss"] = f"{url}/api/oidc"
    post("mod/plugin/", PLUGIN)
    post("scope/", {"name": "read", "display_name": "read", "password_required": False})

    def client(client_id, secret=SECRETS["plain"], grant="client_credentials"):
        settings = {
            "client_id": client_id,
            "password": secret,
            "confidential": True,
            "authorization_type": [grant],
            "token_endpoint_auth_method": ["client_secret_basic", "client_secret_post"],
            "scope": ["read"],
        }
        post("client/", settings)

    for client_id in ("orders", "introspector"):
        client(client_id)
    client("web", grant="code")
    for name, secret in SECRETS.items():
        client(f"secret-{name}", secret)
    connection.close()


def main():
    place = directory()
    port, metrics = free_port(), free_port()
    url, requests = recorded(port)
    (place / "glewlwyd.conf").write_text(CONFIG.format(place=place, port=port, metrics=metrics, url=url))
    database = sqlite3.connect(place / "database")
    with open(SCHEME, encoding="utf-8") as scheme:
        database.executescript(scheme.read())
    database.close()
    own(place)
    child = spawn(["glewlwyd", f"--config-file={place}/glewlwyd.conf"], port)
    register(port, url)

    def issued():
        lines = page(metrics, "/").splitlines()
        return sum(int(line.split()[-1]) for line in lines if line.startswith("glewlwyd_oidc_client_token_total{"))

    paths = {"/requests": lambda: requests, "/events": lambda: [{"event": "success"}] * issued()}
    ready("glewlwyd", version(["glewlwyd", "--version"], r"(\d+\.\d[\d.]*)"), url, control(paths))
    sys.exit(child.wait())


if __name__ == "__main__":
    main()
