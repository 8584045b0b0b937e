"""tinyproxy on loopback, as an egress proxy: one without credentials, one with HTTP Basic.

    python tinyproxy.py SECRET
"""

import re
import sys

from control import control, directory, free_port, own, ready, spawn, version

CONFIG = """
Port {port}
Listen 127.0.0.1
Timeout 30
LogFile "{place}/{name}.log"
LogLevel Connect
MaxClients 50
Filter "{place}/filter"
FilterExtended On
"""


def main():
    secret = sys.argv[1]
    place = directory()
    (place / "filter").write_text("^forbidden\\.example$\n")
    ports = {"open": free_port(), "closed": free_port()}
    for name, port in ports.items():
        text = CONFIG.format(place=place, name=name, port=port)
        (place / f"{name}.conf").write_text(text + (f"BasicAuth egress {secret}\n" if name == "closed" else ""))
    own(place)
    children = [spawn(["tinyproxy", "-d", "-c", str(place / f"{name}.conf")], port) for name, port in ports.items()]

    def count():
        """Both instances together: the requests in their logs."""
        logs = [(place / f"{name}.log").read_text() for name in ports]
        text = "".join(logs)
        tunnels = text.count("Established connection to host")
        return {"requests": len(re.findall(r"Request \(file descriptor \d+\)", text)), "tunnels": tunnels}

    found = version(["tinyproxy", "-v"], r"tinyproxy (\d[\d.]*)")
    base = f"http://127.0.0.1:{ports['open']}"
    ready("tinyproxy", found, base, control({"/count": count}), {"closed": f"127.0.0.1:{ports['closed']}"})
    sys.exit(children[0].wait())


if __name__ == "__main__":
    main()
