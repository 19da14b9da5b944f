"""The processes and ports of a test: its descendants, and a port that is free."""

import socket
from pathlib import Path


def descendants(ancestor: int) -> dict[int, str]:
    """Process id to command line of all that descend from a process."""
    parents, titles = {}, {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                stat = (folder / "stat").read_text()
                title = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:  # it ended
                continue
            parents[int(folder.name)] = int(stat.rpartition(")")[2].split()[1])
            titles[int(folder.name)] = title
    found = {ancestor}
    while True:
        more = {child for child, parent in parents.items() if parent in found} - found
        if not more:
            return {process: titles[process] for process in found - {ancestor}}
        found |= more


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
