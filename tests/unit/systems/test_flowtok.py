"""FlowTok and its image tokenizer: what sampling and training do that the golden cases do not show."""

import math
from types import SimpleNamespace

import pytest
import torch
import yaml
from torch import nn
from torch.distributions import Normal, kl_divergence

from onetok.api.generator import CaptionImageGenerator
from onetok.api.saved import Pretrained
from onetok.api.tokenizer import ImageTokenizer
from onetok.data.batches import Batch
from onetok.errors import OnetokError
from onetok.losses.alignment import contrastive_alignment, cosine_alignment
from onetok.losses.flow import SPREAD, between, draw_times, flat_divergence, swap_targets, velocity
from onetok.networks.caption_conditions import EncodedCaptions
from onetok.networks.registry import build_clip
from onetok.nn.quantizers import Posterior
from onetok.nn.text_condition import TextCondition
from onetok.sampling.seeds import ImageRandom
from onetok.speed.steps import work_of
from onetok.study.load import build_study, read_params
from onetok.study.schema.architecture import GaussianConfig, TransformerSize
from onetok.systems.flowtok import sampling as sampling_page
from onetok.systems.flowtok.image_tokenizer import FlowTiTok, RotaryEmbedding
from onetok.systems.flowtok.model import FlowTok, prior_term
from onetok.systems.flowtok.schema import (
    SIZES,
    ContrastiveAlignment,
    CosineAlignment,
    FlowLoss,
    FlowSampling,
    FlowTiTokConfig,
    FlowTokConfig,
    ProjectorSettings,
    TextPrior,
)
from onetok.systems.registry import (
    build_generator,
    build_tokenizer,
    generator_objective,
    generator_system,
    shapes_of,
)
from onetok.systems.titok.schema import TiTokInit
from onetok.training.objectives import LatentObjective
from tests.conftest import REPOSITORY
from tests.factories.studies import FOLDERS, contract_study

CPU = torch.device("cpu")
N, C, S = 6, 4, 12  # tokens and text states, channels, width of text states
CONFIG = FlowTokConfig(
    size=TransformerSize(width=32, layers=3, heads=4),
    projector=ProjectorSettings(layers=2, heads=3, hidden=20, dropout=0.1),
    tokens=N,
    channels=C,
    text_width=S,
    scale=0.5,
    alignment_target="mlp",
    init_std=0.02,
)
CONTRASTIVE = ContrastiveAlignment(kind="contrastive", weight=1.0)
LOSS = FlowLoss(prior=TextPrior(form="normal", weight=1e-4), alignment=CONTRASTIVE, null_share=0.5)
SIZE = TransformerSize(width=16, layers=1, heads=2)
TOKENIZER = FlowTiTokConfig(
    image_size=16,
    encoder=SIZE,
    decoder=SIZE,
    encoder_patch=4,
    decoder_patch=4,
    tokens=5,
    quantizer=GaussianConfig(channels=4),
    text_states=5,
    text_width=12,
    init=TiTokInit(
        linear_std=None, positions="normal", position_scale=1.0, query_key_gain=2.0, output_gain=1.0
    ),
)


@pytest.fixture
def flow():
    """A model that is not at its start, where it stands still."""
    torch.manual_seed(0)
    model = FlowTok(CONFIG).eval()
    for parameter in model.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=parameter.shape[-1] ** -0.5)
    return model


def conditions(images):
    """Return the condition of some of ten captions; FlowTok reads neither pooled states nor scores."""
    rows, generator = torch.tensor(list(images)), torch.Generator().manual_seed(3)
    states, unread = torch.randn(10, N, S, generator=generator)[rows], torch.zeros(len(rows), 0)
    return TextCondition(states, unread, torch.zeros(len(rows)), states[0], unread[0])


def draw(model, images, seed=7, steps=5, guidance=3.0):
    settings = FlowSampling(kind="flow", steps=steps, guidance=guidance)
    return generator_system(model).sample(model, conditions(images), settings, ImageRandom(seed, images, CPU))


# ---------------------------------------------------------------------------------------------- the image tokenizer


