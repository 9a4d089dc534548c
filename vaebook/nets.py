"""Networks, without probability: vectors to vectors, images to vectors, vectors to images.

A network works on the last dimensions only, so that a stack of draws ``(sample, batch, k)`` passes
as a batch does.
"""

import itertools
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional


def mlp(*widths: int, activation: Callable[[], nn.Module] = nn.ReLU) -> nn.Sequential:
    """Fully connected network, with ``activation`` between its linear layers only.

    Args:
        widths: sizes from the input to the output, at least two, such as ``mlp(784, 400, 40)``.
        activation: makes the module put between the layers, such as a module type.
    """
    if len(widths) < 2 or any(width < 1 for width in widths):
        raise ValueError(f"mlp needs two or more positive widths, from input to output; got {widths}")
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(widths):
        layers += [nn.Linear(before, after), activation()]
    return nn.Sequential(*layers[:-1])


def mlp_encoder(image_shape: Sequence[int], hidden: Sequence[int], outputs: int, **options) -> nn.Sequential:
    """An :func:`mlp` from images ``(..., channel, height, width)`` to vectors ``(..., outputs)``."""
    flatten = nn.Flatten(start_dim=-len(image_shape))
    return nn.Sequential(flatten, mlp(math.prod(image_shape), *hidden, outputs, **options))


def mlp_decoder(
    latent_dim: int, hidden: Sequence[int], image_shape: Sequence[int], **options
) -> nn.Sequential:
    """An :func:`mlp` from codes ``(..., latent_dim)`` to images ``(..., channel, height, width)``."""
    unflatten = nn.Unflatten(-1, tuple(image_shape))
    return nn.Sequential(mlp(latent_dim, *hidden, math.prod(image_shape), **options), unflatten)


class OneHot(nn.Module):
    """Labels as vectors: one for the label's own place, zero elsewhere.

    Args:
        classes: how many labels there are, at least 2; they are 0 to ``classes - 1``.
    """

    def __init__(self, classes: int):
        super().__init__()
        if not isinstance(classes, int) or classes < 2:
            raise ValueError(f"classes must be an integer of 2 or more, got {classes!r}")
        self.classes = classes

    def forward(self, labels: Tensor) -> Tensor:
        """Integers ``(...)`` to vectors ``(..., classes)``."""
        require_labels(labels, self.classes)
        return functional.one_hot(labels, self.classes).float()


def require_labels(labels: Tensor, classes: int) -> None:
    """Refuse what are no labels: anything but integers from 0 to ``classes - 1``."""
    if labels.dtype != torch.int64:
        raise TypeError(f"labels must be integers (torch.int64), got {labels.dtype}")
    if labels.numel() and not 0 <= labels.min() <= labels.max() < classes:
        raise ValueError(f"labels must be from 0 to {classes - 1}, got {labels.min()} to {labels.max()}")


