"""A web server of files on this machine, and a page that asks the JavaScript package."""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Iterator, Mapping
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

PAGE = """<!doctype html><meta charset="utf-8"><title>asks</title><link rel="icon" href="data:,">
<script type="importmap">
{"imports": {"onnxruntime-web/wasm": "/package/node_modules/onnxruntime-web/dist/ort.wasm.min.mjs"}}
</script>
<script type="module">
import { load } from "/package/src/index.js";
const models = {};
window.ask = async (model, options, pairs, threads) => {
  models[model] ??= await load(`/${model}/`, { threads });
  const found = [];
  for (const [question, text] of pairs) {
    try {
      found.push(await models[model].ask(question, text, options));
    } catch (error) {
      found.push({ error: error.name, message: error.message });
    }
  }
  return found;
};
window.askTimed = async (model, options, pairs, threads) => {
  models[model] ??= await load(`/${model}/`, { threads });
  const found = [];
  for (const pair of pairs) {
    const begin = performance.now();
    const answer = await models[model].ask(...pair, options);
    found.push({ ...answer, milliseconds: performance.now() - begin });
  }
  return found;
};
window.firstAnswer = async (model) => {
  const qa = await load(`/${model}/`, { threads: 1 });
  const opened = performance.now();
  await qa.ask("Where is the tower?", "The tower stands in Paris.");
  return [opened, performance.now()]; // since the page was asked for
};
window.loadOnly = async (address) => load(address).then(() => "loaded", (error) => `${error.name}: ${error.message}`);
window.ready = true;
</script>
"""
ISOLATED = {"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp"}


class _Handler(SimpleHTTPRequestHandler):
    def __init__(self, *args: Any, roots: Mapping[str, Path], headers: Mapping[str, str], **named: Any) -> None:
        self.roots, self.added = roots, headers
        super().__init__(*args, **named)

    def translate_path(self, path: str) -> str:
        name, _, rest = path.split("?")[0].lstrip("/").partition("/")
        return str(self.roots.get(name, Path("/nowhere")) / rest)

    def do_GET(self) -> None:
        if self.path != "/":
            super().do_GET()
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.end_headers()
        self.wfile.write(PAGE.encode())

    def end_headers(self) -> None:
        for name, value in self.added.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, *args: Any) -> None:
        pass


@contextlib.contextmanager
def serving(roots: Mapping[str, Path], *, isolated: bool = True) -> Iterator[str]:
    """Serve folders by name, and at `/` the page that asks.

    Args:
        roots: The folders.
        isolated: Whether pages may use threads.

    Yields:
        The address.
    """
    handler = functools.partial(_Handler, roots=roots, headers=ISOLATED if isolated else {})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(30)
