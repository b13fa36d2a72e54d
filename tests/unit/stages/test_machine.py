import json

import torch

from onetok.stages.common import machine
from onetok.stages.common.machine import instruction_sets, machine_record, processor_name

X86 = """processor\t: 0
model name\t: AMD EPYC 9R14 96-Core Processor
flags\t\t: fpu sse4_1 sse4_2 avx fma avx2 avx512f avx512_bf16 amx_tile rdrand
processor\t: 1
model name\t: another
"""
ARM = "processor\t: 0\nFeatures\t: fp asimd asimddp sve crc32\n"


def test_the_machine_says_what_moves_figures_and_what_limits_its_instruction_sets(monkeypatch):
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "default")
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    record = machine_record(torch.device("cpu"))
    assert record == machine_record(torch.device("cpu")) == json.loads(json.dumps(record))
    assert record["instructions"]["limits"]["ATEN_CPU_CAPABILITY"] == "default"
    assert "ONEDNN_MAX_CPU_ISA" not in record["instructions"]["limits"]
    assert record["instructions"]["torch"] == torch.backends.cpu.get_cpu_capability()
    assert record["threads"] == torch.get_num_threads() and record["gpu"] is None
    assert record["libraries"]["torch"] == torch.__version__.split("+")[0]


def test_the_processor_is_read_as_linux_names_it(monkeypatch):
    monkeypatch.setattr(machine, "_cpuinfo", lambda: X86)
    assert processor_name() == "AMD EPYC 9R14 96-Core Processor"
    assert instruction_sets() == sorted(
        ["sse4_1", "sse4_2", "avx", "fma", "avx2", "avx512f", "avx512_bf16", "amx_tile"]
    )
    monkeypatch.setattr(machine, "_cpuinfo", lambda: ARM)
    assert processor_name() and instruction_sets() == ["asimd", "asimddp", "sve"]
    monkeypatch.setattr(machine, "_cpuinfo", lambda: "")
    assert processor_name() and instruction_sets() == []
