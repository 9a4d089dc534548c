import math

import pytest
import torch
from torch import nn

from vaebook import vae
from vaebook.distributions import Bernoulli, DiagonalNormal, DiscretisedLogistic
from vaebook.nets import Concatenated, mlp, mlp_decoder
from vaebook.objectives import elbo, log_weights
from vaebook.train import gradient_step


@pytest.fixture
def model() -> vae.VAE:
    torch.manual_seed(0)
    return vae.mlp_vae(latent_dim=3, hidden=(8,), image_shape=(1, 4, 4))


def test_encode_and_decode_return_distributions_over_codes_and_images(model):
    x = torch.rand(5, 1, 4, 4)
    q_z = model.encode(x)
    assert isinstance(q_z, DiagonalNormal)
    assert (q_z.batch_shape, q_z.event_shape) == ((5,), (3,))
    p_x = model.decode(q_z.sample((2,)))
    assert isinstance(p_x, Bernoulli)
    assert (p_x.batch_shape, p_x.event_shape) == ((2, 5), (1, 4, 4))
    assert p_x.log_prob(x).shape == (2, 5)


def test_the_decoder_outputs_logits(model):
    z = torch.randn(5, 3)
    torch.testing.assert_close(model.decode(z).logits, model.decoder(z))


def test_the_default_is_the_network_of_the_source():
    shapes = [tuple(p.shape) for p in vae.mlp_vae().parameters() if p.dim() == 2]
    assert shapes == [(400, 784), (40, 400), (400, 20), (784, 400)]


def test_decoder_mirrors_the_hidden_layers():
    model = vae.mlp_vae(latent_dim=2, hidden=(9, 7), image_shape=(1, 4, 4))
    assert [tuple(p.shape) for p in model.decoder.parameters() if p.dim() == 2] == [(7, 2), (9, 7), (16, 9)]


def test_prior_is_the_standard_normal(model):
    z = torch.randn(4, 3)
    expected = torch.distributions.Normal(0, 1).log_prob(z).sum(-1)
    torch.testing.assert_close(model.prior.log_prob(z), expected)


def test_log_variances_are_held_in_their_range(model):
    with torch.no_grad():
        model.encoder[1][-1].bias.copy_(torch.tensor([0, 0, 0, 1e6, -1e6, 0.0]))
    logvar = model.encode(torch.rand(2, 1, 4, 4)).logvar
    assert logvar.max() == vae.LOGVAR_RANGE[1]
    assert logvar.min() == vae.LOGVAR_RANGE[0]


def test_networks_in_bfloat16_give_distributions_in_float32(model):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        q_z = model.encode(torch.rand(2, 1, 4, 4))
        assert q_z.mu.dtype == torch.float32
        assert model.decode(q_z.mean).logits.dtype == torch.float32


def test_float64_stays_float64(model):
    assert model.double().encode(torch.rand(2, 1, 4, 4, dtype=torch.float64)).mu.dtype == torch.float64


def test_gaussian_likelihood_has_one_variance_fixed_or_learned():
    fixed = vae.GaussianLikelihood(sigma=0.5)
    p_x = fixed(torch.zeros(2, 1, 4, 4))
    torch.testing.assert_close(p_x.variance, torch.full((2, 1, 4, 4), 0.25))
    assert p_x.event_shape == (1, 4, 4)
    assert not fixed.logvar.requires_grad
    learned = vae.GaussianLikelihood(sigma=0.5, learned=True)
    learned(torch.zeros(2, 1, 4, 4)).log_prob(torch.ones(2, 1, 4, 4)).sum().backward()
    assert learned.logvar.grad > 0  # errors of 1 ask for a larger variance than 0.25


