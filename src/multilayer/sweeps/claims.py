"""Claims on jobs: files that one of several workers creates, on any host, without a lock.

A claim is for one attempt of a job and is never removed, so that no worker can take another's place
unseen. It holds its worker's name.
"""

from pathlib import Path

from multilayer.sweeps.journal import create, writing

_PER_FOLDER = 1000
"""Jobs whose claims share a folder."""


class Claims:
    """The claims of a sweep.

    Args:
        folder: Where they are.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, number: int, attempt: int) -> Path:
        """Where the claim on an attempt of a job is."""
        return self.folder / f"{number // _PER_FOLDER:03d}" / f"{number}.{attempt}"

    def take(self, number: int, attempt: int, worker: str) -> bool:
        """Claim an attempt of a job.

        Returns:
            Whether the worker got it: false if another has it.

        Raises:
            UserError: The file cannot be written.
        """
        path, content = self.path(number, attempt), f"{worker}\n".encode()
        with writing(path):
            try:
                return create(path, content)
            except FileNotFoundError:
                path.parent.mkdir(exist_ok=True)
            return create(path, content)

    def is_taken(self, number: int, attempt: int) -> bool:
        """Whether some worker has claimed an attempt."""
        return self.path(number, attempt).exists()

    def owner(self, number: int, attempt: int) -> str | None:
        """The worker that has claimed an attempt; None if it was killed before it had said that."""
        content = self.path(number, attempt).read_text(errors="replace")
        return content[:-1] if content.endswith("\n") else None
