"""Ctrl-C while the program `ntkfast` is starting, which takes some 0.3 s: it ends there as other programs do, without a
traceback.
"""

import os.path
import re
import signal
import sys


def _is_program() -> bool:
    """Whether this process is `ntkfast` or `python -m ntkfast`, rather than one that imports the library."""
    argv: list[str] = getattr(sys, "argv", None) or [""]
    if argv[0] == "-m":  # the module is before its arguments: -m ntkfast, -mntkfast, -Im ntkfast
        return re.fullmatch(r"(-[a-zA-Z]*m)?ntkfast", sys.orig_argv[-len(argv)]) is not None
    return os.path.splitext(os.path.basename(argv[0]))[0] == "ntkfast"


_begun = _is_program() and signal.getsignal(signal.SIGINT) is signal.default_int_handler
if _begun:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def end() -> None:
    """From now on Ctrl-C is a KeyboardInterrupt again, which commands report in their own words."""
    if _begun and signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)
