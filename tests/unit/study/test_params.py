"""A mistake in any params file is one line: file, path, what was found, what is known."""

from __future__ import annotations

import re

import pytest

from onetok.errors import OnetokError
from onetok.study.load import load_study

MISTAKES = [
    # (file, what is replaced, by what, what the message must say)
    (
        "tokenizers/titok.yaml",
        "        tokens: 16",
        "        tokns: 16",
        [
            r"params/tokenizers/titok.yaml: tokenizers.titok.vq-16.model.tokns: unknown key.*nearest known: tokens"
        ],
    ),
    (
        "tokenizers/titok.yaml",
        "        tokens: 16\n",
        "",
        [r"tokenizers.titok.vq-16.model.tokens: missing key"],
    ),
    (
        "tokenizers/titok.yaml",
        "        tokens: 16",
        "        tokens: '16'",
        [r"tokenizers.titok.vq-16.model.tokens: found '16' \(str\); .*integer"],
    ),
    (
        "tokenizers/titok.yaml",
        "encoder: tiny",
        "encoder: tinny",
        [r"tokenizers.titok.vq-16.model.encoder: found 'tinny', expected .*nearest known: tiny"],
    ),
    (
        "tokenizers/titok.yaml",
        "benchmark: reconstruction/digits",
        "benchmark: reconstruction/digit",
        [
            r"tokenizers.titok.vq-16.benchmark: no benchmarks named 'reconstruction/digit'.*reconstruction/digits"
        ],
    ),
    (
        "generators/maskgit.yaml",
        "kind: maskgit-vit",
        "kind: maskgit-vitt",
        [r"generators.maskgit.tiny.kind: found 'maskgit-vitt'.*maskgit-vit"],
    ),
    (
        "datasets/labelled.yaml",
        "kind: digits",
        "kind: digts",
        [r"datasets.labelled.digits.source.kind: found 'digts'; nearest known: digits"],
    ),
    (
        "generators/maskgit.yaml",
        "generators:\n",
        "genrators:\n",
        [r"params/generators/maskgit.yaml: genrators: unknown key; nearest known: generators"],
    ),
    (
        "generators/maskgit.yaml",
        "  maskgit:\n    tiny: &tiny",
        "  maskgitt:\n    tiny: &tiny",
        [r"generators: expected one family named 'maskgit' as the file, found \['maskgitt'\]"],
    ),
    (
        "benchmarks/class_conditional.yaml",
        "samples: 20",
        "samples: 25",
        [r"samples.maskgit.tiny: the benchmark's 25 samples cannot be spread evenly over 10 classes"],
    ),
    (
        "tables/generation.yaml",
        "metric: fid,",
        "metric: fidd,",
        [
            r"tables.generation.class-conditional: columns.0.metric: no metric named 'fidd'; nearest known: fid"
        ],
    ),
    (
        "tables/generation.yaml",
        "runs: [generators/maskgit/tiny]",
        "runs: [generators/maskgit/tinyy]",
        [r"figures.generation.maskgit-loss.runs: no run named .*nearest known: generators/maskgit/tiny"],
    ),
    (
        "encoders/classifiers.yaml",
        "  batch: 16\n",
        "  batch: 16\n  batch: 32\n",
        [r"params/encoders/classifiers.yaml: not valid YAML: key 'batch' appears twice"],
    ),
    (
        "generators/maskgit.yaml",
        "heads: 2",
        "heads: 5",
        [r"generators.maskgit.tiny.model: width 32 is not divisible by 5 heads"],
    ),
    (
        "encoders/classifiers.yaml",
        "channels: [8, 8, 16]",
        "channels: [8, 12, 16]",
        [r"encoders.classifiers.digits: model.channels: 12 is not a multiple of the 8 norm groups"],
    ),
    (
        "benchmarks/reconstruction.yaml",
        "shorter_edge: 32",
        "shorter_edge: 16",
        [r"benchmarks.reconstruction.digits: images.shorter_edge 16 is below images.size 32"],
    ),
    (
        "encoders/classifiers.yaml",
        "learning_rate: 2.0e-3",
        "learning_rate: .nan",
        [r"encoders.classifiers.digits.training.optimizer.learning_rate: found nan .*finite"],
    ),
    (
        "tokenizers/titok.yaml",
        "encoder_patch: 8",
        "encoder_patch: 7",
        [r"tokenizers.titok.vq-16: encoder_patch 7 does not divide image size 32"],
    ),
    (
        "datasets/labelled.yaml",
        "of the digit {class}",
        "of the digit {clas}",
        [r"datasets.labelled.digits: source.caption: 'a photo of the digit {clas}' lacks {class}"],
    ),
    (
        "datasets/labelled.yaml",
        '"a photo of the digit {class}"',
        "null",
        [r"encoders.clip.digits: dataset: labelled/digits has no captions \(its source.caption is null\)"],
    ),
    (
        "datasets/labelled.yaml",
        "source: {kind: digits, size: 32, filter: bicubic, caption: ",
        "source: {kind: imagefolder, path: data, class_names: imagenet, caption: ",
        [r"datasets.labelled.digits: source.class_names: imagenet needs 1000 classes, found 10"],
    ),
    (
        "encoders/clip.yaml",
        "text_heads: 4",
        "text_heads: 5",
        [r"encoders.clip.digits: model.text_width 64 is not a multiple of text_heads 5"],
    ),
    (
        "encoders/clip.yaml",
        "patch_size: 8",
        "patch_size: 7",
        [r"encoders.clip.digits: model.patch_size 7 does not divide images.size 32"],
    ),
    (
        "encoders/clip.yaml",
        "vision_head_width: 16",
        "vision_head_width: 24",
        [r"encoders.clip.digits: model.vision_width 64 is not a multiple of vision_head_width 24"],
    ),
    (
        "encoders/clip.yaml",
        "context_length: 16",
        "context_length: 2",
        [r"encoders.clip.digits: model.context_length 2 leaves no place between both ends"],
    ),
    (
        "encoders/clip.yaml",
        "  clip:\n",
        """\
  clip:
    vit:
      kind: open-clip
      architecture: ViT-L-14-336-quickgel
      weights: {hub: a/b, revision: null, url: null, file: x, sha256: null}
""",
        [
            r"encoders.clip.vit: architecture: open_clip has none named 'ViT-L-14-336-quickgel'; "
            r"nearest known: ViT-L-14-336-quickgelu"
        ],
    ),
    (
        "tokenizers/titok.yaml",
        "encoder: classifiers/digits",
        "encoder: clip/digits",
        [r"losses.perceptual.0.encoder: clip/digits is of kind clip, which is no perceptual network"],
    ),
    (
        "benchmarks/reconstruction.yaml",
        "second_encoder: classifiers/digits-second",
        "second_encoder: clip/digits",
        [
            r"benchmarks.reconstruction.digits: second_encoder: clip/digits is of kind clip, which has no classes"
        ],
    ),
    (
        "benchmarks/speed.yaml",
        "tokenizers: [titok/vq-16]",
        "tokenizers: [titok/vq-61]",
        [
            r"speeds.speed.tokenizers.tokenizers: no tokenizers named 'titok/vq-61'; nearest known: titok/vq-16"
        ],
    ),
    (
        "benchmarks/speed.yaml",
        "tokenizers: [titok/vq-16]",
        "tokenizers: [tatitok/kl-16]",
        [r"tokenizers: tatitok/kl-16 of kind tatitok cannot be built without what it is trained from"],
    ),
    (
        "benchmarks/speed.yaml",
        "precision: float32",
        "precision: float16",
        [r"speeds.speed.tokenizers.cpu.precision: found 'float16', expected 'float32' or 'bfloat16'"],
    ),
    (
        "benchmarks/speed.yaml",
        "samples: rar/titok,",
        "samples: rar/titko,",
        [r"speeds.speed.generators.cpu.runs.samples: no samples named 'rar/titko'; nearest known: rar/titok"],
    ),
    (
        "benchmarks/speed.yaml",
        "patch: 8\n",
        "patch: 7\n",
        [r"against-dit: comparisons.1.system.tokenizer.encoder_patch 7 does not divide image size 32"],
    ),
    (
        "benchmarks/speed.yaml",
        "latent: 8",
        "latent: 9",
        [r"against-dit: comparisons.0.diffusion.patch 2 does not divide latent 9"],
    ),
    (
        "datasets/labelled.yaml",
        "{kind: hold-out, per_class: 10, seed: 0}",
        "{kind: evaluation}",
        [
            r"classifiers.digits: dataset: labelled/digits is for evaluation alone \(its split\)",
            r"titok.vq-16: dataset: labelled/digits is for evaluation alone",
            r"tokens.titok.vq-16: dataset: labelled/digits is for evaluation alone",
            r"class_conditional.digits: dataset: labelled/digits is for evaluation alone",
        ],
    ),
    # Captions: who reads them, who keeps them, and who must not be told any.
    (
        "generators/maskgen.yaml",
        "text: clip/digits",
        "text: classifiers/digits",
        [r"maskgen.vq: text: classifiers/digits is of kind classifier, expected a text encoder"],
    ),
    (
        "tables/reconstruction.yaml",
        "{label: TiTok VQ, tokenizer: titok/vq-16, samples: null, published: null}",
        "{label: TiTok VQ, tokenizer: titok/vq-16, samples: null, published: {table: t, model: m, "
        "figures: {recall: {value: 0.5, source: s, unverified: false}}}}",
        [r"titok: rows.0.published.figures.recall: no column of this metric would show it; nearest known"],
    ),
    (
        "tokenizers/captioned.yaml",
        "captions: {kind: text, augmented_prefixes: []}",
        "captions: null",
        [r"maskgen.vq: tokens: captioned/scenes-vq are kept without captions \(its captions is null\)"],
    ),
    (
        "tokenizers/captioned.yaml",
        "captions: {kind: text, augmented_prefixes: []}",
        "captions: {kind: txt}",
        [r"tokens.captioned.scenes-vq.captions.kind: found 'txt'; nearest known: text"],
    ),
    (
        "tokenizers/titok.yaml",
        "      captions: null",
        "",
        [r"tokens.titok.vq-16.captions: missing key"],
    ),
    (
        "generators/maskgen.yaml",
        "tokens: captioned/scenes-kl",
        "tokens: captioned/scenes-vq",
        [
            r"maskgen.kl: tokens: captioned/scenes-vq are of a codebook \(tatitok/scenes-vq\), expected continuous"
        ],
    ),
    (
        "generators/maskgen.yaml",
        "heads: 2",
        "heads: 3",
        [r"maskgen.vq.model: width 32 is not divisible by 3 heads"],
    ),
    (
        "generators/maskgen.yaml",
        "augmented: 0.05",
        "augmented: 1.5",
        [r"maskgen.vq.captions.augmented: found 1.5 \(float\); input should be less than or equal to 1"],
    ),
    (
        "generators/maskgen.yaml",
        "benchmark: text_to_image/scenes",
        "benchmark: class_conditional/digits",
        [r"benchmark class_conditional/digits is of kind generation, expected text-to-image"],
    ),
    (
        "generators/maskgen_tuned.yaml",
        "pretrained: maskgen/vq",
        "pretrained: maskgen/kl",
        [
            r"maskgen_tuned.vq: tokens: of tatitok/scenes-vq, but maskgen/kl was trained on .* tatitok/kl-16",
            r"sampling is of kind masked, but maskgen_tuned/vq of kind maskgen-tuned needs latents",
        ],
    ),
    (
        "generators/maskgen_tuned.yaml",
        "pretrained: maskgen/vq",
        "pretrained: maskgit/tiny",
        [r"pretrained: maskgit/tiny is of kind maskgit-vit, expected maskgen-vq or maskgen-kl"],
    ),
    (
        "generators/maskgen_tuned.yaml",
        "text: {captions: own, aesthetic: 6.5}",
        "text: null",
        [r"samples.maskgen_tuned.vq: text: maskgen_tuned/vq reads captions, expected captions and aesthetic"],
    ),
    (
        "generators/maskgen_tuned.yaml",
        "text: {captions: own, aesthetic: 6.5}",
        "text: {captions: mine, aesthetic: 6.5}",
        [r"samples.maskgen_tuned.vq.text.captions: found 'mine', expected 'own' or 'shuffled'"],
    ),
    (
        "generators/maskgit.yaml",
        "text: null",
        "text: {captions: own, aesthetic: 5.0}",
        [r"samples.maskgit.tiny: text: maskgit/tiny reads no captions, expected null"],
    ),
    (
        "generators/maskgit.yaml",
        "      text: null\n",
        "",
        [r"samples.maskgit.tiny.text: missing key"],
    ),
    (
        "benchmarks/reconstruction.yaml",
        "      captions: null\n",
        "",
        [r"benchmarks.reconstruction.digits.captions: missing key"],
    ),
    (
        "benchmarks/reconstruction.yaml",
        "      captions: null\n",
        "      captions: {detector: scenes-exact, prompts: null, shuffle_seed: 0}\n",
        [r"reconstruction.digits: detector scenes-exact: labelled/digits is of kind digits, expected scenes"],
    ),
    (
        "benchmarks/text_to_image.yaml",
        "dataset: captioned/scenes",
        "dataset: labelled/digits",
        [r"text_to_image.scenes: detector scenes-exact: labelled/digits is of kind digits, expected scenes"],
    ),
    (
        "benchmarks/text_to_image.yaml",
        "clip: clip/digits",
        "clip: classifiers/digits",
        [r"text_to_image.scenes: clip: classifiers/digits is of kind classifier, expected a text encoder"],
    ),
]


