import pytest
import torch
from torch import nn

from vaebook import nets


def test_mlp_puts_the_activation_between_layers_only():
    layers = list(nets.mlp(5, 4, 3, 2, activation=nn.Tanh))
    assert [type(layer) for layer in layers] == [nn.Linear, nn.Tanh, nn.Linear, nn.Tanh, nn.Linear]
    assert [(layer.in_features, layer.out_features) for layer in layers[::2]] == [(5, 4), (4, 3), (3, 2)]


@pytest.mark.parametrize("widths", [(), (3,), (3, 0, 2), (3, -1)])
def test_mlp_refuses_impossible_widths(widths):
    with pytest.raises(ValueError, match="two or more positive widths"):
        nets.mlp(*widths)


def test_encoder_and_decoder_pass_any_stack_of_draws():
    encoder = nets.mlp_encoder((1, 6, 5), (8,), 4)
    decoder = nets.mlp_decoder(4, (8,), (1, 6, 5))
    z = torch.randn(3, 7, 4)
    images = decoder(z)
    assert images.shape == (3, 7, 1, 6, 5)
    assert encoder(images).shape == (3, 7, 4)
    torch.testing.assert_close(images[2], decoder(z[2]))


def parameters_by_layer(network: nn.Module) -> list[int]:
    return [
        sum(p.numel() for p in module.parameters())
        for module in network.modules()
        if not list(module.children()) and list(module.parameters())
    ]


def shapes_by_layer(network: nn.Module, x: torch.Tensor) -> list[tuple[int, ...]]:
    """Shape of what each convolution returns, without the batch; all of them must be channels last."""
    shapes = []

    def look(module, inputs, output):
        assert output.is_contiguous(memory_format=torch.channels_last)
        shapes.append(tuple(output.shape[1:]))

    hooks = [
        module.register_forward_hook(look)
        for module in network.modules()
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d)
    ]
    network(x)
    for hook in hooks:
        hook.remove()
    return shapes


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_a_transposed_convolution_is_that_of_torch_with_the_same_gradients(stride):
    shape = (3, 4, 5, stride, 2, stride - 1)
    ours, theirs = nets.ConvTranspose2d(*shape).double(), nn.ConvTranspose2d(*shape).double()
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, 3, 6, 5, dtype=torch.float64)
    found = []
    for layer in (ours, theirs):
        leaf = x.clone().requires_grad_()
        images = layer(leaf)
        images.square().sum().backward()
        found.append([images, leaf.grad, layer.weight.grad, layer.bias.grad])
    torch.testing.assert_close(*found)
    with torch.autocast("cpu", torch.bfloat16):
        assert ours.float()(x.float()).dtype == torch.bfloat16


def test_conv_networks_are_by_default_those_of_the_source():
    encoder = nets.ConvEncoder((1, 28, 28), 4)
    assert shapes_by_layer(encoder, torch.rand(2, 1, 28, 28)) == [(32, 28, 28)] + 3 * [(64, 14, 14)]
    assert parameters_by_layer(encoder) == [320, 18496, 36928, 36928, 50180]
    decoder = nets.ConvDecoder(2, (1, 28, 28))
    assert shapes_by_layer(decoder, torch.rand(2, 2)) == [(32, 28, 28), (1, 28, 28)]
    assert parameters_by_layer(decoder) == [37632, 18464, 289]


