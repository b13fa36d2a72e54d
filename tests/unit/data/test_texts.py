"""Captions on their way: kept in token caches, read by training, drawn of, scored and plotted."""

from __future__ import annotations

import pickle
import re
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from onetok.data.batches import Batch
from onetok.data.captions import CaptionTokenizer
from onetok.data.images import encode_png
from onetok.data.shards import Shards, write_shards
from onetok.data.sources import Sample, read_splits
from onetok.data.texts import CaptionedTokens, TextCache, write_states, write_texts
from onetok.data.tokens import TokenCache
from onetok.errors import OnetokError
from onetok.metrics.clip_score import clip_scores
from onetok.networks.caption_conditions import CachedCaptions, EncodedCaptions
from onetok.report.plots import captioned_images
from onetok.stages.common.captions import check_prompts, derangement
from onetok.stages.common.runtime import Context
from onetok.stages.common.scoring import open_reference
from onetok.stages.measure_reference import measure_reference
from onetok.stages.plot_figure import by_prompt
from onetok.stages.sample_images import conditions_of, sample_images
from onetok.stages.score_samples import CaptionScores, read_batches
from onetok.stages.train_generator import read_texts
from onetok.study.load import load_study
from onetok.study.plan import plan
from onetok.study.schema.records import Record
from onetok.systems.records import GeneratorSystem
from onetok.systems.saved import save_model
from tests.factories.generators import leave_captioned
from tests.factories.tokenizers import leave_artefact, make_text_encoder
from tests.unit.data.test_captions import TEXTS
from tests.unit.data.test_data import png

CPU = torch.device("cpu")
KEPT = [text for name, text in TEXTS.items() if name != "control characters"] + ["\0 \x1b[31m"]
LONGER = [None, *KEPT[1:4], None, *KEPT[:4]]  # of every image, or none
M = len(KEPT)


def captioned(folder, captions=KEPT, longer=LONGER):
    """Write shards of images with captions."""
    samples = [
        Sample(
            f"key-{i}",
            png(seed=i),
            "png",
            i % 3,
            text,
            Record(aesthetic=4 + i / 4, augmented=other, prompt=None),
        )
        for i, (text, other) in enumerate(zip(captions, longer, strict=True))
    ]
    write_shards(samples, folder, samples_per_shard=3)
    return Shards(folder)


@pytest.fixture
def caches(tmp_path):
    """The folders of two token caches of the same images: captions as they are, and as states."""
    shards = captioned(tmp_path / "shards")
    for name in ("text", "states"):
        folder = tmp_path / name / "captions"
        folder.mkdir(parents=True)
        np.save(tmp_path / name / "tokens.npy", np.arange(M * 2 * 4, dtype=np.uint8).reshape(M, 2, 4))
        np.save(tmp_path / name / "labels.npy", np.zeros(M, dtype=np.int32))
    write_texts(tmp_path / "text/captions", shards, ())
    write_states(tmp_path / "states/captions", shards, (), make_text_encoder(), 3, CPU)
    return tmp_path / "text", tmp_path / "states"


def reader(folder, augmented=0.5, seed=5):
    texts = TextCache(folder / "captions")
    return CaptionedTokens(TokenCache(folder), texts, augmented, seed, CaptionTokenizer(8))


# ---------------------------------------------------------------------------------------------- caches


def test_captions_come_back_as_they_were(caches):
    texts, images = TextCache(caches[0] / "captions"), np.arange(M)
    assert texts.texts(images, np.zeros(M, dtype=bool)) == KEPT
    expected = [other if other is not None else text for text, other in zip(KEPT, LONGER, strict=True)]
    assert texts.texts(images, np.ones(M, dtype=bool)) == expected
    assert texts.texts(np.array([7, 0, 7]), np.array([False, True, True])) == [KEPT[7], KEPT[0], LONGER[7]]
    content = (caches[0] / "captions/texts.bin").read_bytes()
    assert content == "".join(text + (other or "") for text, other in zip(KEPT, LONGER, strict=True)).encode()
    assert texts.aesthetics.tolist() == [4 + i / 4 for i in range(M)]
    copy = pickle.loads(pickle.dumps(texts))
    assert copy.texts(images, np.ones(M, dtype=bool)) == expected


