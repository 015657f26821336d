"""Fashion-MNIST, in torchvision's layout."""

from cl_engine.data.torchvision import MnistLike


class FashionMnist(MnistLike):
    """Fashion-MNIST: 60,000 and 10,000 articles of clothing of 28 × 28 pixels (Xiao et al. 2017).

    >>> FashionMnist.needs_files
    True
    """

    name, dataset, classes = "fashion_mnist", "FashionMNIST", 10
    mean, std = (0.2860,), (0.3530,)