@pytest.mark.parametrize(("file", "old", "new", "expected"), MISTAKES, ids=[m[3][0][:60] for m in MISTAKES])
def test_mistake(smallest, file, old, new, expected):
    path = smallest / "params" / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(OnetokError) as caught:
        load_study(smallest)
    for pattern in expected:
        assert re.search(pattern, str(caught.value)), str(caught.value)


def test_a_generator_reads_the_states_that_its_cache_keeps(smallest):
    """Both encoders are text encoders, of the same shape: only their names say that the states are others."""
    clip = smallest / "params/encoders/clip.yaml"
    text = clip.read_text()
    clip.write_text(text.replace("digits:\n", "digits: &digits\n", 1) + "\n    other: *digits\n")
    generator = smallest / "params/generators/maskgen.yaml"
    generator.write_text(
        generator.read_text().replace("kind: maskgen-kl\n", "kind: maskgen-kl\n      text: clip/other\n")
    )
    message = "maskgen.kl: text: clip/other, but captioned/scenes-kl keeps states of clip/digits"
    with pytest.raises(OnetokError, match=message):
        load_study(smallest)


def test_all_mistakes_are_reported_at_once(smallest):
    for file, old, new, _ in (MISTAKES[0], MISTAKES[5]):
        path = smallest / "params" / file
        path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(OnetokError) as caught:
        load_study(smallest)
    assert "tokns" in str(caught.value) and "maskgit-vitt" in str(caught.value)


def test_a_file_of_another_suffix_is_not_passed_over(smallest):
    (smallest / "params/tokenizers/extra.yml").write_text("tokenizers: {}")
    with pytest.raises(OnetokError, match=r"params/tokenizers/extra.yml: expected only files named \*.yaml"):
        load_study(smallest)


def test_scientific_notation_is_a_number(smallest):
    path = smallest / "params/generators/maskgit.yaml"
    path.write_text(path.read_text().replace("learning_rate: 1.0e-3", "learning_rate: 1e-3"))
    assert load_study(smallest).generators["maskgit/tiny"].training.optimizer.learning_rate == 1e-3


@pytest.mark.parametrize("study", [".", "studies/miniature", "tests/e2e/smallest"])
def test_every_shipped_study_loads(repository, study):
    assert load_study(repository / study).tables
