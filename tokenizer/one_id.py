"""What tokenizers of one id to a step have in common: no id says by itself where a vertex is."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


class OneIdTokenizer:
    """Lossless unless it says otherwise."""

    vocab: int
    width = 1
    spell = 1
    lossy = False
    places = None
    offsets = None

    @property
    def shifts(self) -> Float[Tensor, "1 vocab 3"]:
        """Zeros: nothing is moved by an id alone."""
        return torch.zeros(1, self.vocab, 3)
