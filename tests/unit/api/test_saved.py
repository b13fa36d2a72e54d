"""Tokenizers as people pass them on: folders and repositories of the Hub, which is a fake here."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from huggingface_hub import ModelCard

from onetok.api.saved import Card, from_pretrained, model_card, push_to_hub, save_pretrained
from onetok.errors import OnetokError
from onetok.study.digests import sha256
from tests.factories.tokenizers import IMAGES, leave_artefact, make, make_text_encoder

CARD = Card(name="mine", summary="Trained on digits.", receipt={"params": {"training": {"steps": 7}}})
PIXELS = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def save(model, folder, **options):
    save_pretrained(model, folder, images=IMAGES, card=CARD, **options)


@pytest.mark.parametrize("kind", ["vqgan", "titok", "kl"])
@torch.inference_mode()
def test_saved_and_loaded_gives_the_same_images(kind, tmp_path):
    model = make(kind)
    save(model, tmp_path / "a/b")
    found = from_pretrained(tmp_path / "a/b")
    assert type(found.model) is type(model) and found.text_encoder is None and found.images == IMAGES
    assert torch.equal(found.model.decode(found.model.encode(PIXELS)), model.decode(model.encode(PIXELS)))
    assert sorted(path.name for path in (tmp_path / "a/b").iterdir()) == [
        "README.md",
        "config.json",
        "weights.safetensors",
    ]


@torch.inference_mode()
def test_the_text_encoder_travels_with_the_tokenizer(tmp_path, monkeypatch):
    encoder, model = make_text_encoder(), make("tatitok")
    save(model, tmp_path, text_encoder=encoder)
    found = from_pretrained(tmp_path)
    ids = torch.arange(16).view(2, 8)
    states = found.text_encoder.encode_text(ids).sequence
    assert torch.equal(states, encoder.encode_text(ids).sequence)
    expected = model.decode(model.encode(PIXELS), states)
    assert torch.equal(found.model.decode(found.model.encode(PIXELS), states), expected)
    shutil.rmtree(tmp_path / "text_encoder")
    with pytest.raises(OnetokError, match=r"text_encoder/config.json: no such file, expected a saved model"):
        from_pretrained(tmp_path)


def test_text_encoder_and_tokenizer_belong_together(tmp_path, monkeypatch):
    with pytest.raises(OnetokError, match="no text encoder for a TATiTok, which takes captions"):
        save(make("tatitok"), tmp_path)
    with pytest.raises(OnetokError, match="a text encoder for a TiTok, which takes no captions"):
        save(make("titok"), tmp_path, text_encoder=make_text_encoder())
    assert list(tmp_path.iterdir()) == []


def test_the_same_model_gives_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        save(make("titok"), tmp_path / name)
    for file in ("README.md", "config.json", "weights.safetensors"):
        assert sha256(tmp_path / "a" / file) == sha256(tmp_path / "b" / file)


def test_the_card_says_what_it_is_and_how_to_load_it(tmp_path):
    save(make("titok"), tmp_path)
    card = ModelCard.load(tmp_path / "README.md")
    assert card.data.library_name == "onetok" and card.data.license == "apache-2.0"
    assert {"image-tokenizer", "titok", "arxiv:2406.07550"} <= set(card.data.tags)
    for text in (
        "# mine",
        "Trained on digits.",
        "| tokens an image | 6 |",
        "one of 32 codes of 4 channels",
        "32 x 32 px; bilinear to 40 px as torchvision does, centre 32 px",
        'load_tokenizer("mine")',
        '"steps": 7',
        "https://arxiv.org/abs/2406.07550",
    ):
        assert text in card.text
    save(make("kl"), tmp_path)
    assert "4 channels, continuous" in (tmp_path / "README.md").read_text()


def test_the_card_shows_no_password():
    receipt = {"params": {"weights": {"url": "https://me:s3cret@host/x?token=s3cret"}}}
    card = model_card(make("titok"), IMAGES, Card(name="x", summary="", receipt=receipt))
    assert '"url": "https://…@host/x?…"' in str(card)


def test_a_study_s_folder_says_its_preprocessing_and_its_text_encoder(tmp_path, monkeypatch):
    images = {**IMAGES.model_dump(), "crop": "random", "flip": True, "shift": 0}
    params = {"text": "clip/scenes", "images": images}
    leave_artefact(make("tatitok"), tmp_path, "tokenizers", "tatitok/vq-6", params)
    folder = tmp_path / "results/tokenizers/tatitok/vq-6"
    with pytest.raises(OnetokError, match=r"results/encoders/clip/scenes/config.json: no such file"):
        from_pretrained(folder)
    leave_artefact(make_text_encoder(), tmp_path, "encoders", "clip/scenes", {})
    found = from_pretrained(folder)
    assert found.images == IMAGES and found.text_encoder is not None


@pytest.mark.parametrize(
    ("file", "content", "text"),
    [
        ("config.json", None, "config.json: no such file"),
        ("config.json", "{", "config.json: not JSON"),
        ("config.json", '{"architectures": []}', "config.json: expected the keys kind and config"),
        ("config.json", '{"kind": "x", "config": {}}', "config.json: kind 'x', known: classifier"),
        ("config.json", '{"kind": "titok", "config": {"tokens": 3}}', r"config.json: config\.\w+: found"),
        ("weights.safetensors", None, "weights.safetensors: no such file"),
        ("weights.safetensors", "cut", "weights.safetensors: not a file of tensors"),
        ("receipt.json", "{", "receipt.json: not JSON"),
        ("receipt.json", "{}", "receipt.json: stage: found {}, Field required"),
    ],
)
def test_a_folder_that_is_none_is_named(file, content, text, tmp_path):
    save(make("titok"), tmp_path)
    (tmp_path / file).unlink(missing_ok=True)
    if content is not None:
        (tmp_path / file).write_text(content)
    with pytest.raises(OnetokError, match=text) as raised:
        from_pretrained(tmp_path)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("preprocessing", "text"),
    [
        ({"size": 3}, r"preprocessing: found {'size': 3}, expected resize, .*\(resize: Field required\)"),
        ([], r"preprocessing: found \[\], expected resize"),
        (IMAGES.model_dump() | {"size": 2**40}, r"\(size: Input should be less than"),
        (IMAGES.model_dump() | {"shorter_edge": 1}, "preprocessing: shorter_edge 1 is below size 32"),
        (IMAGES.model_dump() | {"more": [0] * 10_000}, r"\(more: Extra inputs are not permitted\)"),
    ],
)
def test_wrong_preprocessing_is_named(preprocessing, text, tmp_path):
    save(make("titok"), tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"preprocessing": preprocessing}))
    with pytest.raises(OnetokError, match=text) as raised:
        from_pretrained(tmp_path)
    assert len(str(raised.value)) < 700


class FakeHub:
    """Repositories as folders."""

    def __init__(self, root):
        self.root, self.private = root, {}

    def create_repo(self, repo_id, private, exist_ok):
        assert exist_ok
        self.private[repo_id] = private

    def upload_folder(self, repo_id, folder_path, commit_message):
        shutil.copytree(folder_path, self.root / repo_id, dirs_exist_ok=True)
        return f"https://hub/{repo_id}/commit/1 {commit_message}"

    def snapshot_download(self, repo, revision, allow_patterns):
        assert "README.md" not in allow_patterns
        return str(self.root / repo / (revision or ""))


@pytest.fixture
def hub(tmp_path, monkeypatch):
    fake = FakeHub(tmp_path / "hub")
    monkeypatch.setattr("onetok.release.download.HfApi", lambda: fake)
    monkeypatch.setattr("onetok.release.download.snapshot_download", fake.snapshot_download)
    return fake


@torch.inference_mode()
def test_pushed_and_had_back_from_the_hub(hub):
    model = make("titok")
    address = push_to_hub(model, "someone/titok-6", images=IMAGES, card=CARD, private=True)
    assert address == "https://hub/someone/titok-6/commit/1 Upload TiTok" and hub.private["someone/titok-6"]
    assert 'load_tokenizer("someone/titok-6")' in (hub.root / "someone/titok-6/README.md").read_text()
    found = from_pretrained("someone/titok-6")
    assert found.images == IMAGES
    assert torch.equal(found.model.decode(found.model.encode(PIXELS)), model.decode(model.encode(PIXELS)))


def test_another_program_s_repository_is_refused(hub):
    (hub.root / "someone/else").mkdir(parents=True)
    with pytest.raises(OnetokError, match=r"someone/else: no config.json in the repository"):
        from_pretrained("someone/else")


def test_a_refused_upload_is_one_line(hub, monkeypatch):
    def fail(**options):
        raise OSError("401 Unauthorized\n\nlong")

    monkeypatch.setattr(hub, "upload_folder", fail)
    with pytest.raises(
        OnetokError, match=r"^someone/x: cannot be uploaded to the Hub: 401 Unauthorized long$"
    ):
        push_to_hub(make("titok"), "someone/x", images=IMAGES, card=CARD, private=False)