class Concatenated(nn.Module):
    """A network on an input and a condition, put end to end as one vector.

    Args:
        network: from vectors of both sizes together, ``(..., inputs + features)``.
        event_dim: how many of the last dimensions of the input are one vector: 1 for a code, 3 for
            ``(channel, height, width)``.
    """

    def __init__(self, network: nn.Module, event_dim: int = 1):
        super().__init__()
        self.network = network
        self.event_dim = event_dim

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Inputs ``(..., *event)`` and conditions ``(..., features)`` to outputs; the two broadcast."""
        vectors = x.flatten(-self.event_dim)
        try:
            shape = torch.broadcast_shapes(vectors.shape[:-1], condition.shape[:-1])
        except RuntimeError as error:
            raise ValueError(
                f"each input needs its condition: got {tuple(vectors.shape[:-1])} inputs and "
                f"{tuple(condition.shape[:-1])} conditions"
            ) from error
        return self.network(torch.cat([vectors.expand(*shape, -1), condition.expand(*shape, -1)], dim=-1))


class ConvEncoder(nn.Module):
    """Convolutions, each followed by a rectified linear unit, and an :func:`mlp` on what they find.

    Every convolution is padded so that it divides height and width by its stride and changes nothing
    else. By default, with ``image_shape=(1, 28, 28)``, the four of Bhatt et al. (2018), with the channels
    and kernels of Chollet (2018, section 8.4): 28x28x32, then three times 14x14x64, and from these 12544
    features a linear layer to the output.

    Args:
        image_shape: ``(channel, height, width)``.
        outputs: size of the vector that comes out.
        channels: of the image after each convolution.
        strides: of each convolution; their product must divide height and width.
        hidden: widths between the features and the output.
        kernel_size: odd, height and width of a kernel.
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        outputs: int,
        *,
        channels: Sequence[int] = (32, 64, 64, 64),
        strides: Sequence[int] = (1, 2, 1, 1),
        hidden: Sequence[int] = (),
        kernel_size: int = 3,
    ):
        super().__init__()
        self.image_shape = tuple(image_shape)
        height, width = _reduced(self.image_shape, channels, strides, kernel_size)
        layers: list[nn.Module] = []
        widths = itertools.pairwise([self.image_shape[0], *channels])
        for (before, after), stride in zip(widths, strides, strict=True):
            layers += [nn.Conv2d(before, after, kernel_size, stride, kernel_size // 2), nn.ReLU(inplace=True)]
        self.convolutions = nn.Sequential(*layers).to(memory_format=torch.channels_last)
        self.head = mlp(channels[-1] * height * width, *hidden, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Images ``(..., channel, height, width)`` to vectors ``(..., outputs)``."""
        if x.shape[-3:] != self.image_shape:
            expected = ", ".join(map(str, self.image_shape))
            raise ValueError(f"images must have the shape (..., {expected}), got {tuple(x.shape)}")
        features = self.convolutions(x.reshape(-1, *self.image_shape))
        features = features.permute(0, 2, 3, 1).flatten(1)  # channels last, as they lie in memory
        return self.head(features).reshape(*x.shape[:-3], -1)


class ConvTranspose2d(nn.ConvTranspose2d):
    """A transposed convolution whose bias is added behind it.

    Inside it, oneDNN takes longer for the gradient of the bias than for that of all the weights, in bfloat16.
    Here the former is one sum.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Images ``(batch, channel, height, width)`` to as many larger ones."""
        images = functional.conv_transpose2d(
            x, self.weight, None, self.stride, self.padding, self.output_padding
        )
        return images.add_(self.bias.to(images.dtype)[:, None, None])


class ConvDecoder(nn.Module):
    """A linear layer from a code to a small image, and transposed convolutions that enlarge it.

    Rectified linear units stand between the layers only. By default, with ``image_shape=(1, 28, 28)``,
    the decoder of Bhatt et al. (2018): 14x14x64, then 28x28x32, then the image.

    Args:
        latent_dim: size of a code.
        image_shape: ``(channel, height, width)``.
        channels: of the small image, and of the image after each layer but the last.
        strides: by how much each layer enlarges the image; their product must divide height and width.
        kernel_size: odd, height and width of a kernel.
    """

    def __init__(
        self,
        latent_dim: int,
        image_shape: Sequence[int],
        *,
        channels: Sequence[int] = (64, 32),
        strides: Sequence[int] = (2, 1),
        kernel_size: int = 3,
    ):
        super().__init__()
        height, width = _reduced(image_shape, channels, strides, kernel_size)
        self.small_shape = (height, width, channels[0])
        self.linear = nn.Linear(latent_dim, math.prod(self.small_shape))
        layers: list[nn.Module] = []
        widths = itertools.pairwise([*channels, image_shape[0]])
        for (before, after), stride in zip(widths, strides, strict=True):
            enlarge = ConvTranspose2d(before, after, kernel_size, stride, kernel_size // 2, stride - 1)
            layers += [enlarge, nn.ReLU(inplace=True)]
        self.convolutions = nn.Sequential(*layers[:-1]).to(memory_format=torch.channels_last)

    def forward(self, z: Tensor) -> Tensor:
        """Codes ``(..., latent_dim)`` to images ``(..., channel, height, width)``."""
        # In place as long as it is no view: of what a view looks at, autograd would make copies.
        small = self.linear(z.reshape(-1, z.shape[-1])).relu_().unflatten(1, self.small_shape)
        images = self.convolutions(small.permute(0, 3, 1, 2))  # channels last in memory
        return images.reshape(*z.shape[:-1], *images.shape[1:])


def _reduced(
    image_shape: Sequence[int], channels: Sequence[int], strides: Sequence[int], kernel_size: int
) -> tuple[int, int]:
    """Height and width of an image divided by all strides; refuses what does not fit together."""
    for name, values in {"image_shape": image_shape, "channels": channels, "strides": strides}.items():
        if not values or any(not isinstance(value, int) or value < 1 for value in values):
            raise ValueError(f"{name} must be positive integers, got {tuple(values)}")
    if len(image_shape) != 3:
        raise ValueError(f"image_shape must be (channel, height, width), got {tuple(image_shape)}")
    if len(channels) != len(strides):
        raise ValueError(
            f"channels and strides need one entry for each layer, got {tuple(channels)} and {tuple(strides)}"
        )
    if not isinstance(kernel_size, int) or kernel_size < 1 or kernel_size % 2 == 0:
        raise ValueError(f"kernel_size must be a positive odd integer, got {kernel_size!r}")
    _, height, width = image_shape
    factor = math.prod(strides)
    if height % factor or width % factor:
        raise ValueError(
            f"height and width must be multiples of {factor}, the product of strides={tuple(strides)}; "
            f"got images of {height}x{width}: pad or crop them, or change the strides"
        )
    return height // factor, width // factor


def initialise(network: nn.Module, scheme: str | float) -> nn.Module:
    """Draw the weights of all linear and convolutional layers again, from torch's global generator, and
    zero their biases.

    Args:
        network: changed in place.
        scheme: "he", normal with variance 2 / inputs, which keeps the size of a signal through
            rectified linear units; "glorot", uniform with variance 2 / (inputs + outputs), the default of
            Keras; or the standard deviation of a normal, the same for all layers.

    Returns:
        ``network``.

    He et al. (2015), Glorot & Bengio (2010); chapter *The sources, line by line*, eq. (sources-signal).
    """
    if scheme not in ("he", "glorot") and not (isinstance(scheme, int | float) and scheme >= 0):
        raise ValueError(
            f"scheme must be 'he', 'glorot' or a standard deviation of 0 or more, got {scheme!r}"
        )
    for module in network.modules():
        if not isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            continue
        if scheme == "glorot":
            nn.init.xavier_uniform_(module.weight)
        else:
            nn.init.normal_(module.weight, 0, math.sqrt(2 / _inputs(module)) if scheme == "he" else scheme)
        nn.init.zeros_(module.bias)
    return network


def _inputs(layer: nn.Module) -> float:
    """How many numbers an output of a layer adds up, on average."""
    if isinstance(layer, nn.ConvTranspose2d):
        return layer.weight[:, 0].numel() / math.prod(layer.stride)
    return layer.weight[0].numel()
