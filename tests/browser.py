"""A headless Chromium to look at pages with, driven through chromedriver by its own protocol: no package is needed for that."""

import base64
import json
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

OPTIONS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--hide-scrollbars",
)  # fmt: skip
START_S = 60


def missing() -> str:
    """Why there is no browser here, or ""."""
    lacking = [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]
    return f"no {' and no '.join(lacking)} on this machine" if lacking else ""


class Browser:
    """One session. `run` gives a script's value; its arguments are `arguments[0]` and so on."""

    def __init__(self, base: str, options: list[str], timeout_s: float):
        self.base, self.timeout_s = base, timeout_s
        chrome = {"args": options, "binary": shutil.which("chromium")}
        wanted = {"browserName": "chrome", "goog:chromeOptions": chrome, "goog:loggingPrefs": {"browser": "ALL"}}
        made = self.ask("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
        self.session, self.version = f"/session/{made['sessionId']}", made["capabilities"]["browserVersion"]
        milliseconds = int(1000 * timeout_s)
        self.ask("POST", f"{self.session}/timeouts", {"script": milliseconds, "pageLoad": milliseconds})

    def ask(self, kind: str, path: str, content: Any = None) -> Any:
        data = None if content is None else json.dumps(content).encode()
        request = urllib.request.Request(self.base + path, data, {"Content-Type": "application/json"}, method=kind)
        try:
            with urllib.request.urlopen(request, timeout=self.timeout_s + 30) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise RuntimeError(json.load(error)["value"]["message"]) from None

    def open(self, page: Path) -> None:
        self.ask("POST", f"{self.session}/url", {"url": page.resolve().as_uri()})

    def run(self, script: str, *arguments: Any) -> Any:
        return self.ask("POST", f"{self.session}/execute/sync", {"script": script, "args": list(arguments)})

    def wait_for(self, script: str, *arguments: Any) -> Any:
        """What the script hands to the last of its arguments, a function."""
        return self.ask("POST", f"{self.session}/execute/async", {"script": script, "args": list(arguments)})

    def keys(self, text: str) -> None:
        """Press and release each key."""
        presses = [{"type": kind, "value": key} for key in text for kind in ("keyDown", "keyUp")]
        self.ask("POST", f"{self.session}/actions", {"actions": [{"type": "key", "id": "keyboard", "actions": presses}]})

    def size(self, width: int, height: int) -> None:
        """Of the page's own area."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.command("Emulation.setDeviceMetricsOverride", metrics)

    def command(self, name: str, arguments: dict[str, Any]) -> Any:
        return self.ask("POST", f"{self.session}/goog/cdp/execute", {"cmd": name, "params": arguments})

    def messages(self) -> list[str]:
        """Errors and warnings of the page's console since the last call."""
        return [entry["message"] for entry in self.ask("POST", f"{self.session}/se/log", {"type": "browser"})]

    def picture(self, file: Path) -> None:
        file.write_bytes(base64.b64decode(self.ask("GET", f"{self.session}/screenshot")))


@contextmanager
def browser(timeout_s: float = 120, options: tuple[str, ...] = ()) -> Iterator[Browser]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        driver = subprocess.Popen(["chromedriver", f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            made = None
            for _ in range(10 * START_S):
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/status", timeout=START_S).close()
                    break
                except OSError:
                    time.sleep(0.1)
            made = Browser(f"http://127.0.0.1:{port}", [*OPTIONS, f"--user-data-dir={profile}", *options], timeout_s)
            yield made
        finally:
            if made is not None:
                made.ask("DELETE", made.session)
            driver.terminate()
            driver.wait()
