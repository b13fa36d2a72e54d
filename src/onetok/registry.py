"""From params to models, and from a folder back to a model: the one place that knows every kind by name."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError, with_config
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from onetok import durable, params
from onetok.configs import titok_fields, vqgan_config
from onetok.data.batches import Batch
from onetok.data.captions import VOCABULARY
from onetok.derived import TokenShape, pretrained_of, text_shape, token_shape, tokenizer_of
from onetok.errors import OnetokError, one_line, shown
from onetok.losses.adversarial import AdversarialTerm
from onetok.losses.codes import CodeLoss
from onetok.losses.masked import MaskedLoss
from onetok.losses.reconstruction import LPIPSTerm, PerceptualTerm, ReconstructionLoss
from onetok.models.classifier import Classifier, ClassifierConfig
from onetok.models.convnext import ConvNeXt, ConvNeXtConfig
from onetok.models.discriminator import Discriminator, DiscriminatorConfig
from onetok.models.inception import Inception, InceptionConfig
from onetok.models.lpips import LPIPS, LPIPSConfig
from onetok.models.maskgen_kl import MaskGenKL, MaskGenKLConfig
from onetok.models.maskgen_vq import MaskGenVQ, MaskGenVQConfig
from onetok.models.maskgit import MaskGIT, MaskGITConfig
from onetok.models.maskgit_uvit import MaskGITUViT
from onetok.models.mmdit import MMDiTConfig, TextCondition
from onetok.models.rar import RAR, RARConfig
from onetok.models.tatitok import TATiTok, TATiTokConfig
from onetok.models.text_encoder import CLIP, CaptionStates, CLIPConfig
from onetok.models.titok import TiTok, TiTokConfig
from onetok.models.titok_two_stage import TiTokTwoStage, TwoStageConfig
from onetok.models.vqgan import VQGAN, VQGANConfig
from onetok.pretrained import check_fit, load_strictly, read_tensors
from onetok.published import clip_config
from onetok.sampling.autoregressive import AutoregressiveSampling
from onetok.sampling.guidance import Guidance, RevealGuidance
from onetok.sampling.latents import LatentSampling
from onetok.sampling.masked import MaskedSampling
from onetok.sampling.schedules import MaskSchedule
from onetok.training.schedules import RandomnessAnnealing
from onetok.training.tasks import (
    AutoregressiveGeneratorObjective,
    CodeObjective,
    GeneratorObjective,
    LatentGeneratorObjective,
    MaskedGeneratorObjective,
    PixelObjective,
    TokenizerObjective,
    labels_of,
)

CPU = torch.device("cpu")  # where models are built; the training loop moves them

CONFIG_BYTES = 1 << 20  # of a config.json; ours have about two thousand
LARGEST_IMAGE = 2**14  # pixels a side, as in params
SMALL = 2**16  # values of a parameter that may be made before it is known to fit

MODELS: dict[str, tuple[type[nn.Module], type]] = {
    "classifier": (Classifier, ClassifierConfig),
    "clip": (CLIP, CLIPConfig),
    "convnext": (ConvNeXt, ConvNeXtConfig),
    "inception": (Inception, InceptionConfig),
    "lpips": (LPIPS, LPIPSConfig),
    "vqgan": (VQGAN, VQGANConfig),
    "titok": (TiTok, TiTokConfig),
    "titok-two-stage": (TiTokTwoStage, TwoStageConfig),
    "tatitok": (TATiTok, TATiTokConfig),
    "maskgit-vit": (MaskGIT, MaskGITConfig),
    "maskgit-uvit": (MaskGITUViT, MaskGITConfig),
    "rar": (RAR, RARConfig),
    "maskgen-vq": (MaskGenVQ, MaskGenVQConfig),
    "maskgen-kl": (MaskGenKL, MaskGenKLConfig),
}


# ------------------------------------------------------------------------------------------- params → objects


def build_classifier(entry: params.ClassifierEncoder, classes: int) -> Classifier:
    config = ClassifierConfig(
        image_size=entry.images.size,
        channels=entry.model.channels,
        features=entry.model.features,
        classes=classes,
        dropout=entry.model.dropout,
    )
    return Classifier(config)


def build_clip(entry: params.CLIPEncoder) -> CLIP:
    return CLIP(CLIPConfig(image_size=entry.images.size, vocab_size=VOCABULARY, **entry.model.model_dump()))


def build_published_encoder(
    entry: params.InceptionEncoder | params.ConvNeXtEncoder | params.OpenCLIPEncoder,
) -> Inception | ConvNeXt | CLIP:
    """Return the network of a published encoder, its weights still to be loaded into `.network`."""
    if isinstance(entry, params.OpenCLIPEncoder):
        return CLIP(clip_config(entry.architecture))
    if isinstance(entry, params.ConvNeXtEncoder):
        return ConvNeXt(ConvNeXtConfig(input_size=entry.input_size))
    return Inception(InceptionConfig())


def build_tokenizer(entry: params.TrainedTokenizer) -> TiTok | VQGAN:
    """Return the tokenizer that an entry trains, as training starts from it.

    It reads the artefacts that the entry names: stage 1 its proxy, stage 2 the weights of stage 1, TA-TiTok the size of
    its text encoder.
    """
    match entry:
        case params.VQGANTokenizer():
            return VQGAN(vqgan_config(entry.model, entry.images.size))
        case params.TiTokTokenizer():
            return TiTok(TiTokConfig(**titok_fields(entry.model, entry.images.size)))
        case params.TATiTokTokenizer():
            text = load_encoder(entry.text, CPU)
            fields = titok_fields(entry.model, entry.images.size)
            fields |= {"text_states": text.context_length, "text_width": text.text_width}
            return TATiTok(TATiTokConfig(**fields, decoder_linear=entry.model.decoder_linear))
        case params.Stage1Tokenizer():
            proxy = load_tokenizer(entry.proxy, CPU)
            fields = titok_fields(entry.model, entry.images.size)
            model = TiTokTwoStage(
                TwoStageConfig(**fields, stage=1, memory=entry.model.memory, proxy=proxy.config)
            )
            model.adopt(proxy)
            return model
        case params.Stage2Tokenizer():
            stage_1 = load_tokenizer(entry.stage_1, CPU)
            model = TiTokTwoStage(replace(stage_1.config, stage=2))
            model.load_state_dict(stage_1.state_dict())
            return model
    raise TypeError(type(entry))


def build_tokenizer_objective(entry: params.TrainedTokenizer, device: torch.device) -> TokenizerObjective:
    """Return a tokenizer with what it is trained on, its frozen networks on `device`."""
    model = build_tokenizer(entry)
    if isinstance(entry, params.Stage1Tokenizer):
        assert isinstance(model, TiTokTwoStage)
        proxy = load_tokenizer(entry.proxy, device)
        return CodeObjective(model, proxy, CodeLoss(quantizer=entry.losses.quantizer))
    assert isinstance(entry, params.PixelTokenizer)
    adversarial = entry.losses.adversarial
    return PixelObjective(
        model,
        build_reconstruction_loss(entry.losses, device),
        build_adversarial_term(adversarial) if adversarial is not None else None,
        build_caption_states(entry, device),
    )


def build_caption_states(entry: BaseModel, device: torch.device) -> CaptionStates | None:
    """Return what a tokenizer's decoder reads captions with, None where it reads none."""
    return CaptionStates(load_encoder(entry.text, device)) if isinstance(entry, params.READS_TEXT) else None


