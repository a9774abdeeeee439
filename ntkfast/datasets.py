"""MNIST, read from its four original files. Nothing is downloaded unless asked for."""

from __future__ import annotations

import gzip
import hashlib
import os
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ntkfast.support.errors import Error
from ntkfast.support.files import replacing

__all__ = ["MNIST", "DataError", "download_mnist", "mnist"]

# SHA-256 of what is in the files, so that it does not matter how (or whether) they are compressed.
SHA256 = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
PARTS = {"train": ("train", 60000), "test": ("t10k", 10000)}
GZIP = b"\x1f\x8b"
VARIABLE = "NTKFAST_DATA"
HOW = (
    f"name the folder of the four MNIST files (--data, {VARIABLE}, or folder= in Python), "
    "or fetch them from OpenML (--download, or download_mnist in Python)"
)


class DataError(Error):
    """A data set is not there or damaged; the message says which file and how to get it."""


class MNIST(NamedTuple):
    """Digits as they are in the files: images (N, 784) and labels (N,), both uint8."""

    images: np.ndarray
    labels: np.ndarray


def mnist(part: str = "train", folder=None) -> MNIST:
    """The handwritten digits of LeCun, Cortes and Burges.

    Parameters
    ----------
    part : {"train", "test"}
        60000 or 10000 digits.
    folder : path-like, optional
        Where train-images-idx3-ubyte.gz and the others are, compressed or not. Default: what the environment variable
        NTKFAST_DATA names.

    Returns
    -------
    MNIST
        images, shape (N, 784), and labels, shape (N,), uint8.

    Raises
    ------
    ntkfast.datasets.DataError
        A file is missing or its SHA-256 is not the expected one.
    ValueError
        There is no such part.

    Examples
    --------
    >>> from ntkfast.datasets import mnist
    >>> digits = mnist("train", folder="mnist")  # doctest: +SKIP
    >>> digits.images.shape  # doctest: +SKIP
    (60000, 784)
    """
    if part not in PARTS:
        raise ValueError(f"part: expected 'train' or 'test', got {part!r}")
    prefix, n = PARTS[part]
    folder = _folder(folder)
    images = np.frombuffer(_content(folder, f"{prefix}-images-idx3-ubyte"), np.uint8, offset=16)
    labels = np.frombuffer(_content(folder, f"{prefix}-labels-idx1-ubyte"), np.uint8, offset=8)
    return MNIST(images.reshape(n, 784), labels)


def _folder(folder):
    folder = folder or os.environ.get(VARIABLE)
    if not folder:
        raise DataError(f"MNIST: no folder is known; {HOW}")
    return Path(folder)


def _content(folder, name):
    """The bytes of one file, compressed or not, once they are known to be the right ones."""
    path = next((path for path in (folder / f"{name}.gz", folder / name) if path.exists()), None)
    if path is None:
        if folder.exists() and not folder.is_dir():
            raise DataError(f"MNIST: {folder} is no folder; {HOW}")
        raise DataError(f"MNIST: {folder} has no file {name}.gz; {HOW}")
    expected = SHA256[name]
    try:
        content = path.read_bytes()
        content = gzip.decompress(content) if content.startswith(GZIP) else content
    except (EOFError, zlib.error, OSError) as error:  # gzip.BadGzipFile is an OSError
        raise DataError(f"MNIST: {path} cannot be read ({error}), expected SHA-256 {expected} inside; {HOW}") from None
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        raise DataError(f"MNIST: {path} is damaged: its content has SHA-256 {found}, expected {expected}; {HOW}")
    return content


def download_mnist(folder=None) -> Path:
    """Fetch the digits from OpenML by scikit-learn and write the four files into a folder.

    Parameters
    ----------
    folder : path-like, optional
        Made if it is not there. Default: what the environment variable NTKFAST_DATA names.

    Returns
    -------
    Path

    Raises
    ------
    ntkfast.datasets.DataError
        There is no network, or what came is not MNIST.
    ImportError
        scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import fetch_openml
    except ImportError:
        raise ImportError("--download needs scikit-learn: pip install 'ntkfast[sklearn]'") from None
    folder = _folder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        images, labels = fetch_openml("mnist_784", version=1, return_X_y=True, as_frame=False, parser="liac-arff")
    except Exception as error:  # URLError, OpenMLError and others, by its version
        raise DataError(f"MNIST: could not be fetched from OpenML: {error}") from None
    images, labels = np.asarray(images).astype(np.uint8), np.asarray(labels).astype(np.uint8)
    first = 0
    for prefix, n in PARTS.values():
        rows, first = slice(first, first + n), first + n
        for name, array, axes in (("images-idx3", images[rows], (28, 28)), ("labels-idx1", labels[rows], ())):
            name = f"{prefix}-{name}-ubyte"
            header = np.array([0x801 + len(axes), len(array), *axes], ">u4")  # 0x8: of bytes; then the number of axes
            content = header.tobytes() + array.tobytes()
            found = hashlib.sha256(content).hexdigest()
            if found != SHA256[name]:
                raise DataError(f"MNIST: OpenML sent another {name}: SHA-256 {found}, expected {SHA256[name]}")
            with replacing(folder / f"{name}.gz") as file:
                file.write(gzip.compress(content))
    return folder
