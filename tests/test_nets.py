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


@pytest.mark.parametrize(("scheme", "std"), [("he", (2 / 500) ** 0.5), (0.01, 0.01), (0.0, 0.0)])
def test_initialise_draws_weights_of_the_stated_spread_and_zero_biases(scheme, std):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(500, 400), nn.Sequential(nn.ReLU(), nn.Linear(500, 300)))
    assert nets.initialise(network, scheme) is network
    for layer in (network[0], network[1][1]):
        assert layer.weight.std().item() == pytest.approx(std, rel=0.01)
        assert not layer.bias.any()


@pytest.mark.parametrize("scheme", ["xavier", -0.1, None])
def test_initialise_refuses_an_unknown_scheme(scheme):
    with pytest.raises(ValueError, match=f"scheme must be 'he' or a standard deviation.*got {scheme!r}"):
        nets.initialise(nn.Linear(2, 2), scheme)
