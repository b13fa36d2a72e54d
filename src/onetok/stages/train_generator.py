"""Train a generator on a token cache."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from onetok.consistency import quantizer_of
from onetok.data.tokens import TokenCache
from onetok.registry import build_generator, build_masked_loss
from onetok.stages.fit import fit
from onetok.stages.runtime import Context, main
from onetok.training.loop import Task
from onetok.training.tasks import MaskedGeneratorObjective, single_phase


def train_generator(context: Context) -> None:
    entry = context.study.generators[context.job.name]
    cache = TokenCache(Path("results/tokens") / entry.tokens)
    tokenizer = context.study.tokenizers[context.study.tokens[entry.tokens].tokenizer]
    quantizer = quantizer_of(context.study, tokenizer)

    def build() -> tuple[Task, nn.Module]:
        assert quantizer.kind == "vq"
        model = build_generator(entry, quantizer.codebook_size, cache.length)
        objective = MaskedGeneratorObjective(model, *build_masked_loss(entry.loss))
        task = single_phase(
            model, objective, cache, len(cache), entry.training, context.processes, context.workers
        )
        return task, model

    fit(context, build, entry.training)


if __name__ == "__main__":
    main("train_generator", train_generator)