def build_generator(study: params.Study, entry: params.TrainedGenerator) -> nn.Module:
    """Return the generator that an entry trains, as training starts from it."""
    shape = token_shape(study, study.tokenizers[tokenizer_of(study, entry)])
    match entry:
        case params.ClassGenerator():
            return _class_generator(entry, shape)
        case params.MaskGenVQGenerator():
            return _maskgen_vq(study, entry, shape)
        case params.MaskGenKLGenerator():
            return _maskgen_kl(study, entry, shape)
        case params.FineTunedGenerator():
            model: nn.Module = load_model(Path("results/generators") / entry.pretrained, CPU)
            return model.train()
    raise TypeError(type(entry))


def _class_generator(entry: params.ClassGenerator, shape: TokenShape) -> nn.Module:
    fields: dict[str, Any] = {"codebook_size": shape.codebook_size, "tokens": shape.length}
    fields["classes"] = entry.classes
    match entry:
        case params.MaskGITViTGenerator():
            return MaskGIT(MaskGITConfig(**fields, **entry.model.model_dump()))
        case params.MaskGITUViTGenerator():
            return MaskGITUViT(MaskGITConfig(**fields, **entry.model.model_dump()))
        case params.RARGenerator():
            return RAR(RARConfig(**fields, **entry.model.model_dump()))
    raise TypeError(type(entry))


