"""Record which files of this repository a process reads, what it finds there, and its memory.

Python imports a module of this name before anything else, where its folder is on PYTHONPATH: in
a notebook's kernel, and in every process that the kernel starts. No reading of sources could tell
as much, because a chapter builds the names of files, and the package imports when it is asked.
"""

import atexit
import hashlib
import os
import resource
import sys
from importlib.util import source_from_cache

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
ROOTS = {ROOT, os.path.realpath(ROOT)}
RECORD = os.environ.get("ICLKIT_RECORD")
seen = set()


def digest(name: str) -> str:
    """Return a digest of a file of the repository, of a folder's names, or "-" for neither."""
    path = os.path.join(ROOT, name)
    try:
        if os.path.isdir(path):
            content = "\n".join(sorted(os.listdir(path))).encode()
        else:
            with open(path, "rb") as file:
                content = file.read()
    except OSError:
        return "-"
    return hashlib.sha256(content).hexdigest()


def names(path: str) -> set[str]:
    """Return what a path is called within the repository; nothing, for one that is not part of it.

    Hidden folders and _build are not: environments lie there, and what is built.
    """
    if "__pycache__" in path and path.endswith(".pyc"):
        path = source_from_cache(path)
    found = {
        place[len(root) + 1 :].replace(os.sep, "/")
        for place in (os.path.abspath(path), os.path.realpath(path))
        for root in ROOTS
        if place.startswith(root + os.sep)
    }
    return {name for name in found if not name.startswith((".", "_build/", "_ext/"))}


def note(event: str, arguments: tuple) -> None:
    """Add a file to the record when it is first opened, and the data's folder when it is listed."""
    if event == "open":
        path, _, flags = arguments
        if flags & (os.O_WRONLY | os.O_RDWR):
            return
    elif event in ("os.listdir", "os.scandir"):
        path = arguments[0]
    else:
        return
    if not isinstance(path, (str, bytes, os.PathLike)):  # such as a number: it was opened before
        return
    for name in names(os.fsdecode(path)) - seen:
        # The import system lists folders, too; only for data does what is there make a result.
        if event != "open" and not f"{name}/".startswith("book/data/"):
            continue
        seen.add(name)  # before it is read here, which is an event again
        write(f"{digest(name)} {name}\n", RECORD)


def note_memory() -> None:
    """Add the most memory that this process had, in bytes."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    write(f"{most if sys.platform == 'darwin' else most * 1024}\n", f"{RECORD}.memory")


def write(line: str, path: str) -> None:
    """Append a line in one piece, as several processes may have the same record."""
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(file, line.encode())
    os.close(file)


if RECORD:
    write("", RECORD)  # that there is a record tells that there was a recorder
    atexit.register(note_memory)
    sys.addaudithook(note)
