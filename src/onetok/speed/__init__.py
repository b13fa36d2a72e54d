"""Speed of tokenizers and generators on a machine, compared with lower bounds that are measured on the same machine."""