def test_augmented_captions_lose_what_a_captioner_begins_with(tmp_path):
    longer = [
        "The image depicts a cat.",
        "The image depicted a dog.",
        None,
        "The image shows élan, the word.",
    ]
    shards = captioned(tmp_path / "shards", ["a", "b", "c", "The image shows d"], longer)
    write_texts(tmp_path, shards, ("The image depicts ", "The image shows "))
    texts, images = TextCache(tmp_path), np.arange(4)
    stripped = ["A cat.", "The image depicted a dog.", "c", "Élan, the word."]
    assert texts.texts(images, np.ones(4, dtype=bool)) == stripped
    assert texts.texts(images, np.zeros(4, dtype=bool)) == ["a", "b", "c", "The image shows d"]


def test_states_are_those_of_the_captions_and_the_empty_one_comes_first(caches):
    encoder, cache, images = make_text_encoder(), TextCache(caches[1] / "captions"), np.arange(M)
    tokenize = CaptionTokenizer(encoder.context_length)
    longer = [other if other is not None else text for text, other in zip(KEPT, LONGER, strict=True)]
    for captions, found in (
        (KEPT, cache.states(images, np.zeros(M, dtype=bool))),
        (longer, cache.states(images, np.ones(M, dtype=bool))),
        ([""], cache.empty_states()),
    ):
        states = encoder.encode_text(tokenize(captions))
        assert torch.allclose(found["sequence"], states.penultimate, atol=4e-3, rtol=1e-3)
        assert torch.allclose(found["pooled"], states.pooled, atol=4e-3, rtol=1e-3)
        assert found["sequence"].dtype == found["pooled"].dtype == torch.float32


def test_states_that_float16_cannot_hold_are_refused(tmp_path):
    encoder = make_text_encoder()
    with torch.no_grad():
        encoder.network.text_projection.mul_(1e8)
    with pytest.raises(OnetokError, match=r"a state of the text encoder holds .*, expected what float16"):
        write_states(tmp_path, captioned(tmp_path / "shards"), (), encoder, 3, CPU)


def test_both_caches_give_the_same_condition(caches):
    encoder = make_text_encoder()
    positions, indices = np.arange(40), np.arange(40) % (2 * M)
    text, states = (reader(folder)(positions, indices) for folder in caches)
    assert torch.equal(text.inputs, states.inputs) and torch.equal(text.aesthetics, states.aesthetics)
    assert states.captions.shape == (40, 0) and text.sequence.shape == (40, 0, 0)
    encoded = EncodedCaptions(encoder, "penultimate")(text)
    cached = CachedCaptions(TextCache(caches[1] / "captions").empty_states())(states)
    assert torch.equal(encoded.aesthetic, cached.aesthetic)
    for part in ("sequence", "pooled", "empty_sequence", "empty_pooled"):
        assert torch.allclose(getattr(encoded, part), getattr(cached, part), atol=4e-3, rtol=1e-3), part
    ours = EncodedCaptions(encoder, "penultimate").of(["", "a cat"], 5.0)
    assert torch.allclose(ours.sequence[0], ours.empty_sequence) and ours.aesthetic.tolist() == [5, 5]


# ---------------------------------------------------------------------------------------------- training


def test_which_caption_a_sample_gets_is_a_function_of_seed_and_position(caches):
    positions = np.arange(64)
    whole = reader(caches[0])(positions, positions % (2 * M))
    order = np.random.default_rng(0).permutation(64)
    for part in np.split(order, 8):
        again = pickle.loads(pickle.dumps(reader(caches[0])))(part, part % (2 * M))
        for field in Batch._fields:
            assert torch.equal(getattr(again, field), getattr(whole, field)[part]), field
    assert not torch.equal(reader(caches[0], seed=6)(positions, positions % (2 * M)).captions, whole.captions)
    later = reader(caches[0])(positions + 64, positions % (2 * M))
    assert not torch.equal(later.captions, whole.captions)  # the same images, another time


