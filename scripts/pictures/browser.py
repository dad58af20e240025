"""TensorBoard in a real browser: headless Chromium, driven by Playwright."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic, sleep
from typing import Any

from playwright.sync_api import Page, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

TIMEOUT_MS = 60_000

# The text on the page, including what is inside of TensorBoard's nested web components.
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
    """The system's Chromium or Chrome; None if there is none."""
    return next(filter(None, map(shutil.which, NAMES)), None)


@contextmanager
def browsing(width: int = 1280, height: int = 900) -> Iterator[Page]:
    """A page in a window of so many pixels."""
    program = find_chromium()
    if program is None:
        raise FileNotFoundError(f"none of {', '.join(NAMES)} is installed")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        try:
            size = {"width": width, "height": height}
            yield browser.new_page(viewport=size, bypass_csp=True)  # scripts look into the page
        finally:
            browser.close()


def open_page(page: Page, url: str) -> None:
    """Go to a page, from an empty one: another view of the same page would not load again."""
    page.goto("about:blank")
    page.goto(url)


def wait_until(page: Page, script: str) -> Any:
    """The value of a script in the page, once it is true; raises `TimeoutError`."""
    return page.wait_for_function(script, timeout=TIMEOUT_MS, polling=100).json_value()


def wait_for(page: Page, *words: str) -> str:
    """The text of the page, once all the words are on it; raises `TimeoutError`."""
    script = f"(text => {json.dumps(words)}.every(word => text.includes(word)) && text)({TEXT})"
    return str(wait_until(page, script))


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
