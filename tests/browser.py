"""A headless Chromium for the tests of the built pages, spoken to over the DevTools protocol."""

import base64
import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

EXECUTABLE = shutil.which("chromium")
FLAGS = (
    "--headless",
    "--no-sandbox",  # the sandbox refuses to start as root and in most containers; the pages are our own
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--log-level=3",
    "--host-resolver-rules=MAP * ~NOTFOUND",  # the network is off: no name resolves
    "--remote-debugging-port=0",
)
ANSWER_TIMEOUT = 60  # seconds
PHONE = 600  # CSS pixels; a narrower window behaves as a phone's


@contextmanager
def chromium() -> Iterator["Browser"]:
    """A running Chromium with an empty profile and no network."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [EXECUTABLE, *FLAGS, f"--user-data-dir={profile}"]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
            try:
                with connect(_address(process), max_size=None, proxy=None) as socket:
                    yield Browser(socket)
            finally:
                process.terminate()


def _address(process: subprocess.Popen) -> str:
    for line in process.stderr:
        if line.startswith("DevTools listening on "):
            return line.split()[-1]
    raise RuntimeError(f"{EXECUTABLE} ended with exit code {process.wait()} before it could be used")


class Browser:
    """A Chromium that shows one page at a time; ``open`` closes the page before."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._page: Page | None = None
        self._calls = 0

    def open(self, url: str, *, width: int = 1400, height: int = 1000, theme: str = "light") -> "Page":
        """Load a page and wait until its mathematics is typeset and its fonts are there.

        Args:
            url: the address.
            width: width of the window, in CSS pixels.
            height: height of the window, in CSS pixels.
            theme: what the reader's system prefers, "light" or "dark".
        """
        if self._page:
            self.call("Target.closeTarget", targetId=self._page.target)
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self._page = Page(self, target, session)
        self._page.load(url, width, height, theme)
        return self._page

    def call(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        """Send a command, to the browser or to the page of a session, and wait for its result."""
        self._calls += 1
        command = {"id": self._calls, "method": method, "params": parameters}
        self._socket.send(json.dumps(command | ({"sessionId": session} if session else {})))
        while (answer := self.receive()).get("id") != self._calls:
            pass
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']['message']}")
        return answer["result"]

    def receive(self) -> dict[str, Any]:
        """Wait for the next message, an answer or an event; the page takes note of its own events."""
        message = json.loads(self._socket.recv(timeout=ANSWER_TIMEOUT))
        if self._page and message.get("sessionId") == self._page.session and "method" in message:
            self._page.note(message["method"], message["params"])
        return message


class Page:
    """A loaded page, with every address it asked for and everything that went wrong."""

    def __init__(self, browser: Browser, target: str, session: str) -> None:
        self.target, self.session = target, session
        self.requests: list[str] = []
        self.problems: list[str] = []
        self._browser = browser

    def load(self, url: str, width: int, height: int, theme: str) -> None:
        """Navigate to ``url`` and wait; `Browser.open` is the way in."""
        for domain in ("Page", "Network", "Log", "Runtime"):
            self.call(f"{domain}.enable")
        window = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < PHONE}
        self.call("Emulation.setDeviceMetricsOverride", **window)
        preference = {"name": "prefers-color-scheme", "value": theme}
        self.call("Emulation.setEmulatedMedia", features=[preference])
        self.call("Page.navigate", url=url)
        while self._browser.receive().get("method") != "Page.loadEventFired":
            pass
        self.evaluate("Promise.all([window.MathJax?.startup.promise, document.fonts.ready])")
        self.evaluate("Promise.allSettled(document.getAnimations().map(animation => animation.finished))")

    def note(self, method: str, event: dict[str, Any]) -> None:
        """Keep what an event says about a request or about something that went wrong."""
        match method:
            case "Network.requestWillBeSent":
                self.requests.append(event["request"]["url"])
            case "Network.loadingFailed":
                self.problems.append(f"request failed: {event['errorText']}")
            case "Log.entryAdded" if event["entry"]["level"] in ("warning", "error"):
                self.problems.append(f"{event['entry']['text']} {event['entry'].get('url', '')}")
            case "Runtime.consoleAPICalled" if event["type"] in ("warning", "error", "assert"):
                self.problems.append(f"console: {[part.get('value') for part in event['args']]}")
            case "Runtime.exceptionThrown":
                self.problems.append(f"exception: {event['exceptionDetails']['text']}")

    def evaluate(self, script: str) -> Any:
        """Run JavaScript in the page and give its value; a promise is waited for."""
        answer = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(f"{script}: {answer['exceptionDetails']['exception']['description']}")
        return answer["result"].get("value")

    def screenshot(self, path: str | Path) -> None:
        """Save what the window shows as a PNG."""
        Path(path).write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a DevTools command to this page."""
        return self._browser.call(method, self.session, **parameters)
