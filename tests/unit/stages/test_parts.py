"""Work in parts: what is there and whole is not computed again."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from onetok.stages.common.parts import work_in_parts

ALONE = SimpleNamespace(
    process_index=0, num_processes=1, is_main_process=True, wait_for_everyone=lambda: None
)


def run(folder, computed):
    context = SimpleNamespace(processes=ALONE, scratch=folder, workers=0)

    def compute(part, item):
        computed.append(part)
        return {"squares": np.arange(1000) * item**2}

    found = work_in_parts(context, 3, lambda part: part, compute, "test", "parts")
    return [int(arrays["squares"][1]) for arrays in found]


def flipped(content):
    changed = bytearray(content)
    changed[len(changed) // 2] ^= 1
    return bytes(changed)


@pytest.mark.parametrize(
    "damage",
    [lambda content: b"", lambda content: content[:300], lambda content: bytes(len(content)), flipped],
)
def test_a_part_that_is_damaged_is_named_and_computed_again(tmp_path, capsys, damage):
    computed = []
    assert run(tmp_path, computed) == [0, 1, 4] and computed == [0, 1, 2]
    part = tmp_path / "part-00000001.npz"
    whole = part.read_bytes()
    part.write_bytes(damage(whole))
    computed.clear()
    assert run(tmp_path, computed) == [0, 1, 4] and computed == [1]
    assert f"{part}: damaged part: " in capsys.readouterr().err
    computed.clear()
    assert run(tmp_path, computed) == [0, 1, 4] and computed == []
