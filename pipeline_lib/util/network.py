"""Find the network interface through which this machine reaches another one."""

import socket


def interface_towards(endpoint: str) -> str | None:
    """Return the name of the interface that connections to HOST:PORT leave through; None if it is not known."""
    import psutil

    host, _, port = endpoint.rpartition(":")
    try:
        family, kind, *_, address = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind) as probe:
            probe.connect(address)  # of a datagram socket: chooses a route and sends nothing
            own = probe.getsockname()[0]
    except OSError:
        return None
    for name, addresses in psutil.net_if_addrs().items():
        if own in [known.address.partition("%")[0] for known in addresses]:
            return name
    return None