def test_learned_sigma_finds_the_standard_deviation_of_the_residuals():
    likelihood = vae.GaussianLikelihood(learned=True)
    x = 0.3 * torch.randn(2000, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    optimizer = torch.optim.Adam(likelihood.parameters(), lr=0.05)
    for _ in range(300):
        optimizer.zero_grad()
        (-likelihood(torch.zeros_like(x)).log_prob(x).mean()).backward()
        optimizer.step()
    assert torch.exp(0.5 * likelihood.logvar).item() == pytest.approx(
        x.square().mean().sqrt().item(), rel=1e-2
    )


def test_the_scale_of_discretised_pixels_is_learned_for_each_channel():
    likelihood = vae.DiscretisedLogisticLikelihood(channels=2, scale=0.1)
    p_x = likelihood(torch.zeros(5, 2, 4, 4))
    assert isinstance(p_x, DiscretisedLogistic)
    torch.testing.assert_close(p_x.mean, torch.full((5, 2, 4, 4), 0.5))  # middle grey
    scales = torch.tensor([0.02, 0.06]).view(2, 1, 1)
    x = DiscretisedLogistic(torch.full((3000, 2, 4, 4), 0.5), scales.log()).sample(
        generator=torch.Generator().manual_seed(0)
    )
    optimizer = torch.optim.Adam(likelihood.parameters(), lr=0.05)
    for _ in range(200):
        optimizer.zero_grad()
        (-likelihood(torch.zeros_like(x)).log_prob(x).mean()).backward()
        optimizer.step()
    torch.testing.assert_close(likelihood.log_scale.exp(), scales, rtol=0.03, atol=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"channels": 0}, "channels must be a positive integer, got 0"),
        ({"scale": 0.0}, r"scale must be positive, got 0\.0"),
        ({"levels": 1}, "levels must be an integer of 2 or more, got 1"),
    ],
)
def test_impossible_discretised_pixels_are_refused(arguments, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        vae.DiscretisedLogisticLikelihood(**arguments)(torch.zeros(1, 3, 2, 2))


def test_reconstruct_and_generate_return_images(model):
    x = torch.rand(5, 1, 4, 4)
    assert model.reconstruct(x).shape == (5, 1, 4, 4)
    torch.testing.assert_close(model.reconstruct(x), model.decode(model.encode(x).mu).mean)
    images = model.generate(6, generator=torch.Generator().manual_seed(1))
    assert images.shape == (6, 1, 4, 4)
    assert ((images > 0) & (images < 1)).all()
    assert torch.equal(images, model.generate(6, generator=torch.Generator().manual_seed(1)))


@pytest.mark.parametrize("latent_dim", [0, -1, 2.0, "2"])
def test_latent_dim_must_be_a_positive_integer(latent_dim):
    with pytest.raises(ValueError, match=f"latent_dim must be a positive integer, got {latent_dim!r}"):
        vae.mlp_vae(latent_dim=latent_dim)


def test_sigma_must_be_positive():
    with pytest.raises(ValueError, match="sigma must be positive, got 0"):
        vae.GaussianLikelihood(sigma=0)


def test_the_convolutional_default_is_the_network_of_the_source():
    model = vae.conv_vae()
    heads = [p.shape for p in model.encoder.parameters() if p.dim() == 2]
    assert heads == [(4, 12544)]
    assert sum(p.numel() for p in model.decoder.parameters()) == 56_385
    with_hidden_layer = vae.conv_vae(hidden=(32,))  # an example in Keras that prints 550,629 parameters
    assert sum(p.numel() for p in with_hidden_layer.parameters()) == 550_629
    q_z = model.encode(torch.rand(3, 1, 28, 28))
    assert (q_z.batch_shape, q_z.event_shape) == ((3,), (2,))
    p_x = model.decode(q_z.sample((4,)))
    assert (p_x.batch_shape, p_x.event_shape) == ((4, 3), (1, 28, 28))


def test_the_weights_of_the_convolutional_vae_start_as_in_keras():
    model = vae.conv_vae(2)
    assert not any(p.any() for p in model.parameters() if p.dim() == 1)
    for weight in (model.encoder.head[0].weight, model.decoder.linear.weight):
        limit = (6 / sum(weight.shape)) ** 0.5
        assert 0.99 * limit < weight.abs().max() <= limit


def test_conv_vae_passes_its_options_to_both_networks():
    model = vae.conv_vae(
        3,
        (2, 8, 8),
        vae.GaussianLikelihood(),
        channels=(5, 6),
        strides=(2, 2),
        hidden=(9, 7),
        decoder_channels=(6, 5, 4),
        decoder_strides=(2, 1, 2),
        kernel_size=5,
    )
    kernels = [tuple(p.shape) for p in model.parameters() if p.dim() == 4]
    assert kernels == [(5, 2, 5, 5), (6, 5, 5, 5), (6, 5, 5, 5), (5, 4, 5, 5), (4, 2, 5, 5)]
    weights = [tuple(p.shape) for p in model.parameters() if p.dim() == 2]
    assert weights == [(9, 24), (7, 9), (6, 7), (24, 3)]
    assert isinstance(model.decode(torch.randn(2, 3)), DiagonalNormal)


def test_convolutions_in_bfloat16_give_distributions_in_float32_near_the_exact_ones():
    torch.manual_seed(0)
    model = vae.conv_vae(3, (1, 8, 8), channels=(8, 8), strides=(1, 2), decoder_channels=(8, 8))
    x = torch.rand(4, 1, 8, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        q_z, p_x = model.encode(x), model.decode(torch.ones(4, 3))
    assert q_z.mu.dtype == p_x.logits.dtype == torch.float32
    torch.testing.assert_close(q_z.mu, model.encode(x).mu, atol=0.02, rtol=0.02)
    torch.testing.assert_close(p_x.logits, model.decode(torch.ones(4, 3)).logits, atol=0.02, rtol=0.02)


def test_a_convolutional_vae_learns_a_bright_corner_from_its_code():
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    model = vae.conv_vae(1, (1, 8, 8), channels=(8, 8), strides=(1, 2), decoder_channels=(8, 8))
    x = torch.zeros(64, 1, 8, 8)
    x[:32, :, :4, :4] = 1
    x[32:, :, 4:, 4:] = 1
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    step = gradient_step(lambda x: {"loss": -elbo(model, x, generator=generator).mean()}, optimizer)
    history = [step(x)["loss"].item() for _ in range(100)]
    assert history[-1] < 0.25 * history[0]
    assert (model.reconstruct(x) - x).abs().mean() < 0.125  # the mean image is off by 0.25 on average


@pytest.mark.parametrize("latent_dim", [0, 2.0])
def test_conv_vae_refuses_an_impossible_code(latent_dim):
    with pytest.raises(ValueError, match=f"latent_dim must be a positive integer, got {latent_dim!r}"):
        vae.conv_vae(latent_dim)


@pytest.fixture
def conditional() -> vae.CVAE:
    torch.manual_seed(0)
    return vae.mlp_cvae(3, (8,), (1, 4, 4), classes=4, conditioner=(5,), learned_prior=True)


LABELS = torch.tensor([0, 3, 1, 1, 2])
SMALL = torch.rand(5, 1, 4, 4, generator=torch.Generator().manual_seed(3))


def test_a_conditional_model_given_its_condition_is_a_model(conditional):
    model = conditional.given(LABELS)
    assert (model.encode(SMALL).batch_shape, model.encode(SMALL).event_shape) == ((5,), (3,))
    assert (model.prior.batch_shape, model.prior.event_shape) == ((5,), (3,))
    p_x = model.decode(model.prior.sample((2,)))
    assert (p_x.batch_shape, p_x.event_shape) == ((2, 5), (1, 4, 4))
    assert elbo(model, SMALL).shape == (5,)
    assert log_weights(model, SMALL, 7).shape == (7, 5)
    assert model.generate(6).shape == (6, 5, 1, 4, 4)
    assert model.reconstruct(SMALL).shape == SMALL.shape


@pytest.mark.parametrize("part", ["encode", "decode", "prior"])
def test_each_part_of_a_conditional_model_depends_on_the_condition(conditional, part):
    def parameters(labels):
        model = conditional.given(labels)
        return {
            "encode": lambda: model.encode(SMALL).mu,
            "decode": lambda: model.decode(torch.ones(5, 3)).logits,
            "prior": lambda: model.prior.mu,
        }[part]()

    changed = LABELS.clone()
    changed[2] = 3
    same = (parameters(LABELS) == parameters(changed)).flatten(1).all(1)
    assert same.tolist() == [True, True, False, True, True]


def test_without_a_learned_prior_every_condition_has_the_standard_normal():
    prior = vae.mlp_cvae(3, (8,), (1, 4, 4)).given(LABELS).prior
    assert torch.equal(prior.mu, torch.zeros(5, 3))
    assert torch.equal(prior.variance, torch.ones(5, 3))


def test_an_encoder_without_the_condition_is_given_the_image_alone():
    torch.manual_seed(0)
    model = vae.mlp_cvae(3, (8,), (1, 4, 4), encoder_conditioned=False)
    assert torch.equal(model.given(LABELS).encode(SMALL).mu, model.given(LABELS + 1).encode(SMALL).mu)
    assert not torch.equal(model.given(LABELS).reconstruct(SMALL), model.given(LABELS + 1).reconstruct(SMALL))


def test_one_code_is_decoded_under_every_condition(conditional):
    model, z = conditional.given(torch.arange(4)), torch.randn(6, 1, 3)
    images = model.decode(z).mean
    assert images.shape == (6, 4, 1, 4, 4)
    torch.testing.assert_close(images[2, 3], conditional.given(LABELS[1:2]).decode(z[2]).mean[0])


def test_the_conditional_default_is_the_network_of_the_source_but_for_its_encoder():
    def shapes(network):
        return [tuple(p.shape) for p in network.parameters() if p.dim() == 2]

    model = vae.mlp_cvae()
    assert shapes(model.conditioner) == [(16, 10), (32, 16), (64, 32)]
    assert shapes(model.decoder) == [(128, 164), (256, 128), (512, 256), (784, 512)]
    assert shapes(model.encoder) == [(512, 848), (256, 512), (128, 256), (200, 128)]
    assert shapes(vae.mlp_cvae(encoder_conditioned=False).encoder)[0] == (512, 784)
    slopes = {module.negative_slope for module in model.modules() if isinstance(module, nn.LeakyReLU)}
    assert slopes == {0.1}


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.tensor([0, 4, 1, 1, 2]), "labels must be from 0 to 3, got 0 to 4"),
        (torch.tensor([-1, 0, 1, 1, 2]), "labels must be from 0 to 3, got -1 to 2"),
        (torch.zeros(5), r"labels must be integers \(torch.int64\), got torch.float32"),
        (torch.tensor([0, 1, 2]), r"each input needs its condition: got \(5,\) inputs and \(3,\) conditions"),
    ],
)
def test_wrong_labels_are_refused(conditional, labels, message):
    with pytest.raises((TypeError, ValueError), match=message):
        elbo(conditional.given(labels), SMALL)


