"""Params: every number that can move a result, read from `params/`, strictly, before anything runs.

A file `params/<folder>/<family>.yaml` holds, per kind of artefact, the variants of one family:

    tokenizers:                 # kind
      titok:                    # family = the file's name
        vq-16: {...}            # variant; other files call it titok/vq-16

Top-level keys that start with an underscore hold YAML anchors that variants share. No field has a default, and every
number has bounds. Files are YAML 1.2, which DVC reads alike. In params/ hidden files (.x) and what editors leave
behind (x~, #x#, x.swp, x.bak, x.orig) are passed over; anything else that is no params file is an error.
The modules here are the schema; onetok.reading reads a file, onetok.study all of them, onetok.consistency says which
values cannot hold together.
"""

from __future__ import annotations

from onetok.params.base import *
from onetok.params.benchmarks import *
from onetok.params.datasets import *
from onetok.params.encoders import *
from onetok.params.generators import *
from onetok.params.speeds import *
from onetok.params.spreads import *
from onetok.params.study import *
from onetok.params.tables import *
from onetok.params.tokenizers import *
from onetok.params.training import *
