"""FlowTok from images to captions: the text tokenizer, the reversed flow, and both together."""

import torch

from onetok.data.captions import VOCABULARY, CaptionTokenizer, captions_of
from onetok.nn.quantizers import Posterior
from onetok.sampling.seeds import ImageRandom
from onetok.study.schema.architecture import TransformerSize
from onetok.systems.flowtok.model import FlowCaptioner
from onetok.systems.flowtok.sampling import sample_flow
from onetok.systems.flowtok.schema import (
    CaptionFlowConfig,
    CaptionFlowLoss,
    FlowSampling,
    FlowTextConfig,
    FlowTextLoss,
    ProjectorSettings,
    TextPrior,
)
from onetok.systems.flowtok.text_tokenizer import FlowText
from onetok.systems.registry import generator_system, text_tokenizer_system
from onetok.systems.saved import load_model, save_model

CPU = torch.device("cpu")
N, C, S = 6, 4, 12  # tokens, channels, width of text states
SIZE = TransformerSize(width=32, layers=2, heads=4)
PROJECTOR = ProjectorSettings(layers=1, heads=3, hidden=20, dropout=0.1)
VOCAB = (0, 5, 9, 49406, 49407)
TEXT = FlowTextConfig(channels=C, projector=PROJECTOR, decoder=SIZE, tokens=N, text_width=S, vocabulary=VOCAB)
FLOW = CaptionFlowConfig(scale=0.5, text_scale=2.0, init_std=0.02, size=SIZE, tokens=N, channels=C)
LOSS = FlowTextLoss(prior=TextPrior(form="normal", weight=0.0))


def posterior(rows=3):
    return Posterior(torch.randn(rows, N, C), torch.full((rows, N, C), -4.0))


def test_captions_come_back_from_their_ids():
    captions = ["a red circle left of a blue square", "three triangles", ""]
    assert captions_of(CaptionTokenizer(16)(captions)) == captions


def test_a_caption_without_an_end_is_all_that_was_decoded():
    ids = CaptionTokenizer(16)(["two circles"])
    assert captions_of(ids[:, :3]) == ["two circles"]


def test_the_text_tokenizer_names_ids_of_its_vocabulary_alone():
    torch.manual_seed(0)
    model = FlowText(TEXT).eval()
    ids = model.decode(model.encode(torch.randn(2, N, S)).mean)
    assert ids.shape == (2, N) and set(ids.flatten().tolist()) <= set(VOCAB)
    assert model.decoder.head.out_features == len(VOCAB)


def test_a_text_tokenizer_of_all_of_clip_names_every_id():
    model = FlowText(TEXT.replace(vocabulary=()))
    assert model.decoder.head.out_features == VOCABULARY
    assert torch.equal(model.vocabulary, torch.arange(VOCABULARY))


def test_a_text_tokenizer_learns_to_rebuild_captions():
    torch.manual_seed(0)
    model, ids = FlowText(TEXT), torch.tensor(VOCAB)[torch.randint(5, (8, N))]
    states = torch.randn(8, N, S)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(150):
        losses = model.loss(states, ids, LOSS)
        optimizer.zero_grad()
        losses["total"].backward()
        optimizer.step()
    model.eval()
    assert torch.equal(model.decode(model.encode(states).mean), ids)


def test_the_prior_is_weighed_into_the_loss_of_text():
    torch.manual_seed(0)
    model = FlowText(TEXT).eval()
    settings = FlowTextLoss(prior=TextPrior(form="normal", weight=0.25))
    losses = model.loss(torch.randn(2, N, S), torch.full((2, N), 5), settings)
    torch.testing.assert_close(losses["total"], losses["caption"] + 0.25 * losses["prior"])


def test_the_reversed_flow_starts_from_scaled_image_tokens():
    mean, log_variance = posterior()
    start = FlowCaptioner(FLOW).source(Posterior(mean, log_variance))
    noise = torch.randn_like(mean)
    expected = 0.5 * Posterior(mean, log_variance).at(noise)
    torch.testing.assert_close(start.at(noise), expected)


def test_a_flow_of_zero_velocity_leaves_the_image_tokens_where_they_are():
    """As initialised, the network's output is 0: what comes out is the source, by the scales of both ends."""
    model, images = FlowCaptioner(FLOW).eval(), posterior()
    settings = FlowSampling(kind="flow", steps=3, guidance=2.0)
    sampled = generator_system(model).sample(model, images, settings, ImageRandom(7, [0, 1, 2], CPU))
    noise = ImageRandom(7, [0, 1, 2], CPU).normal(N, C)
    torch.testing.assert_close(sampled, images.at(noise) * 0.5 / 2.0)


def test_a_caption_is_a_function_of_its_image_and_number():
    torch.manual_seed(0)
    model, images = FlowCaptioner(FLOW).eval(), posterior(4)
    torch.nn.init.normal_(model.output.weight, std=0.5)
    settings = FlowSampling(kind="flow", steps=4, guidance=2.0)
    both = sample_flow(model, images, settings, ImageRandom(0, [0, 1, 2, 3], CPU))
    second = Posterior(images.mean[1:2], images.log_variance[1:2])
    torch.testing.assert_close(sample_flow(model, second, settings, ImageRandom(0, [1], CPU)), both[1:2])


def test_the_reversed_flow_learns_a_velocity_from_images_to_text():
    torch.manual_seed(0)
    model, latents = FlowCaptioner(FLOW), torch.randn(64, N, C)
    # A caption is its image with channels turned by 90 degrees in pairs: so no two ways of the flow cross.
    first, second = latents.chunk(2, dim=2)
    text = Posterior(torch.cat([-second, first], dim=2), torch.full_like(latents, -20.0))
    settings, optimizer = CaptionFlowLoss(null_share=0.0), torch.optim.Adam(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(200):
        losses.append(model.loss(latents, text, settings)["total"])
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < 0.3 * losses[0]
    images = Posterior(latents, torch.full_like(latents, -20.0))
    euler = FlowSampling(kind="flow", steps=100, guidance=1.0)
    found = sample_flow(model.eval(), images, euler, ImageRandom(0, range(64), CPU)).detach()
    assert (found - text.mean).square().mean() < 0.25 * (latents / 4 - text.mean).square().mean()


def test_both_models_are_saved_and_loaded(tmp_path):
    torch.manual_seed(0)
    for number, model in enumerate((FlowText(TEXT).eval(), FlowCaptioner(FLOW).eval())):
        folder = tmp_path / str(number)
        folder.mkdir()
        save_model(model, folder)
        loaded = load_model(folder, CPU)
        assert type(loaded) is type(model) and loaded.config == model.config
    assert text_tokenizer_system(FlowText).kind == "flowtok-text"
