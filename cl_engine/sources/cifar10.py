"""CIFAR-10, in torchvision's layout."""

from cl_engine.data.torchvision import CifarLike


class Cifar10(CifarLike):
    """CIFAR-10: 50,000 and 10,000 colour photographs of 32 × 32 pixels in 10 classes (Krizhevsky 2009).

    >>> Cifar10.needs_files
    True
    """

    name, dataset, classes = "cifar10", "CIFAR10", 10
    mean, std = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
    labels = "labels"
