"""Say in one line what this Python or machine lacks to build the book, before anything is tried."""

import platform
import sys
from importlib.util import find_spec


def problem():
    """Return what is missing, or None."""
    if sys.version_info < (3, 11):  # noqa: UP036
        return "iclkit needs Python 3.11 or newer, and this is " + platform.python_version()
    if find_spec("ensurepip") is None:
        return "this Python can't make environments: on Debian and Ubuntu, install python3-venv"
    # Those that JAX is built for.
    machine = platform.machine()
    if sys.platform == "linux":
        meant = machine in ("x86_64", "aarch64") and platform.libc_ver()[0] == "glibc"
    else:
        meant = sys.platform == "darwin" and machine == "arm64"
    if not meant:
        return (
            "the book needs Linux with glibc (x86-64 or ARM64) or macOS on Apple silicon, as JAX"
            " has no wheels for this machine; the package works without: python -m pip install ."
        )
    return None


if __name__ == "__main__":
    sys.exit(problem())
