"""Ctrl-C while the program `ntkfast` is starting, which takes some 0.3 s: it ends there as other programs do, without a
traceback.
"""

import os.path
import signal
import sys


def _is_program() -> bool:
    """Whether this process is `ntkfast` or `python -m ntkfast`, rather than one that imports the library."""
    first: str = getattr(sys, "argv", [""])[0]
    if first == "-m":
        return sys.orig_argv[sys.orig_argv.index("-m") + 1 :][:1] == ["ntkfast"]
    return os.path.splitext(os.path.basename(first))[0] == "ntkfast"


_begun = _is_program() and signal.getsignal(signal.SIGINT) is signal.default_int_handler
if _begun:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def end() -> None:
    """From now on Ctrl-C is a KeyboardInterrupt again, which commands report in their own words."""
    if _begun and signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)