@pytest.mark.parametrize("share", [0.0, 0.05, 0.95, 1.0])
def test_the_share_of_augmented_captions(caches, share):
    """Of image 6, which has both; image 0 has one caption."""
    positions = np.arange(2000)
    read, tokenize = reader(caches[0], augmented=share), CaptionTokenizer(8)
    found = read(positions, np.full(2000, 13)).captions
    longer = (found == tokenize([LONGER[6]])).all(dim=1)
    plain = (found == tokenize([KEPT[6]])).all(dim=1)
    assert (longer ^ plain).all()
    assert abs(float(longer.float().mean()) - share) <= 0.02 * (0 < share < 1)
    assert (read(positions, np.zeros(2000, dtype=np.int64)).captions == tokenize([KEPT[0]])).all()


def test_training_reads_what_the_cache_keeps(smallest, monkeypatch, caches, tmp_path):
    encoder = make_text_encoder(16)  # with the params' context length
    leave_artefact(encoder, smallest, "encoders", "clip/digits", {})
    write_states(caches[1] / "captions", Shards(tmp_path / "shards"), (), encoder, 3, CPU)
    monkeypatch.chdir(smallest)
    study = load_study(smallest)
    job = SimpleNamespace(name="maskgen/vq")  # for messages
    context = SimpleNamespace(study=study, job=job, device=CPU)
    for folder, name, kind in zip(caches, ("vq", "kl"), (EncodedCaptions, CachedCaptions), strict=True):
        entry = study.generators[f"maskgen/{name}"]
        read, texts = read_texts(context, entry, TokenCache(folder))
        assert isinstance(texts, kind) and read.augmented == 0.05 and read.seed == 42
        batch = read(np.arange(4), np.arange(4))
        assert texts(batch).sequence.shape == (4, 16, 12)


def test_a_cache_without_captions_says_so(tmp_path):
    with pytest.raises(OnetokError, match=r"aesthetics.npy: no such file, expected a token cache with capt"):
        TextCache(tmp_path)


def test_a_sample_without_a_score_is_named(tmp_path):
    write_shards([Sample("a", png(), "png", 0, "x")], tmp_path, 2)
    with pytest.raises(OnetokError, match=r"sample a has no record, expected a\.json"):
        write_texts(tmp_path, Shards(tmp_path), ())


# ---------------------------------------------------------------------------------------------- samples


@pytest.fixture
def made(smallest, monkeypatch):
    """The smallest study with scenes, their text encoder, tokenizers and generators; the working directory."""
    leave_captioned(smallest)
    monkeypatch.chdir(smallest)
    folder = smallest / "results/datasets/captioned/scenes"
    for split, samples in read_splits(load_study().datasets["captioned/scenes"]).items():
        write_shards(samples, folder / "shards" / split, 32)
    (folder / "receipt.json").touch()
    return smallest


def context_of(kind, name):
    study = load_study()
    context = Context(study, plan(study, kind, name), CPU, workers=0, tracker="none")
    context.folder.mkdir(parents=True, exist_ok=True)
    return context


def change(study, file, old, new):
    path = study / "params" / file
    assert path.read_text().count(old) == 1
    path.write_text(path.read_text().replace(old, new))


def test_captions_take_turns_and_stay_beside_their_images(made):
    change(made, "benchmarks/text_to_image.yaml", "samples: 16", "samples: 32")
    sample_images(context_of("samples", "maskgen_tuned/vq"))
    drawn = Shards(made / "results/samples/maskgen_tuned/vq/shards")
    asked = Shards(made / "results/datasets/captioned/scenes/shards/val")
    assert [drawn.caption(i) for i in range(32)] == [asked.caption(i % 16) for i in range(32)]
    assert drawn.labels.tolist() == [*asked.labels] * 2
    assert len({drawn.image(i) for i in range(32)}) > 16  # the second round draws others


def test_captions_that_cannot_be_spread_evenly_are_refused(made):
    change(made, "benchmarks/text_to_image.yaml", "samples: 16", "samples: 24")
    message = "samples 24 is not a multiple of reference_images 16: captions would not be drawn equally often"
    with pytest.raises(OnetokError, match=rf"text_to_image.scenes: {message}$"):
        context_of("samples", "maskgen_tuned/vq")