@pytest.mark.parametrize(
    ("channels", "strides", "kernel_size"), [((4,), (1,), 1), ((4, 5), (2, 3), 3), ((4, 5, 6), (1, 2, 2), 5)]
)
def test_conv_networks_divide_and_multiply_height_and_width_by_the_strides(channels, strides, kernel_size):
    options = {"channels": channels, "strides": strides, "kernel_size": kernel_size}
    x = torch.rand(2, 3, 12, 24)
    encoder = nets.ConvEncoder((3, 12, 24), 7, hidden=(), **options)
    factor = torch.tensor(strides).prod().item()
    assert shapes_by_layer(encoder, x)[-1] == (channels[-1], 12 // factor, 24 // factor)
    assert encoder(x).shape == (2, 7)
    decoder = nets.ConvDecoder(7, (3, 12, 24), **options)
    assert decoder.linear.out_features == channels[0] * (12 // factor) * (24 // factor)
    assert decoder(torch.rand(2, 7)).shape == (2, 3, 12, 24)


def test_conv_networks_pass_any_stack_of_draws():
    encoder = nets.ConvEncoder((2, 6, 4), 5, channels=(3, 4), strides=(1, 2), hidden=(8,))
    decoder = nets.ConvDecoder(5, (2, 6, 4), channels=(4, 3))
    z = torch.randn(3, 7, 5)
    images = decoder(z)
    assert images.shape == (3, 7, 2, 6, 4)
    torch.testing.assert_close(images[2], decoder(z[2]))
    torch.testing.assert_close(images[2, 3], decoder(z[2, 3]))
    assert encoder(images).shape == (3, 7, 5)
    torch.testing.assert_close(encoder(images)[1], encoder(images[1]))
    torch.testing.assert_close(encoder(images)[1, 4], encoder(images[1, 4]))


def test_conv_encoder_is_the_chain_of_its_layers():
    encoder = nets.ConvEncoder((1, 6, 4), 5, channels=(3, 4), strides=(1, 2), hidden=(8,))
    x = torch.rand(2, 1, 6, 4)
    first, _, second, _ = encoder.convolutions
    features = torch.relu(second(torch.relu(first(x))))
    by_position = torch.stack([features[:, :, i, j] for i in range(3) for j in range(2)], dim=1).flatten(1)
    torch.testing.assert_close(encoder(x), encoder.head(by_position))


def test_conv_decoder_is_the_chain_of_its_layers():
    decoder = nets.ConvDecoder(5, (1, 6, 4), channels=(4, 3))
    z = torch.randn(2, 5)
    first, _, second = decoder.convolutions
    by_position = torch.relu(decoder.linear(z)).view(2, 3 * 2, 4)
    small = by_position.mT.reshape(2, 4, 3, 2)
    torch.testing.assert_close(decoder(z), second(torch.relu(first(small))))


@pytest.mark.parametrize("network", [nets.ConvEncoder, nets.ConvDecoder])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strides": (2, 2)}, r"multiples of 4, the product of strides=\(2, 2\); got images of 6x8"),
        ({"strides": (1,)}, r"one entry for each layer, got \(4, 3\) and \(1,\)"),
        ({"strides": (1, 0)}, r"strides must be positive integers, got \(1, 0\)"),
        ({"channels": ()}, r"channels must be positive integers, got \(\)"),
        ({"channels": (4, 2.0)}, r"channels must be positive integers, got \(4, 2.0\)"),
        ({"kernel_size": 2}, "kernel_size must be a positive odd integer, got 2"),
        ({"kernel_size": 3.0}, "kernel_size must be a positive odd integer, got 3.0"),
        ({"image_shape": (6, 8)}, r"image_shape must be \(channel, height, width\), got \(6, 8\)"),
        ({"image_shape": (1, 0, 8)}, r"image_shape must be positive integers, got \(1, 0, 8\)"),
    ],
)
def test_conv_networks_refuse_what_does_not_fit_together(network, options, message):
    options = {"image_shape": (1, 6, 8), "channels": (4, 3), "strides": (2, 1)} | options
    size = {"outputs": 5} if network is nets.ConvEncoder else {"latent_dim": 5}
    with pytest.raises(ValueError, match=message):
        network(**size, **options)


def test_conv_encoder_refuses_images_of_another_shape():
    encoder = nets.ConvEncoder((1, 6, 4), 5, channels=(3,), strides=(1,))
    with pytest.raises(
        ValueError, match=r"images must have the shape \(\.\.\., 1, 6, 4\), got \(6, 1, 4, 4\)"
    ):
        encoder(torch.rand(6, 1, 4, 4))


@pytest.mark.parametrize(("scheme", "std"), [("he", (2 / 500) ** 0.5), (0.01, 0.01), (0.0, 0.0)])
def test_initialise_draws_weights_of_the_stated_spread_and_zero_biases(scheme, std):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(500, 400), nn.Sequential(nn.ReLU(), nn.Linear(500, 300)))
    assert nets.initialise(network, scheme) is network
    for layer in (network[0], network[1][1]):
        assert layer.weight.std().item() == pytest.approx(std, rel=0.01)
        assert not layer.bias.any()


@pytest.mark.parametrize(
    ("layer", "inputs"),
    [(nn.Linear(400, 300), 400), (nn.Conv2d(40, 50, 3), 360), (nn.ConvTranspose2d(60, 50, 4, stride=2), 240)],
)
def test_initialise_counts_what_meets_in_an_output(layer, inputs):
    torch.manual_seed(0)
    std = nets.initialise(layer, "he").weight.std().item()
    assert std == pytest.approx((2 / inputs) ** 0.5, rel=0.02)
    weight = nets.initialise(layer, "glorot").weight
    assert not layer.bias.any()
    fans = layer.weight[0].numel() + layer.weight[:, 0].numel()  # as Keras has it, whatever the stride
    assert weight.std().item() == pytest.approx((2 / fans) ** 0.5, rel=0.02)
    assert weight.abs().max().item() == pytest.approx((6 / fans) ** 0.5, rel=0.02)  # uniform


@pytest.mark.parametrize("scheme", ["xavier", -0.1, None])
def test_initialise_refuses_an_unknown_scheme(scheme):
    with pytest.raises(
        ValueError, match=f"scheme must be 'he', 'glorot' or a standard deviation.*got {scheme!r}"
    ):
        nets.initialise(nn.Linear(2, 2), scheme)


def test_one_hot_vectors_have_a_one_in_the_place_of_the_label():
    assert nets.OneHot(3)(torch.tensor([2, 0])).tolist() == [[0, 0, 1], [1, 0, 0]]


@pytest.mark.parametrize("classes", [1, 0, 2.0])
def test_one_hot_needs_two_classes_at_least(classes):
    with pytest.raises(ValueError, match=f"classes must be an integer of 2 or more, got {classes!r}"):
        nets.OneHot(classes)


def test_concatenated_puts_the_condition_behind_the_input():
    network = nets.Concatenated(torch.nn.Identity(), event_dim=2)
    x, condition = torch.rand(4, 1, 2, 3), torch.rand(5, 7)
    joined = network(x, condition)
    assert joined.shape == (4, 5, 13)
    assert torch.equal(joined[3, 2], torch.cat([x[3, 0].flatten(), condition[2]]))