def _maskgen_vq(study: params.Study, entry: params.MaskGenVQGenerator, shape: TokenShape) -> MaskGenVQ:
    assert shape.codebook_size is not None
    config = MaskGenVQConfig(
        codebook_size=shape.codebook_size,
        tokens=shape.length,
        spare_rows=0,
        backbone=_backbone(study, entry.text, entry.model),
        text_dropout=entry.model.text_dropout,
        init_std=entry.model.init_std,
    )
    return MaskGenVQ(config)


def _maskgen_kl(study: params.Study, entry: params.MaskGenKLGenerator, shape: TokenShape) -> MaskGenKL:
    config = MaskGenKLConfig(
        channels=shape.channels,
        tokens=shape.length,
        scale=entry.model.scale,
        backbone=_backbone(study, entry.text, entry.model),
        head_width=entry.model.head.width,
        head_layers=entry.model.head.layers,
        text_dropout=entry.model.text_dropout,
        init_std=entry.model.init_std,
    )
    return MaskGenKL(config)


def _backbone(study: params.Study, text: str, model: params.MaskGenVQModel) -> MMDiTConfig:
    states = text_shape(study, text)
    return MMDiTConfig(
        width=model.width,
        layers=model.layers,
        heads=model.heads,
        text_width=states.width,
        pooled_width=states.pooled_width,
        aesthetic_width=model.aesthetic_width,
        checkpointing=model.checkpointing,
    )


def build_generator_objective(
    study: params.Study, entry: params.TrainedGenerator, texts: Callable[[Batch], TextCondition] | None
) -> GeneratorObjective:
    """Return the generator that an entry trains with its loss; `texts` is what a generator of captions reads."""
    model: Any = build_generator(study, entry)
    source = pretrained_of(study, entry) if isinstance(entry, params.FineTunedGenerator) else entry
    condition = labels_of if texts is None else texts
    match source:
        case params.MaskGITGenerator() | params.MaskGenVQGenerator():
            return MaskedGeneratorObjective(model, condition, *build_masked_loss(source.loss))
        case params.RARGenerator():
            annealing = RandomnessAnnealing(**source.annealing.model_dump())
            return AutoregressiveGeneratorObjective(model, annealing)
        case params.MaskGenKLGenerator():
            assert texts is not None
            schedule = MaskSchedule(source.loss.mask_schedule)
            return LatentGeneratorObjective(model, texts, schedule, source.loss.repeats)
    raise TypeError(type(entry))


def build_masked_loss(entry: params.MaskedLoss) -> tuple[MaskSchedule, MaskedLoss]:
    settings = MaskedLoss(label_smoothing=entry.label_smoothing, unmasked_weight=entry.unmasked_weight)
    return MaskSchedule(entry.mask_schedule), settings


def build_reconstruction_loss(entry: params.TokenizerLosses, device: torch.device) -> ReconstructionLoss:
    terms = [build_perceptual_term(term, device) for term in entry.perceptual]
    return ReconstructionLoss(l1=entry.l1, l2=entry.l2, quantizer=entry.quantizer, perceptual=terms)