def test_one_layout_serves_every_size_of_image():
    small, large = FlowTiTok(TOKENIZER), FlowTiTok(TOKENIZER.replace(image_size=32))
    shapes = [{k: v.shape for k, v in model.state_dict().items()} for model in (small, large)]
    assert shapes[0] == shapes[1]
    large.load_state_dict(small.state_dict())
    images, text = torch.rand(1, 3, 32, 32), torch.randn(1, 5, 12)
    assert large.eval()(images, text).images.shape == images.shape


def test_attention_sees_how_far_patches_are_from_each_other_and_not_where_they_are():
    """Products of turned queries and keys are functions of the rows and the columns between them."""
    side, rotary = 4, RotaryEmbedding(4, 8)
    query, key = torch.randn(2, 8)
    turned = [rotary(x.expand(1, 1, side**2, 8))[0, 0].view(side, side, 8) for x in (query, key)]
    products = torch.einsum("abd,ced->abce", *turned)
    assert torch.allclose(products[0, 0, 1, 2], products[2, 1, 3, 3], atol=1e-5)
    assert not torch.allclose(products[0, 0, 1, 2], products[0, 0, 2, 1], atol=1e-3)
    assert torch.equal(turned[0][0, 0], query), "the first patch does not turn"


def test_latent_tokens_and_text_do_not_turn():
    x = torch.randn(2, 3, 16 + 5, 8)
    turned = RotaryEmbedding(4, 8)(x)
    assert torch.equal(turned[:, :, 16:], x[:, :, 16:])
    assert torch.allclose(turned.norm(dim=-1), x.norm(dim=-1), atol=1e-5)


def test_heads_without_pairs_of_channels_for_row_and_column_are_an_error():
    with pytest.raises(ValueError, match=r"decoder: heads of 6 channels, but a rotary embedding needs pairs"):
        TOKENIZER.replace(decoder=TransformerSize(width=12, layers=1, heads=2))


@torch.no_grad()
def test_the_tokenizer_starts_as_published():
    """All linear layers, packed projections too, from one truncated normal; positions and tokens from D^-1/2."""
    torch.manual_seed(0)
    size = TransformerSize(width=64, layers=2, heads=2)
    init = TiTokInit(
        linear_std=0.02, positions="normal", position_scale=1.0, query_key_gain=1.0, output_gain=1.0
    )
    model = FlowTiTok(TOKENIZER.replace(encoder=size, decoder=size, init=init))
    for layer in (
        model.encoder.blocks[0].attention.qkv,
        model.decoder.blocks[1].mlp.up,
        model.text.projection,
    ):
        assert abs(float(layer.weight.std()) - 0.02) < 0.002 and not layer.bias.any()
    for table in (model.latent_tokens, model.encoder.latent_positions, model.decoder.mask_token):
        assert abs(float(table.std()) - 64**-0.5) < 0.03


# ---------------------------------------------------------------------------------------------- losses


def test_the_way_from_text_to_image_is_straight():
    text, image = torch.randn(2, 3, N, C)
    ends = [between(text, image, torch.full((3,), t)) for t in (0.0, 1.0)]
    assert torch.equal(ends[0], text) and torch.allclose(ends[1], image + SPREAD * text)
    assert torch.allclose(ends[1] - ends[0], velocity(text, image), atol=1e-6)


def test_times_are_logit_normal():
    torch.manual_seed(0)
    t = draw_times(50_000, CPU)
    assert t.min() > 0 and t.max() < 1
    logits = t.logit()
    assert abs(float(logits.mean())) < 0.02 and abs(float(logits.std()) - 1) < 0.02


@pytest.mark.parametrize(
    ("marked", "targets", "left"),
    [
        ([1, 4, 5], [0, 4, 2, 3, 5, 1], [1, 4, 5]),
        ([0, 3], [3, 1, 2, 0, 4, 5], [0, 3]),
        ([2], [0, 1, 2, 3, 4, 5], []),  # nobody to swap with
        ([], [0, 1, 2, 3, 4, 5], []),
    ],
)
def test_marked_items_take_the_target_of_the_next(marked, targets, left):
    images = torch.arange(6.0)[:, None, None].expand(6, N, C)
    marks = torch.zeros(6, dtype=torch.bool)
    marks[marked] = True
    swapped, kept = swap_targets(images, marks)
    assert swapped[:, 0, 0].tolist() == targets
    assert kept.nonzero().flatten().tolist() == left


