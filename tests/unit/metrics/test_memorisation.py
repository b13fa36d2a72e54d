import numpy as np
import pytest

from onetok.metrics import memorisation
from onetok.metrics.memorisation import memorised_share


def test_a_sample_is_memorised_where_all_its_tokens_are_those_of_one_view(monkeypatch):
    cache = np.array([[[1, 2, 3], [3, 2, 1]], [[4, 5, 6], [1, 2, 3]]], dtype=np.uint8)  # (M, V, N)
    drawn = np.array([[1, 2, 3], [1, 2, 4], [4, 5, 6], [3, 1, 2]], dtype=np.uint8)
    assert memorised_share(drawn, cache) == 0.5
    monkeypatch.setattr(memorisation, "ROWS", 1)
    assert memorised_share(drawn, cache) == 0.5  # whatever is looked at together
    assert memorised_share(drawn.astype(np.uint16), cache) == 0.5  # the types of ids need not agree


@pytest.mark.parametrize("kept", ["drawn", "cached"])
def test_latents_are_never_memorised_token_for_token(kept):
    ids = {"drawn": np.ones((2, 3), np.uint8), "cached": np.ones((2, 1, 3), np.uint8)}
    ids[kept] = ids[kept].astype(np.float16)
    assert memorised_share(ids["drawn"], ids["cached"]) is None
