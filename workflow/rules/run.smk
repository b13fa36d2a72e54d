"""What a run says before its first job, and at its end where jobs have failed."""

import atexit
from pathlib import Path

from onetok.workflow.failures import JobErrors, Run, summary
from onetok.workflow.needs import float16_on_cpu, missing_needs
from onetok.study.plan import KIND_OF_STAGE
from onetok.workflow.profile import has_gpu


def runs(jobs):
    """Return jobs of Snakemake by stage and name, without the targets, which make nothing."""
    return [
        Run(
            job.rule.name,
            f"{job.wildcards.family}/{job.wildcards.variant}",
            next(iter(job.log), None),
        )
        for job in jobs
        if job.rule.name in KIND_OF_STAGE
    ]


def missing():
    """Return what the planned jobs need from outside and do not find, one line each."""
    needed = [
        Artefact(kind=KIND_OF_STAGE[run.stage].name, name=run.name)
        for run in runs(workflow.dag.needrun_jobs(exclude_finished=False))
    ]
    lines = missing_needs(STUDY, needed, Path())
    if MACHINE.device == "cpu" and (line := float16_on_cpu(STUDY, needed)):
        lines.append(line)
    # A cluster's jobs run on other machines than this one, and a dry run does not say where they would.
    here = workflow.local_exec and not workflow.dryrun
    if needed and here and MACHINE.device == "cuda" and not has_gpu():
        lines.append("profile: config.device: found cuda, but this machine has no GPU")
    return lines


onstart:
    if not workflow.touch and (lines := missing()):
        sys.exit(
            "\n  ".join(
                ["onetok: nothing was run, because this is missing:", *lines]
            )
        )


@atexit.register
def warn_of_missing():
    """Say after a dry run what would stop the run: Snakemake calls no handler in one."""
    if workflow.dag is not None and workflow.dryrun and (lines := missing()):
        text = [
            "onetok: a run would stop before its first job, because this is missing:"
        ]
        print("\n  ".join([*text, *lines]), file=sys.stderr)


logger.addFilter(JobErrors())


onerror:
    failed = set(workflow.scheduler.failed)
    if failed:
        unmade = [job for job in workflow.dag.needrun_jobs() if job not in failed]
        logger.error(summary(runs(failed), runs(unmade), Path()))
