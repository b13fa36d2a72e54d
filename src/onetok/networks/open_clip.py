"""From the name of an architecture in open_clip to the configuration of CLIP."""

from __future__ import annotations

from inspect import signature

from onetok.errors import OnetokError, nearest
from onetok.networks.clip import CLIPConfig

_TOP = {"embed_dim", "quick_gelu", "vision_cfg", "text_cfg"}
_VISION = {"image_size", "patch_size", "width", "layers", "head_width"}
_TEXT = {"context_length", "vocab_size", "width", "layers", "heads"}


def clip_config(architecture: str) -> CLIPConfig:
    """Return the configuration of an architecture that open_clip lists, such as "ViT-L-14-336-quickgelu".

    Raises OnetokError for a name that open_clip does not list, and for encoders with settings that the original CLIP's
    do not have.
    """
    import open_clip  # takes seconds to import, so only when it is needed
    from open_clip import CLIPTextCfg, CLIPVisionCfg

    known = open_clip.list_models()
    if architecture not in known:  # checked here, because open_clip would look for other names on the Hub
        raise OnetokError(
            f"architecture: open_clip has none named {architecture!r}; {nearest(architecture, known)}"
        )
    released = open_clip.get_model_config(architecture)
    towers = released["vision_cfg"].keys() <= _VISION and released["text_cfg"].keys() <= _TEXT
    if not (towers and released.keys() <= _TOP) or isinstance(released["vision_cfg"]["layers"], list):
        raise OnetokError(f"architecture: {architecture!r} is not the original CLIP's pair of transformers")
    # open_clip's classes give the defaults of settings that an architecture leaves out.
    vision, text = CLIPVisionCfg(**released["vision_cfg"]), CLIPTextCfg(**released["text_cfg"])
    quick_gelu = signature(open_clip.CLIP).parameters["quick_gelu"].default
    return CLIPConfig(
        image_size=vision.image_size,
        patch_size=vision.patch_size,
        vision_width=vision.width,
        vision_layers=vision.layers,
        vision_head_width=vision.head_width,
        context_length=text.context_length,
        vocab_size=text.vocab_size,
        text_width=text.width,
        text_layers=text.layers,
        text_heads=text.heads,
        embedding=released["embed_dim"],
        quick_gelu=released.get("quick_gelu", quick_gelu),
    )