def build_perceptual_term(entry: params.Perceptual, device: torch.device) -> PerceptualTerm | LPIPSTerm:
    # Convolutions of small images are half as slow again in the other layout.
    network = load_encoder(entry.encoder, device).to(memory_format=torch.channels_last)
    if entry.layer == "lpips":
        return LPIPSTerm(network=network, weight=entry.weight)
    return PerceptualTerm(extractor=network, layer=entry.layer, weight=entry.weight)


def build_adversarial_term(entry: params.Adversarial) -> AdversarialTerm:
    """Return the tokenizer's side of the GAN around a new discriminator."""
    model = entry.discriminator
    config = DiscriminatorConfig(width=model.width, stages=model.stages, groups=model.groups, side=model.side)
    return AdversarialTerm(discriminator=Discriminator(config), weight=entry.weight, start=entry.start)


def sampling_kind(model: nn.Module) -> str:
    """Return the kind of sampling that a generator needs."""
    match model:
        case RAR():
            return "autoregressive"
        case MaskGenKL():
            return "latents"
    return "masked"


def build_sampling(entry: params.Sampling) -> MaskedSampling | AutoregressiveSampling | LatentSampling:
    match entry:
        case params.AutoregressiveSampling():
            guidance = Guidance(**entry.guidance.model_dump())
            return AutoregressiveSampling(temperature=entry.temperature, guidance=guidance)
        case params.LatentSampling():
            return LatentSampling(
                rounds=entry.rounds,
                diffusion_steps=entry.diffusion_steps,
                temperature=entry.temperature,
                clip=entry.clip,
                guidance=RevealGuidance(**entry.guidance.model_dump()),
                schedule=MaskSchedule(entry.mask_schedule),
            )
    return MaskedSampling(
        steps=entry.steps,
        temperature=entry.temperature,
        guidance=Guidance(**entry.guidance.model_dump()),
        schedule=MaskSchedule(entry.mask_schedule),
        softmax_annealing=entry.softmax_annealing,
    )


# ------------------------------------------------------------------------------------------- models ↔ folders


def load_encoder(name: str, device: torch.device) -> Any:
    """Return an encoder of the study, frozen."""
    return load_model(Path("results/encoders") / name, device).requires_grad_(False)


def load_tokenizer(name: str, device: torch.device) -> Any:
    """Return a tokenizer of the study, frozen."""
    return load_model(Path("results/tokenizers") / name, device).requires_grad_(False)


def save_model(model: nn.Module, folder: Path) -> None:
    """Write weights.safetensors and config.json, which load_model reads.

    Raises OnetokError for a model of no kind, and for weights that are no finite numbers: a training that diverged.
    """
    kind = next((kind for kind, (known, _) in MODELS.items() if type(model) is known), None)
    if kind is None:
        found, known = type(model).__name__, ", ".join(cls.__name__ for cls, _ in MODELS.values())
        text = f"a {found} cannot be saved: load_model would not know it; known: {known}"
        raise OnetokError(f"{folder}: {text} (MODELS in {Path(__file__).name})")
    path = folder / "weights.safetensors"
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    check_fit(model, state, str(path))
    with durable.replacing(path) as temporary:
        save_file(state, temporary)
    durable.write_json(folder / "config.json", {"kind": kind, "config": asdict(model.config)})  # type: ignore[call-overload]


def load_model(folder: Path, device: torch.device) -> Any:
    """Return the model of a folder, in evaluation mode.

    Raises OnetokError for a missing file, for a config that is none of a model's, and for tensors that do not fit it. A
    config from elsewhere may ask for any size: a model is built only as large as the tensors that are there.
    """
    content, path = read_config(folder), folder / "config.json"
    model_class, config = _read_model_config(content, path)
    weights = folder / "weights.safetensors"
    state = read_tensors(weights)
    with _bounded_by(state):
        model = _build(model_class, config, path)
    load_strictly(model, state, str(weights))
    return model.to(device).eval()