def test_a_split_of_another_number_of_images_is_refused(made):
    shards = Shards(made / "results/datasets/captioned/scenes/shards/val")
    fewer = [Sample(f"{i:02d}", shards.image(i), "png", 0, shards.caption(i)) for i in range(15)]
    shutil.rmtree(made / "results/datasets/captioned/scenes/shards/val")
    write_shards(fewer, made / "results/datasets/captioned/scenes/shards/val", 4)
    message = "captioned/scenes: its val split has 15 images, reference_images of the benchmark expects 16"
    for work, kind, name in (
        (sample_images, "samples", "maskgen_tuned/vq"),
        (measure_reference, "references", "text_to_image/scenes"),
    ):
        with pytest.raises(OnetokError, match=rf"^{message}$"):
            work(context_of(kind, name))


def test_another_number_of_prompts_of_a_task_is_refused(made):
    shards = Shards(made / "results/datasets/captioned/scenes/shards/val")
    expected = load_study().benchmarks["text_to_image/scenes"].prompts
    check_prompts(shards, expected)
    with pytest.raises(
        OnetokError, match=r"shards/val: 2 prompts of colors, prompts.colors of the benchmark expects 3"
    ):
        check_prompts(shards, expected.model_copy(update={"colors": 3}))


def test_shuffled_captions_are_those_of_others(made):
    context = context_of("samples", "maskgen/kl-shuffled")
    conditions = conditions_of(context, context.study.samples["maskgen/kl-shuffled"])
    assert sorted(conditions.order) == list(range(16)) and not (conditions.order == np.arange(16)).any()
    again = conditions_of(context, context.study.samples["maskgen/kl-shuffled"])
    assert np.array_equal(conditions.order, again.order)
    shards = conditions.shards
    assert conditions.caption(17) == shards.caption(conditions.order[1]) != shards.caption(1)
    assert conditions.label(17) == shards.labels[1]


@pytest.mark.parametrize("images", [2, 3, 50])
def test_everybody_gets_another_s(images):
    orders = [derangement(images, seed) for seed in range(40)]
    for order in orders:
        assert sorted(order) == list(range(images)) and not (order == np.arange(images)).any()
    assert len({tuple(order) for order in orders}) > (images > 2)
    assert np.array_equal(derangement(images, [1, 2]), derangement(images, [1, 2]))


def test_one_caption_cannot_be_another_s():
    with pytest.raises(OnetokError, match="found 1 image, expected two or more"):
        derangement(1, 0)


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("maskgen_tuned/vq", "generators/maskgen_tuned.yaml"),
        ("maskgen/kl-shuffled", "generators/maskgen.yaml"),
    ],
)
def test_what_is_drawn_does_not_depend_on_the_micro_batch(made, monkeypatch, name, file):
    """Ids to the byte, latents and pixels to the last bits."""
    sample, drawn = GeneratorSystem.sample, []
    monkeypatch.setattr(GeneratorSystem, "sample", lambda *given: drawn.append(sample(*given)) or drawn[-1])

    def draw():
        drawn.clear()
        context = context_of("samples", name)
        sample_images(context)
        shutil.rmtree(context.scratch)
        shards = Shards(made / "results/samples" / name / "shards")
        images = [np.frombuffer(shards.image(i), dtype=np.uint8) for i in range(len(shards))]
        return torch.cat(drawn), images

    before, images = draw()
    text = (made / "params" / file).read_text()
    (made / "params" / file).write_text(re.sub(r"micro_batch: \d", "micro_batch: 5", text))
    after, _ = draw()
    if name == "maskgen_tuned/vq":
        assert torch.equal(before, after)
    else:
        assert (before - after).abs().max() < 1e-5 * before.abs().max()
    (made / "params" / file).write_text(text)
    again, same = draw()
    assert torch.equal(again, before)
    assert all(np.array_equal(one, other) for one, other in zip(images, same, strict=True))


def test_the_decoder_reads_the_caption_too(made):
    """MaskGen-VQ draws for a TA-TiTok: the same ids under another caption are another image."""
    context = context_of("samples", "maskgen_tuned/vq")
    condition = conditions_of(context, context.study.samples["maskgen_tuned/vq"]).of([0, 1])
    assert condition.decoder.shape == (2, 8, 12) and not torch.equal(*condition.decoder)
    assert condition.generator.aesthetic.tolist() == [6.5, 6.5]


# ---------------------------------------------------------------------------------------------- scores


def caption_scores(context, shards):
    benchmark = context.study.benchmarks["text_to_image/scenes"]
    asked = CaptionScores(context, benchmark, open_reference(benchmark))
    for _ in asked.accumulate(read_batches(shards, 16)):
        pass
    return asked.scores()


