"""`snakemake --profile slurm` on a real Slurm: one node, this machine, with pretend GPUs and no accounting."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

CONFIG = Path("/etc/slurm/slurm.conf")  # jobs do not inherit SLURM_CONF, so it must be this place
MARK = "# written by onetok's tests\n"
SETTINGS = """ClusterName=onetok
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory=4000 Gres=gpu:2 State=UNKNOWN
PartitionName=gpu Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


@pytest.fixture
def slurm(tmp_path: Path) -> Iterator[Path]:
    """Start munge and Slurm; end exactly what was started."""
    for program in ("slurmctld", "slurmd", "sbatch", "munged"):
        if shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin") is None:
            pytest.skip(f"{program} is not installed: apt-get install slurmctld slurmd slurm-client munge")
    if os.geteuid() != 0:
        pytest.skip("needs root, to start Slurm's daemons")
    if CONFIG.exists() and not CONFIG.read_text().startswith(MARK):
        pytest.skip(f"{CONFIG} exists: this machine has a Slurm of its own")
    for name in ("state", "spool"):
        (tmp_path / name).mkdir()
    Path("/run/munge").mkdir(exist_ok=True)
    shutil.chown("/run/munge", "munge", "munge")
    CONFIG.write_text(MARK + SETTINGS.format(host=socket.gethostname(), folder=tmp_path, cpus=os.cpu_count()))
    CONFIG.with_name("gres.conf").write_text("Name=gpu File=/dev/tty[0-1]\n")
    daemons = [
        subprocess.Popen(["runuser", "-u", "munge", "--", "/usr/sbin/munged", "--foreground", "--force"]),
        subprocess.Popen(["/usr/sbin/slurmctld", "-D"]),
        subprocess.Popen(["/usr/sbin/slurmd", "-D"]),
    ]
    try:
        deadline = time.monotonic() + 60
        while "idle" not in subprocess.run(["sinfo"], capture_output=True, text=True, check=False).stdout:
            assert time.monotonic() < deadline, "Slurm did not come up"
            time.sleep(1)
        yield tmp_path
    finally:
        for daemon in reversed(daemons):
            daemon.send_signal(signal.SIGTERM)
            daemon.wait(timeout=30)
        CONFIG.unlink()
        CONFIG.with_name("gres.conf").unlink()


@pytest.mark.slow
def test_the_profile_runs_jobs_on_a_cluster_with_two_processes_each(slurm, smallest, snakemake):
    """The shipped profile, its cluster's values lowered to this machine: a rule without and one with a GPU."""
    launch = "python -m torch.distributed.run --standalone --nproc_per_node 2 -m"
    target = "results/encoders/classifiers/digits/receipt.json"
    small = ["slurm_partition=gpu", "mem_mb=1000", "disk_mb=100", "runtime=10", "cpus_per_task=1", "gpu=0"]
    waits = ["--slurm-init-seconds-before-status-checks", "3", "--seconds-between-status-checks", "3"]
    done = snakemake(
        smallest,
        *["--profile", "slurm", "--slurm-status-command", "squeue", *waits],
        *["--config", "device=cpu", "tf32=false", "threads=1", "workers=0", f"launch={launch}"],
        *["--default-resources", *small, "--set-resources", "train_encoder:gpu=1", "--", target],
    )
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("has been submitted with SLURM jobid") == 2
    assert (smallest / target).exists()
    record = json.loads((smallest / "results/logs/train_encoder/classifiers/digits/run.json").read_text())
    assert record["processes"] == 2
    assert (
        "train_encoder classifiers/digits: accuracy"
        in (smallest / "results/logs/train_encoder/classifiers/digits/log.txt").read_text()
    )
