"""TensorBoard in a real browser: headless Chromium, driven over a pair of pipes.

Chromium speaks the DevTools protocol (https://chromedevtools.github.io/devtools-protocol) over its
files 3 and 4: JSON messages with a zero byte after each. No port is opened, no package is needed.
"""

import base64
import json
import os
import re
import select
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from fcntl import F_DUPFD, fcntl
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic, sleep
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = [
    "--headless=new",
    "--remote-debugging-pipe",
    "--no-sandbox",
    "--no-first-run",
    "--hide-scrollbars",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

# What is on the page, as text. TensorBoard nests web components, whose inside no other way shows.
TEXT = """(() => {
  const found = [];
  const walk = (node) => {
    if (node.nodeType === Node.TEXT_NODE) found.push(node.textContent.trim());
    if (["STYLE", "SCRIPT", "TEMPLATE"].includes(node.nodeName)) return;
    if (node.shadowRoot) walk(node.shadowRoot);
    node.childNodes.forEach(walk);
  };
  if (document.body) walk(document.body);
  return found.filter(Boolean).join(" ");
})()"""


def find_chromium() -> str | None:
    """The program, or None where there is none."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """A browser with one page; to be used in a `with`.

    width, height: of the window, in pixels.
    """

    def __init__(self, width: int = 1280, height: int = 900) -> None:
        program = find_chromium()
        if program is None:
            raise FileNotFoundError(f"none of {', '.join(NAMES)} is installed")
        self.profile = TemporaryDirectory(ignore_cleanup_errors=True)
        command = [program, *FLAGS, f"--window-size={width},{height}"]
        command += [f"--user-data-dir={self.profile.name}", "about:blank"]
        its_input, self.output = os.pipe()
        self.input, its_output = os.pipe()

        def connect() -> None:
            # First out of the way of each other: any of them may be 3 or 4.
            ends = [fcntl(end, F_DUPFD, 10) for end in (its_input, its_output)]
            for end, number in zip(ends, (3, 4), strict=True):
                os.dup2(end, number)

        self.process = subprocess.Popen(
            command,
            preexec_fn=connect,  # noqa: PLW1509 - it takes no lock
            close_fds=False,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(its_input)
        os.close(its_output)
        self.received = b""
        self.n_sent = 0
        self.session: str | None = None
        pages = self.send("Target.getTargets")["targetInfos"]
        page = next(each["targetId"] for each in pages if each["type"] == "page")
        self.session = self.send("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]

    def __enter__(self) -> "Browser":
        return self

    def __exit__(self, *error: object) -> None:
        self.session = None
        try:
            self.send("Browser.close")
            self.process.wait(timeout=10)
        except (OSError, TimeoutError, subprocess.TimeoutExpired):
            self.process.kill()
            self.process.wait()
        os.close(self.input)
        os.close(self.output)
        self.profile.cleanup()

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a command and wait for its answer; raises `RuntimeError` for an error."""
        self.n_sent += 1
        message: dict[str, Any] = {"id": self.n_sent, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.output, json.dumps(message).encode() + b"\0")
        while True:
            answer = self.receive()
            if answer.get("id") == self.n_sent:  # the others are events
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                result: dict[str, Any] = answer["result"]
                return result

    def receive(self, seconds: float = 60.0) -> dict[str, Any]:
        """The next message."""
        while b"\0" not in self.received:
            ready, _, _ = select.select([self.input], [], [], seconds)
            part = os.read(self.input, 2**16) if ready else None
            if part is None:
                raise TimeoutError(f"the browser has not answered for {seconds:g} seconds")
            if not part:
                raise OSError("the browser has ended")
            self.received += part
        message, _, self.received = self.received.partition(b"\0")
        answer: dict[str, Any] = json.loads(message)
        return answer

    def open(self, url: str) -> None:
        """Go to a page, from an empty one: another part of the same page would not load anew."""
        self.send("Page.navigate", url="about:blank")
        self.send("Page.navigate", url=url)

    def evaluate(self, script: str) -> Any:
        """The value of a script in the page."""
        result = self.send("Runtime.evaluate", expression=script, returnByValue=True)
        if "exceptionDetails" in result:
            raise RuntimeError(result["exceptionDetails"]["exception"]["description"])
        return result["result"].get("value")

    def wait_for(self, *words: str, seconds: float = 60.0) -> str:
        """The text of the page, once all the words are on it; raises `TimeoutError`."""
        text = self.wait_until(
            f"(text => {json.dumps(words)}.every(word => text.includes(word)) && text)({TEXT})",
            seconds,
        )
        return str(text)

    def wait_until(self, script: str, seconds: float = 60.0) -> Any:
        """The value of a script in the page, once it is true; raises `TimeoutError`."""
        end = monotonic() + seconds
        while monotonic() < end:
            value = self.evaluate(script)
            if value:
                return value
            sleep(0.1)
        raise TimeoutError(
            f"not within {seconds:g} s: {script}\n\non the page:\n{self.evaluate(TEXT)}"
        )

    def save_screenshot(self, path: Path) -> None:
        """Save what the window shows as a PNG."""
        data = self.send("Page.captureScreenshot", format="png")["data"]
        path.write_bytes(base64.b64decode(data))


@contextmanager
def serving(folder: Path, *, seconds: float = 60.0) -> Iterator[str]:
    """The address of a TensorBoard that shows a folder, to this machine alone."""
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", folder.name]
    command += ["--host", "127.0.0.1", "--port", "0"]
    with TemporaryDirectory() as logs:
        log = Path(logs) / "log"
        with log.open("wb") as file:
            process = subprocess.Popen(
                command, cwd=folder.parent, stdout=file, stderr=subprocess.STDOUT
            )
        try:
            yield address_in(log, process, monotonic() + seconds)
        finally:
            process.terminate()
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def address_in(log: Path, process: "subprocess.Popen[bytes]", end: float) -> str:
    """The address, which TensorBoard prints once it serves."""
    while monotonic() < end and process.poll() is None:
        found = re.search(r"http://127\.0\.0\.1:\d+/", log.read_text())
        if found:
            return found.group()
        sleep(0.1)
    raise RuntimeError(f"TensorBoard does not serve:\n{log.read_text()}")
