"""What a page keeps in memory while the five views of a huge session change all the time, and what it gets to see.

The script of views that JupyterLab uses, in Debian's Chromium, fed by a real Jupyter server with our extension over a
websocket; only the session is simulated (``_simulated.py``: 1,000,000 tasks on 100,000 nodes). One task in two
thousand ends and as many begin, twice a second. Measured: how much the page's heap has grown (each time after a garbage
collection), frames and bytes per view, for how long at most the page was busy at a stretch, and what comes within five
seconds after a view has left the screen. The limit beside the heap is that of an empty page. The bar is for
``--minutes 10``; ``--check`` ends with an error when it is missed; ``--quick`` is one minute, a tenth of the session.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "tests" / "server"), str(HERE.parent / "tests")]

from playwright.sync_api import Page, sync_playwright  # noqa: E402
from server_kit import TOKEN, Server  # noqa: E402

LIBRARY = HERE.parent / "jupyter_rm" / "notebook" / "static" / "view.js"
VIEWS = ("tasks", "nodes", "queue", "timeline", "usage")
GROWTH_MB, FRAMES, KB = 60.0, 10.0, 1000.0
WORDS = ("--disable-gpu", "--no-first-run", "--disable-dev-shm-usage", "--js-flags=--expose-gc")
MOUNT = """
async ([text, views, base]) => {
  window.longest = 0;
  const note = list => (window.longest = Math.max(window.longest, ...list.getEntries().map(each => each.duration)));
  new PerformanceObserver(note).observe({entryTypes: ['longtask']});
  document.body.replaceChildren();
  const lib = await import(URL.createObjectURL(new Blob([text], {type: 'text/javascript'})));
  window.mounted = {};
  for (const view of views) {
    const place = document.createElement('div');
    place.style.cssText = 'height: 480px; width: 1000px; display: block';
    place.id = view;
    document.body.append(place);
    window.mounted[view] = lib.mountView(place, {view, session: 'big', baseUrl: base, theme: 'light', place: 'full'});
  }
}
"""
HEAP = "() => { gc(); gc(); return performance.memory.usedJSHeapSize / 1e6; }"


class Traffic:
    """Frames of a page's feed: when, of which view, how large."""

    def __init__(self, page: Page) -> None:
        self.frames: list[tuple[float, str, int]] = []
        page.on("websocket", lambda made: made.on("framereceived", self._took))

    def _took(self, data: Any) -> None:
        text = data if isinstance(data, str) else data.decode()
        view = next((view for view in VIEWS if f'"id":"{view}-' in text[:60]), "")
        if view:
            self.frames.append((time.monotonic(), view, len(text)))

    def most(self, view: str) -> tuple[float, float]:
        """Return the most frames and kB of any second."""
        mine = [(at, size) for at, name, size in self.frames if name == view][1:]  # the first is the whole picture
        seconds = [[size for other, size in mine if at <= other < at + 1.0] for at, _ in mine[:2000]]
        return max((len(each) for each in seconds), default=0), max((sum(each) for each in seconds), default=0) / 1000

    def since(self, at: float, view: str) -> int:
        """Return how many frames of a view came after a moment."""
        return sum(name == view and when > at for when, name, _ in self.frames)