@pytest.fixture
def completing() -> vae.CVAE:
    torch.manual_seed(0)
    encoder, decoder = (
        Concatenated(network, event_dim)
        for network, event_dim in ((mlp(16 + 32, 6), 3), (mlp_decoder(3 + 32, (8,), (1, 4, 4)), 1))
    )
    return vae.CVAE(encoder, decoder, 3, conditioner=nn.Flatten(), prior_network=nn.Linear(32, 6))


HOLE = torch.zeros(4, 4, dtype=torch.bool)
HOLE[:2, :3] = True


def test_observed_shows_the_known_pixels_and_where_they_are():
    x = SMALL.clone()
    x[:, :, :2, :3] = math.nan
    seen = vae.observed(x, HOLE)
    assert seen.shape == (5, 2, 4, 4)
    assert torch.equal(seen[:, 0], SMALL[:, 0].where(~HOLE, 0))
    assert torch.equal(seen[:, 1], (~HOLE).float().expand(5, 4, 4))


def test_the_model_of_missing_pixels_counts_only_them(completing):
    model, z = completing.completing(SMALL, HOLE), torch.randn(5, 3)
    every_pixel = torch.distributions.Bernoulli(logits=model.decode(z).logits, validate_args=False)
    expected = every_pixel.log_prob(SMALL)[:, 0, :2, :3].sum((-2, -1))
    torch.testing.assert_close(model.decode(z).log_prob(SMALL), expected)


