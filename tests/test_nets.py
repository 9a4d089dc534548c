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
