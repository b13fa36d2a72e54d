"""Params of a whole study."""

from __future__ import annotations

from onetok.params.base import Strict
from onetok.params.benchmarks import Benchmark
from onetok.params.datasets import Dataset
from onetok.params.encoders import Encoder
from onetok.params.generators import Generator, Samples
from onetok.params.speeds import Speed
from onetok.params.spreads import Spread
from onetok.params.tables import Figure, Table
from onetok.params.tokenizers import Tokenizer, Tokens


class Study(Strict):
    """All params of a study directory, by kind, then by family/variant."""

    datasets: dict[str, Dataset]
    encoders: dict[str, Encoder]
    tokenizers: dict[str, Tokenizer]
    tokens: dict[str, Tokens]
    generators: dict[str, Generator]
    samples: dict[str, Samples]
    benchmarks: dict[str, Benchmark]
    speeds: dict[str, Speed]
    spreads: dict[str, Spread]
    tables: dict[str, Table]
    figures: dict[str, Figure]
