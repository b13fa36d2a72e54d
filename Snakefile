"""onetok: every table of the papers, from its params files.

    snakemake                                     the papers, at the repository root
    snakemake --directory studies/miniature       the same on two CPU cores, in minutes
    snakemake released                            each table without the rows that have to be trained
    snakemake all write_index                     every table, and results/index.html, the page of all tables and pictures
    snakemake write_site                          results/site, the pages of the repository as a site
    snakemake speed                               how fast this machine runs the systems

A study is a directory with params/. Rules are in the order in which they run; `rule all` asks for every table and
figure that the study's params/tables/ define, and they pull everything else.
"""

from snakemake.utils import min_version

min_version("9.27")


include: "workflow/rules/common.smk"
include: "workflow/rules/run.smk"
include: "workflow/rules/datasets.smk"
include: "workflow/rules/encoders.smk"
include: "workflow/rules/tokenizers.smk"
include: "workflow/rules/text_tokenizers.smk"
include: "workflow/rules/tokens.smk"
include: "workflow/rules/generators.smk"
include: "workflow/rules/samples.smk"
include: "workflow/rules/captions.smk"
include: "workflow/rules/scores.smk"
include: "workflow/rules/tables.smk"
include: "workflow/rules/benchmarks.smk"
include: "workflow/rules/index.smk"
include: "workflow/rules/site.smk"


rule all:
    default_target: True
    input:
        [target.receipt for target in targets(STUDY)],


rule released:
    input:
        lambda _: [target.receipt for target in released_targets(STUDY, MADE)],


rule speed:
    input:
        [target.receipt for target in speed_targets(STUDY)],
