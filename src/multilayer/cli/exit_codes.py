"""The exit codes of the command."""

from multilayer.core import interrupts
from multilayer.core.errors import UserError

DONE = 0
RUN_FAILED = 1
BAD_INPUT = 2

MEANINGS = f"""\
  {DONE} done, {RUN_FAILED} the run failed, {BAD_INPUT} the input or the disk is to be mended
  130 after Ctrl-C, 143 after SIGTERM, 129 after SIGHUP
"""


def exit_code_of(error: BaseException) -> int:
    """The exit code of a command that ends with an error or an interrupt.

    >>> exit_code_of(UserError()), exit_code_of(OSError()), exit_code_of(KeyboardInterrupt())
    (2, 1, 130)
    """
    if isinstance(error, KeyboardInterrupt):
        return interrupts.exit_code(error)
    return BAD_INPUT if isinstance(error, UserError) else RUN_FAILED
