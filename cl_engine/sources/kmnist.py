"""Kuzushiji-MNIST, in torchvision's layout."""

from cl_engine.data.torchvision import MnistLike


class Kmnist(MnistLike):
    """KMNIST: 60,000 and 10,000 characters of cursive Japanese of 28 × 28 pixels, ten classes (Clanuwat et al. 2018).

    >>> Kmnist.needs_files
    True
    """

    name, dataset, classes = "kmnist", "KMNIST", 10
