"""MNIST, in torchvision's layout."""

from cl_engine.data.torchvision import MnistLike


class Mnist(MnistLike):
    """MNIST: 60,000 and 10,000 handwritten digits of 28 × 28 pixels (LeCun et al. 1998).

    >>> Mnist.needs_files
    True
    """

    digits = True
    name, dataset, classes = "mnist", "MNIST", 10
    mean, std = (0.1307,), (0.3081,)