def test_both_forms_of_the_prior():
    mean, log_variance = 2 * torch.randn(3, N, C), torch.randn(3, N, C)
    posterior = Posterior(mean, log_variance)
    normal = Normal(mean, (0.5 * log_variance).exp())
    expected = kl_divergence(normal, Normal(0.0, 1.0)).sum(dim=(1, 2)).mean()
    assert torch.allclose(prior_term(posterior, TextPrior(form="normal", weight=1.0)), expected)
    flat = prior_term(posterior, TextPrior(form="flat", weight=1.0))
    more = 0.5 * ((0.3 * mean) ** 6 - mean**2).sum(dim=(1, 2)).mean()
    assert torch.allclose(flat, expected + more, rtol=1e-4)
    means = torch.tensor([0.0, 2.0, 3.0, 6.0]).view(1, 4, 1)
    costs = flat_divergence(means, torch.zeros_like(means))[0].tolist()
    assert costs[0] == 0 and costs[1] < 0.03 and costs[2] < 0.3 < 15 < costs[3]


def test_alignment_prefers_the_own_caption():
    tokens = torch.randn(5, N, C)
    scale = torch.tensor(-math.log(0.07))
    own, other = (
        contrastive_alignment(tokens, tokens, scale),
        contrastive_alignment(tokens, tokens.roll(1, dims=0), scale),
    )
    assert own < 0.1 and other > 1
    assert torch.allclose(contrastive_alignment(tokens, 3 * tokens, scale), own, atol=1e-6), (
        "directions alone count"
    )
    states = torch.randn(5, N, C)
    assert torch.allclose(
        contrastive_alignment(tokens, states, scale), contrastive_alignment(states, tokens, scale)
    )


def test_cosine_alignment_has_a_margin():
    tokens = torch.randn(5, N, C)
    assert float(cosine_alignment(tokens, 3 * tokens, margin=0.0)) == pytest.approx(0, abs=1e-6)
    assert float(cosine_alignment(tokens, -tokens, margin=0.5)) == pytest.approx(1.5)
    tokens, states = torch.tensor([[[1.0, 0.0]]]), torch.tensor([[[0.6, 0.8]]])
    assert float(cosine_alignment(tokens, states, margin=0.4)) == pytest.approx(0, abs=1e-6)
    assert float(cosine_alignment(tokens, states, margin=0.1)) == pytest.approx(0.3)


