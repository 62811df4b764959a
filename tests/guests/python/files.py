"""A guest that uses files as any Python program does."""

# The functions of `os` are what is tried here.
# ruff: noqa: PTH102, PTH104, PTH106, PTH107, PTH108, PTH110, PTH115, PTH116, PTH121, PTH123, PTH208, PTH211, SIM115

import os
import shutil
import tempfile
from pathlib import Path

from componentize_py_types import Err
from wit_world.imports import preopens
from wit_world.imports import wasi_filesystem_types as types

DATA = Path("/data")
READ_ONLY = Path("/in")


def refused(action) -> str:
    try:
        action()
    except OSError as error:
        return type(error).__name__
    return "done"


def try_nothing() -> object:
    return None


def try_open() -> object:
    with open(DATA / "text", "w", encoding="utf-8") as file:
        file.write("grüße\n" * 1000)
    with open(DATA / "text", "a", encoding="utf-8") as file:
        file.write("end")
    with open(DATA / "text", "r+b") as file:
        file.seek(2)
        file.write(b"U")
        file.seek(0, os.SEEK_END)
        size = file.tell()
        file.truncate(size - 1)
    with open(DATA / "text", encoding="utf-8", errors="replace") as file:
        lines = file.readlines()
    return {"lines": len(lines), "last": lines[-1], "size": size}


def try_big() -> object:
    data = os.urandom(1 << 20)
    (DATA / "big").write_bytes(data)
    return (DATA / "big").read_bytes() == data


def try_os() -> object:
    os.mkdir(DATA / "sub")
    (DATA / "sub" / "file").touch()
    os.rename(DATA / "sub" / "file", DATA / "sub" / "renamed")
    os.link(DATA / "sub" / "renamed", DATA / "sub" / "again")
    os.symlink("renamed", DATA / "sub" / "link")
    os.utime(DATA / "sub" / "renamed", ns=(1_000_000_007, 2_000_000_009))
    found = os.stat(DATA / "sub" / "renamed")
    answer = {
        "listdir": sorted(os.listdir(DATA / "sub")),
        "scandir": sorted([entry.name, entry.is_symlink()] for entry in os.scandir(DATA / "sub")),
        "readlink": os.readlink(DATA / "sub" / "link"),
        "mtime": found.st_mtime_ns,
        "links": found.st_nlink,
        "same": os.path.samefile(DATA / "sub" / "again", DATA / "sub" / "renamed"),
        "rmdir": refused(lambda: os.rmdir(DATA / "sub")),
    }
    os.unlink(DATA / "sub" / "again")
    os.remove(DATA / "sub" / "link")
    os.remove(DATA / "sub" / "renamed")
    os.rmdir(DATA / "sub")
    answer["gone"] = not os.path.exists(DATA / "sub")
    return answer


def try_pathlib() -> object:
    deep = DATA / "a" / "b" / "c"
    deep.mkdir(parents=True, exist_ok=True)
    (deep / "x.txt").write_text("x")
    (DATA / "a" / "y.txt").write_text("yy")
    (DATA / "a" / "y.txt").replace(DATA / "a" / "z.txt")
    return sorted([str(path.relative_to(DATA)), path.stat().st_size] for path in DATA.rglob("*.txt"))


def try_shutil() -> object:
    source, copy = DATA / "tree", DATA / "copy"
    for number in range(40):
        folder = source / str(number % 4)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}.bin").write_bytes(bytes([number]) * 5000)
    shutil.copytree(source, copy)
    same = all((copy / path.relative_to(source)).read_bytes() == path.read_bytes() for path in source.rglob("*.bin"))
    shutil.rmtree(source)
    shutil.move(copy / "0", DATA / "moved")
    shutil.copyfile(DATA / "moved" / "0.bin", DATA / "one")
    with tempfile.TemporaryDirectory(dir=DATA) as folder:
        (Path(folder) / "x").write_text("x")
    return {"same": same, "left": sorted(os.listdir(DATA)), "copied": len(list(copy.rglob("*.bin")))}


def try_read_only() -> object:
    return {
        "read": (READ_ONLY / "given").read_text(),
        "write": refused(lambda: (READ_ONLY / "given").write_text("x")),
        "create": refused(lambda: (READ_ONLY / "new").touch()),
        "mkdir": refused(lambda: os.mkdir(READ_ONLY / "new")),
        "unlink": refused(lambda: os.unlink(READ_ONLY / "given")),
        "rename": refused(lambda: os.rename(READ_ONLY / "given", DATA / "given")),
    }


def try_outside() -> object:
    os.symlink("../outside", DATA / "up")
    ways = [
        "/etc/passwd",
        "/data/../../etc/passwd",
        "/data/../outside",
        "/data/up",
        "/data/host-link",
        "/data/host-root/etc/passwd",
    ]
    return {way: refused(lambda way=way: Path(way).read_text()) for way in ways}


def try_codes() -> object:
    """Without a libc between: what the host itself says."""
    ((root, _), *_) = preopens.get_directories()
    answers = []
    for path in ("..", "/etc/passwd", "a/../..", "host-link", "gone"):
        try:
            root.open_at(types.PathFlags.SYMLINK_FOLLOW, path, types.OpenFlags(0), types.DescriptorFlags.READ)
        except Err as error:
            answers.append(error.value.name)
    return answers


def try_many() -> object:
    held = []
    try:
        while True:
            held.append(open(DATA / "many", "a+b"))
    except OSError:
        return len(held)


def try_outside_only() -> object:
    return refused(Path("/etc/passwd").read_text)
