"""Every mail in Chromium at the widths of a telephone and of a desk, light and dark: pictures to look at, and what can be told without looking.

usage: screenshots.py MAILS PICTURES   MAILS has the .html files that ORRERY_MAILS of `cargo test -p orrery-maily` wrote
"""

import base64
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request

import websocket

WIDTHS = (375, 800)
SCHEMES = ("light", "dark")
# WCAG 2.2, 1.4.3: text and its background.
CONTRAST = 4.5

# What is wrong with the page as it is shown: wider than the screen, text that cannot be read on what is behind it, pictures that are fetched from elsewhere.
LOOK = """(() => {
  const faults = [], luminance = (r, g, b) => {
    const [x, y, z] = [r, g, b].map(c => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const color = text => { const [r, g, b, a = 1] = text.match(/[\\d.]+/g).map(Number); return {r, g, b, a}; };
  const behind = element => {
    for (let e = element; e; e = e.parentElement) {
      const c = color(getComputedStyle(e).backgroundColor);
      if (c.a === 1) return c;
    }
    return matchMedia('(prefers-color-scheme: dark)').matches && getComputedStyle(document.documentElement).colorScheme.includes('dark') ? {r: 18, g: 18, b: 18} : {r: 255, g: 255, b: 255};
  };
  const width = document.documentElement.scrollWidth;
  if (width > innerWidth) faults.push(`it is ${width} px wide on ${innerWidth} px`);
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  let darkest = 1, texts = 0;
  while (walker.nextNode()) {
    const node = walker.currentNode, element = node.parentElement, style = getComputedStyle(element);
    const box = element.getBoundingClientRect();
    if (!node.data.trim() || style.display === 'none' || style.visibility === 'hidden' || !box.width || parseFloat(style.fontSize) < 2 || parseFloat(style.opacity) === 0) continue;
    texts++;
    const [f, b] = [color(style.color), behind(element)], [l, m] = [luminance(f.r, f.g, f.b), luminance(b.r, b.g, b.b)];
    const ratio = (Math.max(l, m) + 0.05) / (Math.min(l, m) + 0.05);
    darkest = Math.min(darkest, m);
    if (ratio < %f) faults.push(`contrast ${ratio.toFixed(1)} of "${node.data.trim().slice(0, 30)}"`);
    if (box.right > innerWidth + 1) faults.push(`"${node.data.trim().slice(0, 30)}" is cut at the right`);
    if (parseFloat(style.fontSize) < 12) faults.push(`"${node.data.trim().slice(0, 30)}" is ${style.fontSize} high`);
  }
  if (!texts) faults.push('there is no text');
  for (const link of document.links) if (!/^(https?|mailto):/.test(link.href)) faults.push(`a link to ${link.href.slice(0, 40)}`);
  const page = behind(document.body);
  return {faults, height: document.documentElement.scrollHeight, page: luminance(page.r, page.g, page.b)};
})()""" % CONTRAST


class Browser:
    """Chromium, spoken to by its own protocol."""

    def __init__(self) -> None:
        self.folder = tempfile.mkdtemp()
        program = shutil.which("chromium") or shutil.which("chromium-browser") or "chromium"
        options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--remote-debugging-port=0", "--remote-allow-origins=*", f"--user-data-dir={self.folder}", "about:blank"]
        self.process = subprocess.Popen([program, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        port, end = pathlib.Path(self.folder) / "DevToolsActivePort", time.monotonic() + 60
        while not (port.exists() and len(port.read_text().splitlines()) == 2):
            assert self.process.poll() is None and time.monotonic() < end, "Chromium does not start"
            time.sleep(0.1)
        pages = json.load(urllib.request.urlopen(f"http://127.0.0.1:{port.read_text().splitlines()[0]}/json"))
        page = next(page for page in pages if page["type"] == "page")
        self.socket = websocket.create_connection(page["webSocketDebuggerUrl"], timeout=60)
        self.turn, self.requests = 0, []
        self.ask("Page.enable")
        self.ask("Network.enable")

    def ask(self, method: str, **parameters: object) -> dict:
        self.turn += 1
        self.socket.send(json.dumps({"id": self.turn, "method": method, "params": parameters}))
        while True:
            said = self.hear()
            if said.get("id") == self.turn:
                assert "error" not in said, f"{method}: {said}"
                return said["result"]

    def hear(self) -> dict:
        said = json.loads(self.socket.recv())
        if said.get("method") == "Network.requestWillBeSent":
            self.requests.append(said["params"]["request"]["url"])
        return said

    def until_loaded(self) -> None:
        while self.hear().get("method") != "Page.loadEventFired":
            pass

    def show(self, file: pathlib.Path, width: int, scheme: str) -> dict:
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=False)
        self.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.requests.clear()
        self.socket.send(json.dumps({"id": 0, "method": "Page.navigate", "params": {"url": file.as_uri()}}))
        self.until_loaded()
        seen = self.ask("Runtime.evaluate", expression=LOOK, returnByValue=True)["result"]["value"]
        seen["faults"] += [f"it fetches {url}" for url in self.requests if not url.startswith(("file:", "data:"))]
        return seen

    def picture(self, width: int, height: int) -> bytes:
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        return base64.b64decode(self.ask("Page.captureScreenshot", format="png")["data"])

    def close(self) -> None:
        self.socket.close()
        self.process.terminate()
        self.process.wait(20)
        shutil.rmtree(self.folder, ignore_errors=True)


def main(mails: pathlib.Path, pictures: pathlib.Path) -> int:
    files = sorted(mails.glob("*.html"))
    assert files, f"no mails in {mails}"
    pictures.mkdir(parents=True, exist_ok=True)
    browser, faults, count = Browser(), [], 0
    try:
        for file in files:
            for width in WIDTHS:
                pages = {}
                for scheme in SCHEMES:
                    seen = browser.show(file, width, scheme)
                    pages[scheme] = seen["page"]
                    name = f"{file.stem}-{width}-{scheme}"
                    faults += [f"{name}: {fault}" for fault in seen["faults"]]
                    (pictures / f"{name}.png").write_bytes(browser.picture(width, max(seen["height"], 200)))
                    count += 1
                if not pages["light"] > 0.5 > pages["dark"]:
                    faults.append(f"{file.stem}-{width}: the page is not light in the light and dark in the dark: {pages}")
    finally:
        browser.close()
    print(f"{count} pictures of {len(files)} mails in {pictures}; {len(faults)} faults")
    for fault in faults[:40]:
        print(f"  {fault}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(sys.argv[2]).resolve()))
