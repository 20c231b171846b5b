"""Look at the built site in a browser: does every page fit, is it readable in light and dark, and is nothing wrong on it?

python tools/check_site.py site [--browser chromium]

A page of frames is served beside the site, each as wide as a screen; a script in it measures what is inside: tables that are
cut off, text too faint against what is behind it, pictures that are missing, maths that is not rendered, anything fetched from
elsewhere, what the browser's console says, and whether searching finds something. Dead links fail the build itself.
"""

from __future__ import annotations

import argparse
import functools
import http.server
import json
import queue
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

WIDTHS = (1300, 390)
FOUND: queue.Queue[list[str]] = queue.Queue()
CHECK = """<!doctype html><body><script>
const tell = (found) => fetch("/found", { method: "POST", body: JSON.stringify(found) });
const load = (path, width) => new Promise((done) => {
  const frame = document.createElement("iframe");
  frame.style = `width: ${width}px; height: 900px; border: 0`;
  frame.src = path;
  frame.onload = () => setTimeout(() => done(frame), 300);
  document.body.append(frame);
});
const rgb = (colour) => (colour.match(/[\\d.]+/g) || [0, 0, 0, 0]).map(Number);
const light = ([r, g, b]) => {
  const part = (x) => ((x /= 255) <= 0.03928 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4);
  return 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
};
const behind = (view, each) => {
  for (; each; each = each.parentElement) {
    const colour = rgb(view.getComputedStyle(each).backgroundColor);
    if (colour.length < 4 || colour[3] === 1) return colour;
  }
  return [255, 255, 255];
};
const faint = (view, page) => {
  const wrong = [];
  const own = (each) => [...each.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
  for (const scheme of ["default", "slate"]) {
    page.body.setAttribute("data-md-color-scheme", scheme);
    for (const each of page.querySelectorAll("article :is(h1, h2, h3, p, li, th, td, pre code)")) {
      if (!own(each) || !each.getClientRects().length) continue;
      const [a, b] = [rgb(view.getComputedStyle(each).color), behind(view, each)].map(light);
      const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
      if (contrast < 3) wrong.push(`faint in ${scheme}, ${contrast.toFixed(1)}: ${each.innerText.trim().slice(0, 40)}`);
    }
  }
  return wrong;
};
const look = async (path, width) => {
  const frame = await load(path, width), view = frame.contentWindow, page = view.document;
  page.querySelectorAll("details").forEach((each) => (each.open = true));
  const wrong = [];
  for (const each of page.querySelectorAll(".md-content table")) {
    const room = each.closest(".md-content__inner").getBoundingClientRect().right + 1;
    const box = each.parentElement;
    if (each.getBoundingClientRect().right > room || box.scrollWidth > box.clientWidth + 1)
      wrong.push(`cut off: ${each.innerText.trim().slice(0, 60)}`);
  }
  if (page.documentElement.scrollWidth > width) wrong.push("the page scrolls sideways");
  for (const each of view.performance.getEntriesByType("resource"))
    if (!each.name.startsWith(location.origin)) wrong.push(`fetched: ${each.name}`);
  for (const each of page.querySelectorAll(".arithmatex"))
    if (!each.querySelector(".katex") || each.querySelector(".katex-error")) wrong.push(`maths: ${each.textContent}`);
  for (const each of page.images) if (each.complete && !each.naturalWidth) wrong.push(`picture: ${each.src}`);
  wrong.push(...faint(view, page));
  frame.remove();
  return wrong.map((each) => `${path} at ${width}: ${each}`);
};
const search = async (word) => {
  const frame = await load("./", 1300), page = frame.contentDocument, field = page.querySelector(".md-search__input");
  field.focus();
  field.value = word;
  for (let tries = 0; tries < 50; tries++) {
    field.dispatchEvent(new KeyboardEvent("keyup", { bubbles: true }));
    await new Promise((done) => setTimeout(done, 200));
    if (page.querySelectorAll(".md-search-result__item").length) return [];
  }
  return [`searching for "${word}" finds nothing`];
};
(async () => {
  const found = [];
  for (let first = 0; first < PATHS.length; first += 4) {
    const some = PATHS.slice(first, first + 4).flatMap((path) => WIDTHS.map((width) => look(path, width)));
    found.push(...(await Promise.all(some)).flat());
  }
  found.push(...(await search("crosstalk")));
  tell(found);
})().catch((error) => tell([String(error)]));
</script>"""


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("site", type=Path)
    parser.add_argument("--browser", default="chromium")
    args = parser.parse_args(argv)
    paths = sorted(f"{p.parent.relative_to(args.site)}/" for p in args.site.rglob("index.html"))
    page = CHECK.replace("PATHS", json.dumps(paths)).replace("WIDTHS", str([*WIDTHS]))
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Handler, page, directory=str(args.site))
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    found = look(args.browser, f"http://127.0.0.1:{server.server_port}/check.html")
    server.shutdown()
    server.server_close()
    print("\n".join(found) or f"{len(paths)} pages fit at {' and '.join(map(str, WIDTHS))} pixels")
    return bool(found)


def look(browser: str, url: str) -> list[str]:
    """Return what is wrong: what the page found, and what the browser logged."""
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--remote-debugging-port=0"]
    rules = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
    with tempfile.TemporaryFile("w+") as log:
        running = subprocess.Popen([browser, *flags, rules, url], stdout=log, stderr=log)
        try:
            found = FOUND.get(timeout=300)
        except queue.Empty:
            found = ["the check did not end"]
        running.terminate()
        running.wait()
        log.seek(0)
        return [*found, *(line.strip() for line in log if ":CONSOLE" in line)]


class Handler(http.server.SimpleHTTPRequestHandler):
    """The site, the page that looks at it, and the place where that page reports."""

    def __init__(self, page: str, *args: Any, **kwargs: Any) -> None:
        self.page = page
        super().__init__(*args, **kwargs)

    def do_POST(self) -> None:
        FOUND.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(204)
        self.end_headers()

    def do_GET(self) -> None:
        if self.path != "/check.html":
            return super().do_GET()
        body = self.page.encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


if __name__ == "__main__":
    sys.exit(main())