def _read_model_config(content: dict[str, Any], path: Path) -> tuple[type[nn.Module], Any]:
    """Return the class and the config of what config.json says."""
    kind = content["kind"]
    if not isinstance(kind, str) or kind not in MODELS:
        raise OnetokError(f"{path}: kind {shown(kind)}, known: {', '.join(MODELS)}")
    for key, value in _numbers(content["config"], "config"):
        least = 0 if isinstance(value, float) or key.endswith(".spare_rows") else 1
        most = LARGEST_IMAGE if key.endswith((".image_size", ".input_size")) else 2**31 - 1
        if not least <= value <= most:
            raise OnetokError(f"{path}: {key}: found {shown(value)}, expected {least} to {most}")
    model_class, config_class = MODELS[kind]
    strict = with_config(ConfigDict(extra="forbid", strict=True))(config_class)
    try:  # as JSON, in which tuples are lists
        return model_class, TypeAdapter(strict).validate_json(json.dumps(content["config"]))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(["config", *(str(key) for key in first["loc"])])
        raise OnetokError(f"{path}: {where}: found {shown(first['input'])}; {first['msg']}") from None
    except ArithmeticError as error:
        raise OnetokError(f"{path}: config: {one_line(error)}") from None


def _numbers(content: Any, where: str) -> Iterator[tuple[str, int | float]]:
    """Yield the numbers of a config with their keys. All are sizes, shares, weights or standard deviations."""
    if isinstance(content, int | float) and not isinstance(content, bool):
        yield where, content
    pairs = (
        enumerate(content)
        if isinstance(content, list)
        else content.items()
        if isinstance(content, dict)
        else ()
    )
    for key, value in pairs:
        yield from _numbers(value, f"{where}.{key}")


def _build(model_class: type[nn.Module], config: Any, path: Path) -> Any:
    try:
        return model_class(config)
    # What layers say of sizes that do not go together, or that no tensor can have.
    except (
        ArithmeticError,
        AssertionError,
        LookupError,
        MemoryError,
        RuntimeError,
        TypeError,
        ValueError,
    ) as error:
        raise OnetokError(
            f"{path}: config: no {model_class.__name__} has these sizes: {one_line(error)}"
        ) from None


@contextmanager
def _bounded_by(state: Mapping[str, Tensor]) -> Iterator[None]:
    """Stop a model that is larger than its tensors when it makes a parameter, whose memory is not touched yet."""
    shapes, most, made = {tensor.shape for tensor in state.values()}, 2 * len(state) + 1000, 0

    def check(module: nn.Module, name: str, parameter: nn.Parameter) -> None:
        nonlocal made
        made += 1
        if made > most:
            raise ValueError(f"more than {most:,} parameters, but there are weights for {len(state):,}")
        if (
            parameter.numel() > SMALL and parameter.shape not in shapes
        ):  # of smaller ones load_strictly says more
            text = f"a {type(module).__name__} would have a {name} of shape {tuple(parameter.shape)}"
            raise ValueError(f"{text}, but there are no weights of that shape")

    handle = register_module_parameter_registration_hook(check)
    try:
        yield
    finally:
        handle.remove()


def read_config(folder: Path) -> dict[str, Any]:
    """Return what config.json of a saved model says.

    Raises OnetokError where it is missing or another program's.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise OnetokError(f"{path}: no such file, expected a saved model")
    if path.stat().st_size > CONFIG_BYTES:
        raise OnetokError(
            f"{path}: {path.stat().st_size:,} bytes, expected a saved model, at most {CONFIG_BYTES:,}"
        )

    def refuse(literal: str) -> None:
        raise ValueError(f"{literal} is no number of JSON")

    try:
        content = json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)
    except OSError as error:
        raise OnetokError(f"{path}: cannot be read: {error.strerror}, expected a saved model") from None
    except RecursionError:
        raise OnetokError(f"{path}: brackets too deep to be read, expected a saved model") from None
    except ValueError as error:
        raise OnetokError(f"{path}: not JSON ({one_line(error)}), expected a saved model") from None
    if not isinstance(content, dict) or not {"kind", "config"} <= content.keys():
        raise OnetokError(f"{path}: expected the keys kind and config, as save_model writes them")
    return content