def test_real_scenes_score_as_what_their_captions_ask_for(made):
    context = context_of("scores/samples", "maskgen_tuned/vq")
    real = Shards(made / "results/datasets/captioned/scenes/shards/val")
    scores = caption_scores(context, real)
    assert scores["geneval"] == scores["geneval_held_out"] == scores["geneval_color_attr"] == 1.0
    others = derangement(16, 0)
    samples = [
        Sample(f"{i:02d}", real.image(int(other)), "png", 0, real.caption(int(other)))
        for i, other in enumerate(others)
    ]
    write_shards(samples, made / "others", 4)
    wrong = caption_scores(context, Shards(made / "others"))
    assert wrong["geneval"] < 0.5 and wrong["geneval_held_out"] < 1.0


def test_the_clip_score_pairs_pictures_with_the_captions_of_the_reference(made):
    context = context_of("scores/samples", "maskgen_tuned/vq")
    real = Shards(made / "results/datasets/captioned/scenes/shards/val")
    encoder = make_text_encoder()
    with torch.no_grad():
        encoder.network.text_projection.neg_()  # else all cosines are below 0, and all scores 0
    save_model(encoder, made / "results/encoders/clip/digits")
    pixels = np.random.default_rng(0).integers(0, 256, (32, 3, 32, 32))
    pixels = pixels.astype(np.uint8)
    samples = [Sample(f"{i:02d}", encode_png(image), "png", 0, "") for i, image in enumerate(pixels)]
    write_shards(samples, made / "noise", 8)
    with torch.inference_mode():
        captions = CaptionTokenizer(8)([real.caption(i % 16) for i in range(32)])
        expected = clip_scores(*encoder(torch.from_numpy(pixels) / 255, captions)).mean()
    found = caption_scores(context, Shards(made / "noise"))["clip_score"]
    assert found == pytest.approx(float(expected), rel=1e-4) and found > 0


# ---------------------------------------------------------------------------------------------- figures


def drawn_set(study, name, captions):
    """Leave samples: image i of grey level 10·i."""
    samples = [
        Sample(f"{i:02d}", encode_png(np.full((3, 8, 8), 10 * i, dtype=np.uint8)), "png", 0, caption)
        for i, caption in enumerate(captions)
    ]
    write_shards(samples, study / "results/samples" / name / "shards", 8)


SETS = ("maskgen_tuned/vq", "maskgen/kl-shuffled")


def test_every_set_shows_its_image_of_the_caption(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    drawn_set(tmp_path, "maskgen_tuned/vq", ["a", "b", "c", "a", "b", "c"])
    drawn_set(tmp_path, "maskgen/kl-shuffled", ["b", "c", "a", "b", "c", "a"])
    captions, columns = by_prompt(SETS, 9)
    assert captions == ["a", "b", "c"]
    levels = {name: images[:, 0, 0, 0].tolist() for name, images in columns.items()}
    assert levels == {"maskgen_tuned/vq": [0, 10, 20], "maskgen/kl-shuffled": [20, 0, 10]}
    captions, columns = by_prompt(SETS, 2)
    assert captions == ["a", "c"] and columns["maskgen/kl-shuffled"][:, 0, 0, 0].tolist() == [20, 10]


def test_a_set_of_other_captions_cannot_be_shown_beside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    drawn_set(tmp_path, "maskgen_tuned/vq", ["a", "b\n"])
    drawn_set(tmp_path, "maskgen/kl-shuffled", ["a", "c"])
    message = r"maskgen/kl-shuffled: no image for the caption 'b\\n', expected one, as in maskgen_tuned/vq"
    with pytest.raises(OnetokError, match=message):
        by_prompt(SETS, 2)


def test_any_caption_can_be_shown(tmp_path):
    captions = [text for name, text in TEXTS.items() if name != "control characters"]
    captions += ["\0\x1b[31m", "$\\frac{1}{0$ $x_$"]
    images = np.zeros((len(captions), 3, 8, 8), dtype=np.uint8)
    for name in ("a", "b"):
        columns = {"maskgen_tuned/vq": images, "maskgen/kl": images}
        captioned_images(captions, columns, "title", tmp_path / f"{name}.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
