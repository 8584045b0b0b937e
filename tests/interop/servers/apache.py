"""Apache on loopback: in front of an issuer, with and without compression, and as an API behind mod_auth_openidc.

    python apache.py ISSUER API-ISSUER AUTHORITY

ISSUER is an http URL. API-ISSUER is the https URL of the issuer for the API, and AUTHORITY its certificate authority.
"""

import pathlib
import sys

from control import SECRETS, control, directory, free_port, own, page, ready, recorded, spawn, version

MODULES = "mpm_event authn_core authz_core authz_user auth_openidc deflate env filter headers proxy proxy_http status"

CONFIG = """
ServerName 127.0.0.1
ServerRoot {place}
PidFile {place}/pid
DefaultRuntimeDir {place}
Mutex file:{place} default
ErrorLog /dev/null
LogLevel crit
{modules}
Listen 127.0.0.1:{port}
KeepAlive On
KeepAliveTimeout 5
MaxKeepAliveRequests 0
StartServers 1
DocumentRoot {place}/pages
ExtendedStatus On
<Location "/server-status">
    SetHandler server-status
</Location>

ProxyPass "/plain/" "{issuer}/"
ProxyPass "/filter/" "{issuer}/"
ProxyPass "/forced/" "{issuer}/"
<Location "/filter/">
    SetOutputFilter DEFLATE
</Location>
<Location "/forced/">
    SetEnv force-gzip 1
    SetOutputFilter DEFLATE
</Location>

OIDCOAuthClientID introspector
OIDCOAuthClientSecret {secret}
OIDCCABundlePath {place}/authority.pem
OIDCOAuthIntrospectionEndpoint {api_issuer}/token/introspection
OIDCOAuthIntrospectionEndpointAuth client_secret_post
OIDCOAuthTokenIntrospectionInterval -1
OIDCOAuthRemoteUserClaim client_id
<Location "/api">
    AuthType oauth20
    Require valid-user
</Location>
<Location "/admin">
    AuthType oauth20
    Require claim scope:admin
</Location>
"""


def main():
    issuer, api_issuer, authority = sys.argv[1:]
    place, port = directory(), free_port()
    modules = "\n".join(f"LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so" for name in MODULES.split())
    settings = {"issuer": issuer, "api_issuer": api_issuer, "secret": SECRETS["plain"]}
    config = CONFIG.format(place=place, port=port, modules=modules, **settings)
    (place / "apache.conf").write_text(config)
    (place / "pages").mkdir()
    for name in ("api", "admin"):
        (place / "pages" / name).write_text("{}")
    (place / "authority.pem").write_text(pathlib.Path(authority).read_text())
    own(place)
    child = spawn(["apache2", "-D", "FOREGROUND", "-f", str(place / "apache.conf")], port)
    base = f"http://127.0.0.1:{port}"
    api, requests = recorded(port)

    def count():
        lines = dict(line.split(": ", 1) for line in page(port, "/server-status?auto").splitlines() if ": " in line)
        return {"requests": int(lines["Total Accesses"])}

    found = version(["apache2", "-v"], r"Apache/(\d[\d.]*)")
    ready("apache", found, base, control({"/count": count, "/requests": lambda: requests}), {"api": api})
    sys.exit(child.wait())


if __name__ == "__main__":
    main()
