"""One file of JSON and arrays: a zip archive whose members are neither packed nor executed, each with its SHA-256.

    model.json      {"format": 1, "ntkfast": its version, "given": […], "model": …}
    0.npy, 1.npy …  the arrays, without objects
    SHA256SUMS      one line for each of the others, as sha256sum writes and checks them

A file from anywhere may be read. Members are stored, not compressed, and together no larger than the file, and an array
is allocated only if its member is as large: reading takes no more memory than the file holds.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ntkfast.support import memory
from ntkfast.support.files import named, replacing

FORMAT = 1
DESCRIPTION, CHECKSUMS = "model.json", "SHA256SUMS"
DTYPES = "biufcSUmM"  # kinds of dtypes whose bytes are the whole value
CHUNK = 2**22
START = b"PK\x03\x04"

Arrays: TypeAlias = Sequence[NDArray[Any]]


def can_hold(dtype: np.dtype[Any]) -> bool:
    """Whether a file can hold arrays of this dtype."""
    return dtype.kind in DTYPES and dtype.itemsize > 0


def _version() -> str:
    from importlib.metadata import version  # which takes long to import

    return version("ntkfast")


class _Hashed:
    """A stream with the SHA-256 of what went through it."""

    def __init__(self, stream: Any) -> None:
        self.stream, self.sha = stream, hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.sha.update(data)
        return int(self.stream.write(data))

    def read(self, size: int = -1) -> bytes:
        data: bytes = self.stream.read(size)
        self.sha.update(data)
        return data


def write(path: str | os.PathLike[str], model: object, given: Sequence[str], arrays: Arrays) -> None:
    """Write a file, atomically: a description for JSON, the names of what must be given to read it, and arrays."""
    named(path)
    target = Path(os.path.realpath(path))
    if os.path.exists(target) and not target.is_file():
        what = "a directory" if target.is_dir() else "not a regular file"
        raise ValueError(f"path: expected the name of a file, got {os.fspath(path)!r}, which is {what}")
    header = {"format": FORMAT, "ntkfast": _version(), "given": list(given), "model": model}
    text = json.dumps(header, allow_nan=False).encode()
    with replacing(path) as file, zipfile.ZipFile(file, "w") as archive:
        sums = []
        members = [(DESCRIPTION, None), *((f"{k}.npy", array) for k, array in enumerate(arrays))]
        for name, content in members:
            with archive.open(zipfile.ZipInfo(name), "w", force_zip64=True) as member:
                stream = _Hashed(member)
                if content is None:
                    stream.write(text)
                else:
                    np.lib.format.write_array(stream, content, version=(1, 0), allow_pickle=False)
            sums.append(f"{stream.sha.hexdigest()}  {name}\n")
        archive.writestr(zipfile.ZipInfo(CHECKSUMS), "".join(sums))


def read(file: BinaryIO) -> tuple[Any, list[str], list[NDArray[Any]]]:
    """The arguments that `write` had. For a file that is not like that, any error, most often a ValueError."""
    if file.read(len(START)) != START:
        raise ValueError("it is not a zip archive")
    with zipfile.ZipFile(file) as archive:
        members = _members(archive, os.fstat(file.fileno()).st_size)
        if DESCRIPTION not in members:
            raise ValueError(f"it has no {DESCRIPTION}")
        text = archive.read(DESCRIPTION)
        header = json.loads(text, parse_constant=_refuse, object_pairs_hook=_unique)
        found = header["format"]
        if type(found) is int and found > FORMAT:  # before anything else of it is read
            raise ValueError(
                f"it has format {found}, of ntkfast {header.get('ntkfast')}; this is ntkfast {_version()}, "
                f"which reads format {FORMAT}: update it"
            )
        if type(found) is not int or found < 1:
            raise ValueError(f"format {found!r}")
        names = [DESCRIPTION, *(f"{k}.npy" for k in range(len(members) - 2))]
        if {*names, CHECKSUMS} != members.keys():
            other = [name for name in members if name not in (*names, CHECKSUMS)]
            raise ValueError(f"members of other names: {other}" if other else f"it has no {CHECKSUMS}")
        sums = {name: digest for digest, name in map(str.split, archive.read(CHECKSUMS).decode().splitlines())}
        if sums.keys() != set(names):
            raise ValueError(f"{CHECKSUMS} has other names than the archive")
        _compare(hashlib.sha256(text).hexdigest(), sums, DESCRIPTION)
        arrays = []
        for name in names[1:]:
            array, found_sum = _array(archive, members[name])
            _compare(found_sum, sums, name)
            arrays.append(array)
    given = header["given"]
    if not (isinstance(given, list) and all(isinstance(name, str) for name in given)):
        raise ValueError(f"given: {given!r}")
    return header["model"], given, arrays


def read_arrays(file: BinaryIO) -> dict[str, NDArray[Any]]:
    """The arrays that np.savez wrote, with as little trust in the file as `read` has, and errors like its."""
    with zipfile.ZipFile(file) as archive:
        members = _members(archive, os.fstat(file.fileno()).st_size)
        return {name.removesuffix(".npy"): _array(archive, info)[0] for name, info in members.items()}


def _members(archive: zipfile.ZipFile, size: int) -> dict[str, zipfile.ZipInfo]:
    """The members by name, of an archive that is as large as they are together."""
    members = {info.filename: info for info in archive.infolist()}
    if len(members) < len(archive.infolist()):
        raise ValueError("two members have the same name")
    for name, info in members.items():
        if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
            raise ValueError(f"the member {name!r} is compressed")
    if sum(info.file_size for info in members.values()) > size:
        raise ValueError("its members are larger than the file")
    return members


def _refuse(constant: str) -> None:
    raise ValueError(f"the number {constant}")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("two entries of the same name")
    return found


def _compare(digest: str, sums: dict[str, str], name: str) -> None:
    if digest != sums[name]:
        raise ValueError(f"the SHA-256 of {name} is {digest}, expected {sums[name]}")


def _array(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> tuple[NDArray[Any], str]:
    """A member and its SHA-256."""
    name = info.filename
    with archive.open(info) as member:
        stream = _Hashed(member)
        found = np.lib.format.read_magic(stream)
        if found != (1, 0):
            raise ValueError(f"{name} has version {found}")
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
        if not can_hold(dtype):
            raise ValueError(f"{name} has dtype {dtype}")
        n_bytes, there = math.prod(shape) * dtype.itemsize, info.file_size - member.tell()
        if n_bytes != there or min(shape, default=0) < 0:
            raise ValueError(f"{name} has shape {shape} and dtype {dtype}, which do not suit its {there} bytes")
        memory.require(n_bytes, name)
        array = np.empty(shape, dtype, order="F" if fortran else "C")
        flat = array.reshape(-1, order="A").view(np.uint8)
        for start in range(0, n_bytes, CHUNK):
            part = flat[start : start + CHUNK]
            part[:] = np.frombuffer(stream.read(len(part)), np.uint8)
        stream.read()  # up to the end, where zipfile compares its own checksum
    return array, stream.sha.hexdigest()
