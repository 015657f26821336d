"""CIFAR-100, in torchvision's layout."""

from cl_engine.data.torchvision import CifarLike


class Cifar100(CifarLike):
    """CIFAR-100: 50,000 and 10,000 colour photographs of 32 × 32 pixels in 100 classes (Krizhevsky 2009).

    >>> Cifar100.needs_files
    True
    """

    name, dataset, classes = "cifar100", "CIFAR100", 100
    mean, std = (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)
    labels = "fine_labels"
