"""Takes docs/images/tensorboard_*.png: a sweep over the digits in TensorBoard, in a browser.

python scripts/pictures/tensorboard_views.py docs/images
"""

import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from browser import TEXT, browsing, open_page, serving, wait_for, wait_until
from PIL import Image
from playwright.sync_api import Page

SWEEP = [
    "hydra/launcher=lockstep",
    "seed=0,1",
    "optimizer.lr=1e-4,1e-3,1e-2",
    "callbacks=[default,diagnostics]",
]

# The width of the window, what is opened, and what is on the page once it shows the sweep.
VIEWS = {
    # The runs of seed 0, as measured.
    "scalars": (1180, "#custom_scalars&_smoothingWeight=0&regexInput=%5B012%5D%2F", "Matches (9)"),
    "hparams": (1500, "#hparams", "5 0.010000 1"),
}


def main(folder: Path) -> None:
    """Train the sweep, and save a picture of each view."""
    with TemporaryDirectory() as scratch:
        sweep = Path(scratch) / "sweep"
        command = [sys.executable, "-m", "multilayer", "train", "-m", *SWEEP]
        subprocess.run([*command, f"hydra.sweep.dir={sweep}"], check=True)
        with serving(sweep) as address:
            for name, (width, view, words) in VIEWS.items():
                with browsing(width, 580) as page:
                    open_page(page, address + view)
                    wait_for(page, words)
                    wait_until_still(page)
                    save(page, folder / f"tensorboard_{name}.png")


def wait_until_still(page: Page) -> None:
    """Wait until nothing on the page has changed for some three seconds: charts come late."""
    page.evaluate("window.seen = []")
    now = f"({TEXT} + document.querySelectorAll('*').length)"
    wait_until(
        page, f"window.seen.push({now}), window.seen.length > 30 && window.seen.at(-30) === {now}"
    )


def save(page: Page, path: Path) -> None:
    """Save a picture with few colours, which takes a third of the space."""
    page.screenshot(path=path)
    Image.open(path).convert("RGB").quantize(64, dither=Image.Dither.NONE).save(path, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