def measure(page: Page, server: Server, order: Path, minutes: float) -> dict[str, Any]:
    page.goto(f"http://{server.host}{server.base}api?token={TOKEN}")  # from here on the page has its cookie
    page.goto(f"http://{server.host}{server.base}nothing")  # any page of the server's own
    empty = page.evaluate(HEAP)
    page.set_viewport_size({"width": 1100, "height": 480 * len(VIEWS) + 200})  # all of them are seen
    traffic = Traffic(page)
    page.on("console", lambda said: print(said.text, file=sys.stderr) if said.type == "error" else None)
    page.evaluate(MOUNT, [LIBRARY.read_text(), list(VIEWS), server.base])
    for view in VIEWS:
        page.wait_for_selector(f"#{view} .jrm-live:has-text('live')", timeout=60_000)
    page.wait_for_timeout(8_000)
    order.write_text("often")
    page.wait_for_timeout(10_000)
    first = page.evaluate(HEAP)
    heaps = [first]
    page.evaluate("() => (window.longest = 0)")
    end = time.monotonic() + 60 * minutes
    while time.monotonic() < end:
        page.wait_for_timeout(min(20_000, max(1.0, 1000 * (end - time.monotonic()))))
        heaps.append(page.evaluate(HEAP))
        print(f"  {heaps[-1]:.1f} MB", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    told: dict[str, Any] = {"empty page MB": empty, "at first MB": first, "at last MB": statistics.median(heaps[-3:])}
    told["growth MB"] = told["at last MB"] - first
    told["longest stretch ms"] = page.evaluate("() => window.longest")  # collections for this measurement included
    for view in VIEWS:
        frames, size = traffic.most(view)
        told[f"{view}: frames"] = sum(name == view for _, name, _ in traffic.frames)
        told[f"{view}: most frames/s"], told[f"{view}: most kB/s"] = frames, size
    # The map leaves the screen while everything still changes.
    page.evaluate("() => (document.getElementById('nodes').style.display = 'none')")
    page.wait_for_timeout(1_000)
    hidden = time.monotonic()
    page.wait_for_timeout(4_000)
    told["nodes: frames while hidden"] = traffic.since(hidden, "nodes")
    told["others meanwhile"] = len([1 for at, name, _ in traffic.frames if at > hidden and name != "nodes"])
    return told


def missed(told: dict[str, Any]) -> list[str]:
    """Return the bars that were missed."""
    bars = {"growth MB": GROWTH_MB, "nodes: frames while hidden": 0}
    for view in VIEWS:
        bars |= {f"{view}: most frames/s": FRAMES, f"{view}: most kB/s": KB}
    out = [f"{name} {told[name]:.3g}, bar {bar:g}" for name, bar in bars.items() if told[name] > bar]
    return out + [f"{name} {told[name]}: nothing came" for name in told if name.endswith(": frames") and told[name] < 2]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=2.0, help="the bar is for 10")
    parser.add_argument("--check", action="store_true", help="end with an error when a bar is missed")
    parser.add_argument("--quick", action="store_true", help="one minute, a tenth of the tasks and nodes")
    args = parser.parse_args()
    minutes = 1.0 if args.quick else args.minutes
    tasks, nodes = (100_000, 10_000) if args.quick else (1_000_000, 100_000)
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if not chromium:
        sys.exit("no Chromium: apt-get install chromium, or name one in the variable CHROMIUM")
    with tempfile.TemporaryDirectory() as place, sync_playwright() as playwright:
        notes = Path(place) / "late"
        os.environ |= {"JRM_BENCH_TASKS": str(tasks), "JRM_BENCH_NODES": str(nodes), "JRM_BENCH_NOTES": str(notes)}
        os.environ["PYTHONPATH"] = f"{HERE}:{os.environ.get('PYTHONPATH', '')}"
        server = Server(Path(place), "--JupyterRM.start_broker=False", beside=("_simulated",))
        root = ["--no-sandbox"] if os.geteuid() == 0 else []  # its sandbox needs a user other than root
        browser = playwright.chromium.launch(executable_path=chromium, args=[*WORDS, *root])
        try:
            told = measure(browser.new_page(), server, Path(f"{notes}.order"), minutes)
        finally:
            browser.close()
            server.stop(30)
    print(f"{tasks:,} tasks on {nodes:,} nodes, {minutes:g} minutes of changes, load {os.getloadavg()[0]:.1f}")
    for name, value in told.items():
        print(f"  {name:<28} {value:.4g}")
    wrong = missed(told)
    print("\n".join(f"  MISSED {line}" for line in wrong) or "  all bars are held")
    return 1 if wrong and args.check else 0


if __name__ == "__main__":
    sys.exit(main())