def test_what_is_known_stays_and_what_is_missing_is_not_looked_at(completing):
    hidden = SMALL.where(~HOLE, math.nan)
    guesses = completing.complete(hidden, HOLE, 3, generator=torch.Generator().manual_seed(1))
    assert guesses.shape == (3, 5, 1, 4, 4)
    assert torch.equal(guesses[..., ~HOLE], SMALL[..., ~HOLE].expand(3, 5, 1, 10))
    assert guesses.isfinite().all()
    assert guesses[..., HOLE].std(0).min() > 0


def test_where_everything_is_missing_all_images_are_the_same_condition(completing):
    prior = completing.completing(SMALL, torch.ones(4, 4, dtype=torch.bool)).prior
    torch.testing.assert_close(prior.mu, prior.mu[:1].expand(5, 3))


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (HOLE.float(), "the mask of missing pixels must be boolean, got torch.float32"),
        (HOLE[:3], r"the mask of missing pixels, \(3, 4\), does not fit images \(5, 1, 4, 4\)"),
        (~HOLE & HOLE, "no pixel is missing"),
    ],
)
def test_wrong_masks_are_refused(completing, mask, message):
    with pytest.raises((TypeError, ValueError), match=message):
        completing.complete(SMALL, mask)


def test_a_known_pixel_that_is_no_number_is_refused():
    with pytest.raises(ValueError, match="a pixel that is not missing is not a finite number"):
        vae.observed(SMALL.where(HOLE, math.nan), HOLE)


