"""Params: every number that can move a result, read from `params/`, strictly, before anything runs.

A file `params/<folder>/<family>.yaml` holds, per kind of artefact, the variants of one family:

    tokenizers:                 # kind
      titok:                    # family = the file's name
        vq-16: {...}            # variant; other files call it titok/vq-16

Top-level keys that start with an underscore hold YAML anchors that variants share. No field has a default, and every
number has bounds. Files are YAML 1.2, which DVC reads alike. In params/ hidden files (.x) and what editors leave
behind (x~, #x#, x.swp, x.bak, x.orig) are passed over; anything else that is no params file is an error.
The modules here are the schema. onetok.study.yaml_files reads a file, onetok.study.load all of them, and
onetok.study.checks says which values cannot hold together.
"""
