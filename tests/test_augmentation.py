"""MNIST with shifted and rotated copies: images, regression without a matrix, its command."""

import numpy as np
import pytest
from click.testing import CliRunner

import ntkfast as nf
from ntkfast import datasets
from ntkfast.cli import main
from ntkfast.datasets import MNIST
from ntkfast.experiments import augmentation
from ntkfast.learning import classes

RNG = np.random.default_rng(0)


def blobs(n):
    """A bright square whose row says which digit it is, on 28 x 28 pixels."""
    labels = RNG.integers(0, 10, n).astype(np.uint8)
    images = np.zeros((n, 28, 28), np.uint8)
    for image, label in zip(images, labels, strict=True):
        left = RNG.integers(8, 16)
        image[2 * label + 4 : 2 * label + 6, left : left + 4] = 255
    return MNIST(images.reshape(n, -1), labels)


def test_copies_are_moved_a_little():
    data = blobs(30)
    found = augmentation.augmented(data, 100, seed=1)
    np.testing.assert_array_equal(found.images[:30], data.images)
    np.testing.assert_array_equal(found.labels, data.labels[np.arange(100) % 30])
    axis = np.arange(28)
    for which, label in enumerate(found.labels):
        images = (found.images[which], data.images[which % 30])
        moved, original = (image.reshape(28, 28).astype(float) for image in images)
        np.testing.assert_allclose(moved.sum(), original.sum(), rtol=0.05)  # nothing leaves the image
        center = (moved.sum(axis=1) @ axis) / moved.sum()
        # 2 pixels, and 10 degrees at 10 pixels from the middle
        assert abs(center - (2 * label + 4.5)) < 2 + np.sin(np.deg2rad(10)) * 10 + 0.5
    different = augmentation.augmented(data, 100, seed=2)
    assert (different.images[30:] != found.images[30:]).any(axis=1).all()


def test_iterations_are_the_regression_with_a_matrix(tmp_path):
    train, test = blobs(60), blobs(40)
    found = augmentation.run(train, test, 200, ridge=1e-3, tol=1e-8, checkpoint=tmp_path / "state")
    data = augmentation.augmented(train, 200)
    net = nf.MLP(4, "relu", 1.0, 0.1)
    X, T = data.images / 256, test.images / 256
    K = nf.ntk(net, X)
    a = np.linalg.solve(K + 1e-3 * K.diagonal().mean() * np.eye(200), classes.targets(data.labels, 10))
    np.testing.assert_allclose(found.outputs, nf.ntk(net, T, X) @ a, atol=2e-4)
    assert (tmp_path / "state").exists()


def test_the_command_resumes(tmp_path, monkeypatch):
    sets = {"train": blobs(60), "test": blobs(20)}
    monkeypatch.setattr(datasets, "mnist", lambda which, folder=None: sets[which])
    arguments = ["paper", "mnist", "--n", "50", "--augment", "120", "--ridge", "1e-3", "--out", str(tmp_path)]
    first = CliRunner().invoke(main, arguments)
    assert first.exit_code == 0, first.output
    again = CliRunner().invoke(main, arguments)
    assert again.stdout.splitlines()[-2:] == first.stdout.splitlines()[-2:]
    with np.load(tmp_path / "augmented.npz") as saved:
        assert saved["outputs"].shape == (20, 10)
        assert saved["n"] == 120
    for option, value in (("--ridge", "1e-2"), ("--seed", "1")):  # have checkpoints of their own
        other = CliRunner().invoke(main, [*arguments, option, value])
        assert other.exit_code == 0, other.output
    states = sorted(path.name for path in tmp_path.glob("*.state"))
    ends = ("seed0-depth4-ridge0.001", "seed0-depth4-ridge0.01", "seed1-depth4-ridge0.001")
    assert states == [f"augmented-50-120-{end}.state" for end in ends]
    monkeypatch.setitem(sets, "train", blobs(60))
    other = CliRunner().invoke(main, arguments)
    assert other.exit_code == 2
    assert "K_xx has other entries, of other points or another network" in other.output


def test_bad_arguments():
    data = blobs(10)
    with pytest.raises(ValueError, match="augment: expected at least the number of images, 10, got 5"):
        augmentation.augmented(data, 5)
    with pytest.raises(ValueError, match="expected square images, got 10 pixels"):
        augmentation.augmented(MNIST(data.images[:, :10], data.labels), 20)