@torch.no_grad()
def test_the_average_of_neighbouring_channels_is_a_target_without_parameters():
    model = FlowTok(CONFIG.replace(alignment_target="average"))
    states = torch.randn(2, N, S)
    expected = states.unflatten(2, (C, S // C)).mean(dim=3)
    torch.testing.assert_close(model.alignment(states), expected)
    assert not list(model.alignment.parameters())


@pytest.mark.parametrize("target", ["mlp", "average"])
@pytest.mark.parametrize("alignment", [CONTRASTIVE, CosineAlignment(kind="cosine", weight=1.0, margin=0.1)])
def test_every_trained_parameter_gets_a_gradient_with_every_alignment(target, alignment):
    """Training on several processes refuses others."""
    study = contract_study()
    entry = study.generators["flowtok_tiny/tiny"]
    entry = entry.replace(
        model=entry.model.replace(alignment_target=target), loss=entry.loss.replace(alignment=alignment)
    )
    shapes = shapes_of(study, entry)
    states = torch.randn(4, shapes.text.length, shapes.text.width)
    unread = torch.zeros(4, 0)
    condition = TextCondition(states, unread, torch.zeros(4), states[0], unread[0])
    objective = generator_objective(study, entry, lambda batch: condition, None).train()
    latents = torch.randn(4, 2, shapes.tokens.length, shapes.tokens.channels)
    objective(Batch.of(latents, torch.zeros(4)), 0)["total"].backward()
    assert all(p.grad is not None for p in objective.parameters() if p.requires_grad)


def test_terms_and_their_weights(flow):
    torch.manual_seed(1)
    settings = FlowLoss(
        prior=TextPrior(form="flat", weight=0.3), alignment=CONTRASTIVE.replace(weight=2.0), null_share=0.1
    )
    losses = flow.train().loss(torch.randn(5, N, C), conditions(range(5)), settings)
    assert losses.keys() == {"total", "flow", "prior", "alignment"}
    assert torch.allclose(losses["total"], losses["flow"] + 0.3 * losses["prior"] + 2 * losses["alignment"])


def test_every_parameter_learns_and_the_flow_moves_its_own_start(flow):
    torch.manual_seed(1)
    flow.train().loss(torch.randn(4, N, C), conditions(range(4)), LOSS)["total"].backward()
    assert all(p.grad is not None and p.grad.any() for p in flow.parameters())
    flow.zero_grad()
    flow.loss(torch.randn(4, N, C), conditions(range(4)), LOSS)["flow"].backward()
    assert flow.projector.head.weight.grad.any(), "the gradient passes through the text tokens"
    assert flow.alignment[0].weight.grad is None


@pytest.mark.parametrize("training", [True, False])
def test_conditions_are_dropped_and_dropout_is_on_in_training_alone(flow, training, monkeypatch):
    seen = []
    modulation = flow.modulation
    monkeypatch.setattr(flow, "modulation", lambda t, null: seen.append(null) or modulation(t, null))
    torch.manual_seed(0)
    always = LOSS.replace(null_share=1 - 1e-9)
    flow.train(training).loss(torch.randn(4, N, C), conditions(range(4)), always)
    assert seen[0].tolist() == [training] * 4
    posteriors = [flow.source(conditions(range(4))) for _ in range(2)]
    assert torch.equal(*(posterior.mean for posterior in posteriors)) is not training


def test_latents_are_scaled_and_swapped_on_the_way(flow, monkeypatch):
    """What the DiT is given, from the draws: text tokens at the posterior's mean, times of 1, all items marked."""
    given = []
    monkeypatch.setattr(flow, "forward", lambda x, m: given.append(x) or torch.zeros_like(x))
    monkeypatch.setattr("onetok.systems.flowtok.model.draw_times", lambda count, device: torch.ones(count))
    latents = torch.randn(4, N, C)
    flow.train().loss(latents, conditions(range(4)), LOSS.replace(null_share=1 - 1e-9))
    assert torch.allclose(given[0], CONFIG.scale * latents.roll(-1, dims=0), atol=1e-3)


def test_the_objective_draws_latents_from_their_posterior(flow, monkeypatch):
    given = []
    monkeypatch.setattr(flow, "loss", lambda x, c, s: given.append((x, c, s)) or {"total": torch.zeros(())})
    mean = torch.randn(3, N, C)
    batch = Batch.of(torch.stack([mean, torch.full_like(mean, -60.0)], dim=1), torch.zeros(3))
    LatentObjective(flow, lambda b: "condition", LOSS)(batch, 0)
    assert torch.allclose(given[0][0], mean) and given[0][1:] == ("condition", LOSS)


# ---------------------------------------------------------------------------------------------- sampling


def test_an_image_hardly_depends_on_its_batch_and_is_its_seeds(flow):
    together = draw(flow, range(4))
    alone = torch.cat([draw(flow, [i]) for i in range(4)])
    assert together.shape == (4, N, C) and together.isfinite().all()
    assert (together - alone).norm() <= 1e-5 * alone.norm()
    assert torch.equal(together, draw(flow, range(4)))
    assert not torch.allclose(together, draw(flow, range(4), seed=8), atol=1e-2)


@torch.inference_mode()
@pytest.mark.parametrize("guidance", [1.0, 3.0])
@pytest.mark.parametrize("prepared", [64, 2])
def test_sampling_is_the_plain_loop(flow, guidance, prepared, monkeypatch):
    """The same latents as branch by branch, with all that a step needs computed in it."""
    monkeypatch.setattr(sampling_page, "PREPARED", prepared)
    x = flow.source(conditions([2, 5])).at(ImageRandom(7, [2, 5], CPU).normal(N, C))
    for t in torch.linspace(0, 1 - SPREAD, 5):
        own, null = (
            flow(x, flow.modulation(t.expand(2), torch.full((2,), marked))) for marked in (False, True)
        )
        x = x + (1 - SPREAD) / 5 * (null + guidance * (own - null))
    drawn = draw(flow, [2, 5], guidance=guidance)
    assert (drawn - x / CONFIG.scale).norm() <= 1e-5 * drawn.norm()


@pytest.mark.parametrize(("guidance", "rows"), [(1.0, 3), (3.0, 6)])
def test_a_step_is_one_call_of_the_dit_and_the_text_is_read_once(flow, guidance, rows, monkeypatch):
    calls, texts = [], []
    forward, project = flow.forward, flow.projector.forward
    monkeypatch.setattr(flow, "forward", lambda x, m: calls.append(len(x)) or forward(x, m))
    monkeypatch.setattr(flow.projector, "forward", lambda s: texts.append(len(s)) or project(s))
    draw(flow, range(3), guidance=guidance)
    assert calls == [rows] * 5 and texts == [3]


def test_the_flow_starts_at_text_tokens_that_are_drawn(flow):
    torch.manual_seed(0)
    still = FlowTok(CONFIG).eval()  # at its start, where every velocity is 0
    posterior = still.source(conditions([1]))
    expected = posterior.at(ImageRandom(7, [1], CPU).normal(N, C)) / CONFIG.scale
    assert torch.allclose(draw(still, [1]), expected, atol=1e-6)


def test_one_step_goes_all_the_way(flow):
    assert draw(flow, [0], steps=1).isfinite().all()


def test_the_work_of_a_step_against_a_formula(flow):
    work = work_of(flow, lambda: draw(flow, range(2), guidance=3.0))
    assert work.count == 5
    width, layers, rows = 32, 3, 2 * 2 * N
    layer = 12 * width**2
    linears = layers * layer + 2 * C * width
    attention = layers * 4 * 4 * N**2 * width
    prepared, *steps = work.steps
    assert {step.flops for step in steps} == {2 * rows * linears + attention}
    biases = layers * 9 * width + width + C
    assert {step.weight_bytes for step in steps} == {4 * (linears + biases)}
    assert prepared.weight_bytes == 0 and prepared.flops > 0


# ---------------------------------------------------------------------------------------------- start, params


@torch.no_grad()
def test_the_start():
    torch.manual_seed(0)
    model = FlowTok(CONFIG)
    for block in model.each_block():
        assert not block.modulation.weight.any() and not block.modulation.bias.any()
        bound = math.sqrt(6 / (4 * 32))  # Xavier's, of the packed projection as one layer
        assert bound * 0.95 < float(block.attention.qkv.weight.abs().max()) <= bound
    assert not model.final_modulation.weight.any() and not model.output.weight.any()
    assert abs(float(model.time[2].weight.std()) - 0.02) < 0.002
    assert model.projector.head.bias.any(), "PyTorch's own start"
    assert float(model.log_scale.exp()) == pytest.approx(1 / 0.07)
    modulation = model.modulation(torch.rand(2), torch.tensor([False, True]))
    assert not model(torch.randn(2, N, C), modulation).any()


def test_sizes_are_the_paper_s():
    assert {name: (s.layers, s.width, s.heads) for name, s in SIZES.items() if name != "tiny"} == {
        "B": (12, 768, 12),
        "XL": (28, 1152, 16),
        "H": (36, 1280, 20),
    }


def refusal(file, old, new):
    """Return what is said of the tests' params with another value in them."""
    contents = {k: v for folder in FOLDERS for k, v in read_params(REPOSITORY / folder)[0].items()}
    path = REPOSITORY / FOLDERS[1] / "params" / file
    text = path.read_text()
    assert old in text
    with pytest.raises(OnetokError) as error:
        build_study(contents | {f"params/{file}": yaml.safe_load(text.replace(old, new))})
    return str(error.value)


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        (
            "tokenizers/flowtok_tiny.yaml",
            "tokens: 16",
            "tokens: 8",
            "text: clip/scenes gives 16 states, but an image has 8 tokens, expected as many",
        ),
        (
            "tokenizers/flowtok_tiny.yaml",
            "{kind: text, augmented_prefixes: []}",
            "{kind: states, text: clip/scenes, augmented_prefixes: []}",
            "tokens: flowtok_tiny/tiny keeps the states that enter the encoder's last block, but flowtok reads",
        ),
        (
            "generators/flowtok_tiny.yaml",
            "heads: 4",
            "heads: 5",
            "model.projector.heads: 5 do not divide the width 64 of clip/scenes's states",
        ),
        (
            "generators/flowtok_tiny.yaml",
            "aesthetic: null",
            "aesthetic: 6.5",
            "text.aesthetic: flowtok_tiny/tiny reads no score, expected null",
        ),
        ("generators/flowtok_tiny.yaml", "guidance: 2.0", "guidance: 0.5", "greater than or equal to 1"),
        ("generators/flowtok_tiny.yaml", "size: tiny", "size: XXL", "'tiny', 'B', 'XL' or 'H'"),
        (
            "generators/flowtok_tiny.yaml",
            "pretrained: flowtok_tiny/tiny",
            "pretrained: maskgen/kl",
            "pretrained: maskgen/kl is of kind maskgen-kl, expected flowtok",
        ),
        ("tokenizers/flowtok_tiny.yaml", "kind: kl, channels: 8", "kind: vq, channels: 8", "'kl'"),
    ],
)
def test_mistake(file, old, new, message):
    assert message in refusal(file, old, new)


