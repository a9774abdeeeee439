"""MNIST, read from its four original files. Nothing is downloaded unless you ask for it."""

from __future__ import annotations

import gzip
import hashlib
import os
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ntkfast.support.errors import Error
from ntkfast.support.files import named, opened, replacing

__all__ = ["MNIST", "DataError", "download_mnist", "mnist"]

PathLike = str | os.PathLike[str]

# SHA-256 of the uncompressed contents, so that it does not matter how (or whether) the files are compressed.
SHA256 = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
PARTS = {"train": ("train", 60000), "test": ("t10k", 10000)}
GZIP = b"\x1f\x8b"  # how a gzip file begins
VARIABLE = "NTKFAST_DATA"
REMEDY = (
    f"pass the folder of the four MNIST files as folder, name it in the environment variable {VARIABLE}, "
    "or fetch the files from OpenML with ntkfast.datasets.download_mnist"
)


class DataError(Error):
    """A data set is missing or damaged; the message says which file, and how to get it.

    Parameters
    ----------
    problem : str
        What is missing or damaged.
    remedy : str
        What to do about it in Python; "" if the message has no advice.

    Attributes
    ----------
    problem, remedy : str
        As given.

    See Also
    --------
    mnist : Raises it.

    Examples
    --------
    >>> import ntkfast as nf
    >>> try:
    ...     nf.datasets.mnist(folder="no such folder")
    ... except nf.datasets.DataError as error:
    ...     print(error.problem)
    MNIST: no such folder has no file train-images-idx3-ubyte.gz
    """

    def __init__(self, problem: str, remedy: str = "") -> None:
        super().__init__(problem, remedy)
        self.problem, self.remedy = problem, remedy

    def __str__(self) -> str:
        return f"{self.problem}; {self.remedy}" if self.remedy else self.problem


class MNIST(NamedTuple):
    """Digits as stored in the files.

    Attributes
    ----------
    images : ndarray of uint8, shape (N, 784)
        Pixels from 0 to 255, row by row.
    labels : ndarray of uint8, shape (N,)
        Digits from 0 to 9.

    See Also
    --------
    mnist : Reads it.

    Examples
    --------
    >>> import ntkfast as nf
    >>> nf.datasets.MNIST._fields
    ('images', 'labels')
    """

    images: np.ndarray
    labels: np.ndarray


def mnist(part: str = "train", folder: PathLike | None = None) -> MNIST:
    """The handwritten digits of LeCun, Cortes and Burges.

    Parameters
    ----------
    part : {"train", "test"}
        60000 or 10000 digits.
    folder : path-like, optional
        Where train-images-idx3-ubyte.gz and the others are, compressed or not. Default: the folder that the environment
        variable NTKFAST_DATA names.

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

    See Also
    --------
    download_mnist : Fetches the files.

    Examples
    --------
    >>> import ntkfast as nf
    >>> digits = nf.datasets.mnist("train", folder="mnist")  # doctest: +SKIP
    >>> digits.images.shape  # doctest: +SKIP
    (60000, 784)
    """
    if part not in PARTS:
        raise ValueError(f"part: expected 'train' or 'test', got {part!r}")
    prefix, n = PARTS[part]
    source = _folder(folder)
    images = np.frombuffer(_content(source, f"{prefix}-images-idx3-ubyte", 16 + 784 * n), np.uint8, offset=16)
    labels = np.frombuffer(_content(source, f"{prefix}-labels-idx1-ubyte", 8 + n), np.uint8, offset=8)
    return MNIST(images.reshape(n, 784), labels)


def _folder(folder: PathLike | None) -> Path:
    folder = folder or os.environ.get(VARIABLE)
    if not folder:
        raise DataError("MNIST: no folder was given", REMEDY)
    return Path(named(folder, "folder"))


def _content(folder: Path, name: str, size: int) -> bytes:
    """The uncompressed bytes of one file, so many, after their checksum has been verified."""
    path = next((path for path in (folder / f"{name}.gz", folder / name) if path.exists()), None)
    if path is None:
        if folder.exists() and not folder.is_dir():
            raise DataError(f"MNIST: {folder} is not a folder", REMEDY)
        raise DataError(f"MNIST: {folder} has no file {name}.gz", REMEDY)
    expected = SHA256[name]
    try:
        with opened(path) as file:
            is_packed = file.read(len(GZIP)) == GZIP
            file.seek(0)
            with gzip.open(file) if is_packed else file as stream:
                content = stream.read(size + 1)  # no more, whatever it unpacks to
    except (EOFError, zlib.error, OSError, ValueError) as error:  # gzip.BadGzipFile is an OSError
        raise DataError(
            f"MNIST: cannot read {path} ({error}), expected content of SHA-256 {expected}", REMEDY
        ) from None
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        raise DataError(f"MNIST: {path} is damaged: its content has SHA-256 {found}, expected {expected}", REMEDY)
    return content


def download_mnist(folder: PathLike | None = None) -> Path:
    """Fetch the digits from OpenML with scikit-learn, and write the four files into a folder.

    Parameters
    ----------
    folder : path-like, optional
        Created if it does not exist. Default: the folder that the environment variable NTKFAST_DATA names.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    ntkfast.datasets.DataError
        No folder was given, there is no network connection, or what OpenML sent is not MNIST.
    ImportError
        scikit-learn is not installed.

    See Also
    --------
    mnist : Reads them.

    Examples
    --------
    >>> import ntkfast as nf
    >>> nf.datasets.download_mnist("mnist")  # doctest: +SKIP
    PosixPath('mnist')
    """
    try:
        from sklearn.datasets import fetch_openml
    except ImportError:
        raise ImportError("fetching MNIST needs scikit-learn: pip install 'ntkfast[sklearn]'") from None
    target = _folder(folder)
    target.mkdir(parents=True, exist_ok=True)
    try:
        images, labels = fetch_openml("mnist_784", version=1, return_X_y=True, as_frame=False, parser="liac-arff")
    except Exception as error:  # URLError, OpenMLError and others, depending on its version
        raise DataError(f"MNIST: could not be fetched from OpenML: {error}") from None
    images, labels = np.asarray(images).astype(np.uint8), np.asarray(labels).astype(np.uint8)
    first = 0
    for prefix, n in PARTS.values():
        rows, first = slice(first, first + n), first + n
        for kind, array, axes in (("images-idx3", images[rows], (28, 28)), ("labels-idx1", labels[rows], ())):
            name = f"{prefix}-{kind}-ubyte"
            header = np.array([0x801 + len(axes), len(array), *axes], ">u4")  # 0x8: bytes; then the number of axes
            content = header.tobytes() + array.tobytes()
            found = hashlib.sha256(content).hexdigest()
            if found != SHA256[name]:
                raise DataError(f"MNIST: OpenML sent a different {name}: SHA-256 {found}, expected {SHA256[name]}")
            with replacing(target / f"{name}.gz") as file:
                file.write(gzip.compress(content))
    return target