def test_normal_likelihood_reads_means_and_log_variances():
    p_x = vae.NormalLikelihood((-1.0, 1.0))(torch.tensor([[0.5, 2.0, -3.0, 0.25]]))
    assert p_x.event_shape == (2,)
    assert p_x.mu.tolist() == [[0.5, 2.0]]
    assert p_x.logvar.tolist() == [[-1.0, 0.25]]


def test_completion_keeps_what_is_known_and_fills_in_the_rest():
    torch.manual_seed(0)
    x = torch.rand(3, 1, 4, 6)
    missing = torch.zeros(1, 4, 6, dtype=torch.bool)
    missing[:, 2:] = True
    cvae = vae.completion_cvae(latent_dim=2, hidden=16, image_shape=(1, 4, 6))
    guesses = cvae.complete(x, missing, 7, generator=torch.Generator().manual_seed(0))
    assert guesses.shape == (7, 3, 1, 4, 6)
    assert torch.equal(guesses[..., :2, :], x[..., :2, :].expand(7, -1, -1, -1, -1))
    assert not torch.equal(guesses[0], guesses[1])


def test_completion_has_a_prior_of_its_own_for_each_known_part():
    torch.manual_seed(0)
    cvae = vae.completion_cvae(latent_dim=2, hidden=16, image_shape=(1, 4, 6))
    missing = torch.zeros(1, 4, 6, dtype=torch.bool)
    missing[:, 2:] = True
    x = torch.rand(2, 1, 4, 6)
    prior = cvae.completing(x, missing).prior
    assert not torch.allclose(prior.mean[0], prior.mean[1])
    unseen = cvae.completing(x.where(~missing, torch.nan), missing).prior
    assert torch.equal(unseen.mean, prior.mean)


def test_completion_refuses_a_code_without_dimensions():
    with pytest.raises(ValueError, match="latent_dim must be a positive integer, got 0"):
        vae.completion_cvae(latent_dim=0)