def test_fine_tuning_goes_on_with_the_first_stage_and_its_loss():
    study = contract_study()
    first = study.generators["flowtok_tiny/tiny"]
    first = build_generator(first, shapes_of(study, first)).eval()
    entry, made = study.generators["flowtok_tiny/tiny-tuned"], SimpleNamespace(generator=lambda name: first)
    objective = generator_objective(study, entry, lambda batch: None, made)
    assert isinstance(objective, LatentObjective) and objective.model.training
    found = objective.model.state_dict()
    assert all(torch.equal(found[name], value) for name, value in first.state_dict().items())
    assert objective.settings == study.generators["flowtok_tiny/tiny"].loss


# ---------------------------------------------------------------------------------------------- use


@pytest.fixture(scope="module")
def generator():
    """The generator of the tests' params as people load one, with weights as they start."""
    study = contract_study()
    torch.manual_seed(0)
    entry = study.generators["flowtok_tiny/tiny"]
    encoder = build_clip(study.encoders["clip/scenes"]).eval().requires_grad_(False)
    made = SimpleNamespace(text_encoder=lambda name: encoder)
    tokenizer = build_tokenizer(study.tokenizers["flowtok_tiny/tiny"], made)
    tokenizer = ImageTokenizer(Pretrained(tokenizer, encoder, None, None), "flowtok_tiny/tiny", CPU)
    model = build_generator(entry, shapes_of(study, entry))
    return CaptionImageGenerator("flowtok_tiny/tiny", entry, model, tokenizer, encoder, study)


