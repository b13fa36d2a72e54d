"""From params to models, and from a folder back to a model: the one place that knows every kind by name."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config
from safetensors.torch import save_file
from torch import nn

from onetok import params
from onetok.errors import OnetokError
from onetok.losses.adversarial import AdversarialTerm
from onetok.losses.masked import MaskedLoss
from onetok.losses.reconstruction import LPIPSTerm, PerceptualTerm, ReconstructionLoss
from onetok.models.classifier import Classifier, ClassifierConfig
from onetok.models.convnext import ConvNeXt, ConvNeXtConfig
from onetok.models.discriminator import Discriminator, DiscriminatorConfig
from onetok.models.inception import Inception, InceptionConfig
from onetok.models.lpips import LPIPS, LPIPSConfig
from onetok.models.maskgit import MaskGIT, MaskGITConfig
from onetok.models.quantizers import VectorQuantizerConfig
from onetok.models.tatitok import TATiTok, TATiTokConfig
from onetok.models.titok import SIZES, TiTok, TiTokConfig, TiTokInit
from onetok.models.titok_two_stage import TiTokTwoStage, TwoStageConfig
from onetok.models.vqgan import VQGAN, VQGANConfig
from onetok.pretrained import load_strictly, read_tensors
from onetok.sampling.guidance import Guidance
from onetok.sampling.masked import MaskedSampling
from onetok.sampling.schedules import MaskSchedule

MODELS: dict[str, tuple[type[nn.Module], type]] = {
    "classifier": (Classifier, ClassifierConfig),
    "convnext": (ConvNeXt, ConvNeXtConfig),
    "inception": (Inception, InceptionConfig),
    "lpips": (LPIPS, LPIPSConfig),
    "vqgan": (VQGAN, VQGANConfig),
    "titok": (TiTok, TiTokConfig),
    "titok-two-stage": (TiTokTwoStage, TwoStageConfig),
    "tatitok": (TATiTok, TATiTokConfig),
    "maskgit-vit": (MaskGIT, MaskGITConfig),
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


def build_published_encoder(entry: params.InceptionEncoder | params.ConvNeXtEncoder) -> Inception | ConvNeXt:
    """Return the network of a published encoder, its weights still to be loaded into `.network`."""
    if isinstance(entry, params.ConvNeXtEncoder):
        return ConvNeXt(ConvNeXtConfig(input_size=entry.input_size))
    return Inception(InceptionConfig())


def build_tokenizer(entry: params.TiTokTokenizer) -> TiTok:
    model = entry.model
    config = TiTokConfig(
        image_size=entry.images.size,
        encoder=SIZES[model.encoder],
        decoder=SIZES[model.decoder],
        encoder_patch=model.encoder_patch,
        decoder_patch=model.decoder_patch,
        tokens=model.tokens,
        quantizer=VectorQuantizerConfig(**model.quantizer.model_dump(exclude={"kind"})),
        init=TiTokInit(**model.init.model_dump()),
    )
    return TiTok(config)


def build_generator(entry: params.MaskGITGenerator, codebook_size: int, tokens: int) -> MaskGIT:
    config = MaskGITConfig(
        codebook_size=codebook_size, tokens=tokens, classes=entry.classes, **entry.model.model_dump()
    )
    return MaskGIT(config)


def build_masked_loss(entry: params.MaskedLoss) -> tuple[MaskSchedule, MaskedLoss]:
    settings = MaskedLoss(label_smoothing=entry.label_smoothing, unmasked_weight=entry.unmasked_weight)
    return MaskSchedule(entry.mask_schedule), settings


def build_reconstruction_loss(entry: params.TokenizerLosses, device: torch.device) -> ReconstructionLoss:
    terms = [build_perceptual_term(term, device) for term in entry.perceptual]
    return ReconstructionLoss(l1=entry.l1, l2=entry.l2, quantizer=entry.quantizer, perceptual=terms)


def build_perceptual_term(entry: params.Perceptual, device: torch.device) -> PerceptualTerm | LPIPSTerm:
    network = load_model(Path("results/encoders") / entry.encoder, device).requires_grad_(False)
    if entry.layer == "lpips":
        return LPIPSTerm(network=network, weight=entry.weight)
    return PerceptualTerm(extractor=network, layer=entry.layer, weight=entry.weight)


def build_adversarial_term(entry: params.Adversarial) -> AdversarialTerm:
    """Return the tokenizer's side of the GAN around a new discriminator."""
    model = entry.discriminator
    config = DiscriminatorConfig(width=model.width, stages=model.stages, groups=model.groups, side=model.side)
    return AdversarialTerm(discriminator=Discriminator(config), weight=entry.weight, start=entry.start)


def build_sampling(entry: params.MaskedSampling) -> MaskedSampling:
    return MaskedSampling(
        steps=entry.steps,
        temperature=entry.temperature,
        guidance=Guidance(**entry.guidance.model_dump()),
        schedule=MaskSchedule(entry.mask_schedule),
        softmax_annealing=entry.softmax_annealing,
    )


# ------------------------------------------------------------------------------------------- models ↔ folders


def save_model(model: nn.Module, folder: Path) -> None:
    """Write weights.safetensors and config.json."""
    (kind,) = [kind for kind, (cls, _) in MODELS.items() if type(model) is cls]
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    save_file(state, folder / "weights.safetensors")
    content = {"kind": kind, "config": asdict(model.config)}  # type: ignore[call-overload]
    (folder / "config.json").write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")


def load_model(folder: Path, device: torch.device) -> Any:
    """Return the model of a folder, in evaluation mode.

    Raises OnetokError for a missing file, an unknown kind, or tensors that do not fit the config.
    """
    content = read_config(folder)
    path = folder / "config.json"
    if content["kind"] not in MODELS:
        raise OnetokError(f"{path}: kind {content['kind']!r}, known: {', '.join(MODELS)}")
    model_class, config_class = MODELS[content["kind"]]
    strict = with_config(ConfigDict(extra="forbid"))(config_class)
    try:
        model = model_class(TypeAdapter(strict).validate_python(content["config"]))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(["config", *(str(key) for key in first["loc"])])
        raise OnetokError(f"{path}: {where}: found {first['input']!r}; {first['msg']}") from None
    weights = folder / "weights.safetensors"
    load_strictly(model, read_tensors(weights), str(weights))
    return model.to(device).eval()


def read_config(folder: Path) -> dict[str, Any]:
    """Return what config.json of a saved model says.

    Raises OnetokError where it is missing or another program's.
    """
    path = folder / "config.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise OnetokError(f"{path}: no such file, expected a saved model") from None
    except ValueError as error:
        raise OnetokError(f"{path}: not JSON ({error}), expected a saved model") from None
    if not isinstance(content, dict) or not {"kind", "config"} <= content.keys():
        raise OnetokError(f"{path}: expected the keys kind and config, as save_model writes them")
    return content
