"""haproxy on loopback: in front of an issuer, with a keep-alive of one second, and with a fault in TLS on each port.

    python haproxy.py DIRECTORY ISSUER

DIRECTORY has the certificates. ISSUER is an http URL.
"""

import csv
import pathlib
import sys

from control import control, directory, free_port, own, page, ready, spawn, version

OLD = "ssl-min-ver TLSv1.0 ssl-max-ver TLSv1.1"
# The certificate of each port, and its other settings.
TLS = {
    "good": ("server", ""),
    "client": ("server", "ca-file {authority} verify required"),
    "client-1.2": ("server", "ca-file {authority} verify required ssl-max-ver TLSv1.2"),
    "untrusted": ("untrusted", ""),
    "expired": ("expired", ""),
    "not-yet": ("not-yet", ""),
    "wrong-name": ("wrong-name", ""),
    "old": ("server", f"ciphers DEFAULT:@SECLEVEL=0 {OLD}"),
    "cipher": ("server", "ciphers ECDHE-ECDSA-AES128-SHA ssl-max-ver TLSv1.2"),
}

CONFIG = """
global
    maxconn 400
    nbthread 1
defaults
    mode http
    timeout connect 5s
    timeout client 30s
    timeout server 30s
    timeout http-keep-alive 1s
listen count
    bind 127.0.0.1:{count}
    stats enable
    stats uri /
frontend plain
    bind 127.0.0.1:{plain}
    default_backend issuer
frontend down
    bind 127.0.0.1:{down}
    default_backend down
backend issuer
    server issuer {issuer}
backend down
    retries 0
    server down 127.0.0.1:1
"""


def main():
    certificates, issuer = pathlib.Path(sys.argv[1]), sys.argv[2]
    place = directory()
    ports = {name: free_port() for name in ("count", "plain", "down", *TLS)}
    config = CONFIG.format(issuer=issuer.removeprefix("http://"), **ports)
    authority = place / "authority.pem"
    authority.write_text((certificates / "authority.pem").read_text())
    for name, (certificate, settings) in TLS.items():
        pem = place / f"{certificate}.pem"
        parts = [(certificates / f"{certificate}.{kind}").read_text() for kind in ("pem", "key")]
        pem.write_text("".join(parts))
        config += f"frontend {name}\n    bind 127.0.0.1:{ports[name]} ssl crt {pem} {settings.format(authority=authority)}\n"
        config += "    default_backend issuer\n"
    (place / "haproxy.cfg").write_text(config)
    own(place)
    child = spawn(["haproxy", "-db", "-f", str(place / "haproxy.cfg")], ports["plain"])

    def count():
        """Its own count of requests, without those for the count."""
        rows = csv.DictReader(page(ports["count"], "/;csv").removeprefix("# ").splitlines())
        fronts = [row for row in rows if row["svname"] == "FRONTEND" and row["pxname"] != "count"]
        return {
            "requests": sum(int(row["req_tot"]) for row in fronts),
            "connections": sum(int(row["stot"]) for row in fronts),
        }

    places = {name: f"https://localhost:{ports[name]}" for name in TLS}
    places["down"] = f"http://127.0.0.1:{ports['down']}"
    found = version(["haproxy", "-v"], r"version (\d[\d.]*)")
    ready("haproxy", found, f"http://127.0.0.1:{ports['plain']}", control({"/count": count}), places)
    sys.exit(child.wait())


if __name__ == "__main__":
    main()
