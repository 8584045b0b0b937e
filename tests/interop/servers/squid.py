"""squid on loopback, as an egress proxy: one port without credentials, one port with HTTP Basic.

    python squid.py SECRET
"""

import sys

from control import control, directory, free_port, own, page, ready, spawn, version

CONFIG = """
http_port 127.0.0.1:{open}
http_port 127.0.0.1:{closed}
auth_param basic program /bin/sh {place}/check
auth_param basic children 1 startup=1
auth_param basic realm interop
acl known proxy_auth REQUIRED
acl closed localport {closed}
acl tunnel method CONNECT
acl manager_page url_regex -i ^[^:]+://[^/]*/squid-internal-mgr/
acl forbidden dstdomain forbidden.example
http_access allow manager_page
http_access deny !tunnel
http_access deny forbidden
http_access deny closed !known
http_access allow all
dns_timeout 3 seconds
connect_timeout 3 seconds
hosts_file {place}/hosts
cache deny all
access_log stdio:{place}/access.log logformat=squid !manager_page
buffered_logs off
cache_log {place}/cache.log
pid_filename {place}/pid
coredump_dir {place}
pinger_enable off
netdb_filename none
visible_hostname interop
shutdown_lifetime 1 second
workers 1
"""


def main():
    secret = sys.argv[1]
    place = directory()
    ports = {"open": free_port(), "closed": free_port()}
    (place / "squid.conf").write_text(CONFIG.format(place=place, **ports))
    (place / "hosts").write_text("127.0.0.1 localhost interop\n")
    # The protocol of squid's helpers: a line with the user and the percent-encoded password, and OK or ERR for it.
    (place / "check").write_text(
        f"while read -r user password; do [ \"$user $password\" = 'egress {secret}' ] && echo OK || echo ERR; done\n"
    )
    own(place)
    # Instances with the same service name share memory.
    name = f"interop{ports['open']}"
    child = spawn(["squid", "-N", "-n", name, "-f", str(place / "squid.conf")], ports["open"])

    def count():
        log = (place / "access.log").read_text()
        counters = page(ports["open"], "/squid-internal-mgr/counters").splitlines()
        lines = dict(line.split(" = ", 1) for line in counters if " = " in line)
        return {"requests": log.count(" CONNECT "), "tunnels": int(lines["server.other.requests"])}

    found = version(["squid", "-v"], r"Version (\d[\d.]*)")
    base = f"http://127.0.0.1:{ports['open']}"
    ready("squid", found, base, control({"/count": count}), {"closed": f"127.0.0.1:{ports['closed']}"})
    sys.exit(child.wait())


if __name__ == "__main__":
    main()