CAPTIONS = ["a red circle", "a blue square"]


def test_images_of_captions_need_no_score(generator):
    images = generator.generate(CAPTIONS, sampling="flowtok_tiny/tiny", seed=0, batch=2)
    assert images.shape == (2, 3, 32, 32) and not torch.equal(*images)
    alone = generator.generate(CAPTIONS, sampling="flowtok_tiny/tiny", seed=0)
    torch.testing.assert_close(images, alone, atol=1e-4, rtol=1e-4)
    with pytest.raises(
        OnetokError, match=r"aesthetic 6.5: flowtok_tiny/tiny takes no aesthetic score, expected none"
    ):
        generator.generate(CAPTIONS, sampling="flowtok_tiny/tiny", seed=0, aesthetic=6.5)


def test_a_text_encoder_with_another_number_of_states_is_said(generator):
    other = SimpleNamespace(text_width=64, pooled_width=64, context_length=77)
    with pytest.raises(OnetokError, match=r"x: its text encoder gives states in number 77, expected 16"):
        CaptionImageGenerator(
            "x", generator.entry, generator.model, generator.tokenizer, other, generator.study
        )


def test_it_reads_the_states_after_the_last_norm(generator):
    encoder = generator.text.encoder
    states = encoder.encode_text(generator.text.tokenize(CAPTIONS))
    assert torch.equal(generator.text.of(CAPTIONS, None).sequence, states.sequence)
    assert torch.equal(EncodedCaptions(encoder, "penultimate").of(CAPTIONS, 5.0).sequence, states.penultimate)
