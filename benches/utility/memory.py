"""Memory of a process and its children while it runs (Linux), and the largest in each step of a run.

Proportional set sizes: a page that several workers share counts once.
"""

import json
import os
import pathlib
import threading
import time

EVERY_S = 0.5


def tree(root):
    """The process and all that it started, the started ones' included."""
    found, new = [], [root]
    while new:
        found += new
        new = [int(child) for pid in new for task in pathlib.Path(f"/proc/{pid}/task").glob("*/children") for child in read(task).split()]
    return found


def read(path):
    try:
        return path.read_text()
    except OSError:  # it has ended
        return ""


def mib(pid):
    of = pathlib.Path(f"/proc/{pid}")
    for line in read(of / "smaps_rollup").splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    # Jailed workers keep that from other users: their resident pages, shared ones in full.
    pages = read(of / "statm").split()
    return int(pages[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20 if pages else 0


class Watch(threading.Thread):
    """Samples of (milliseconds since the start, MiB) of a process that has just been started."""

    def __init__(self, process):
        super().__init__(daemon=True)
        self.process, self.began, self.samples = process, time.time(), []
        self.start()

    def run(self):
        while self.process.poll() is None:
            try:
                total = sum(mib(pid) for pid in tree(self.process.pid))
            except OSError:  # one of them has just ended
                continue
            self.samples.append((1e3 * (time.time() - self.began), total))
            time.sleep(EVERY_S)

    def by_step(self, events):
        """Largest sample in MiB while each step ran, by the run's event log."""
        begun, peaks = {}, {}
        for line in events.read_text().splitlines():
            event = json.loads(line)
            if event["event"] == "step-started":
                begun[event["step"]] = event["at_ms"]
            if event["event"] == "step-finished":
                span = begun[event["step"]], event["at_ms"]
                peaks[event["step"]] = round(max((size for at, size in self.samples if span[0] <= at <= span[1]), default=0)) or None
        return peaks
