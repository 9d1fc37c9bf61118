"""The shape of a decoder: the sizes of its layers by its config.json, and its parameters counted from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from recipes.errors import UserError

Value = object  # of a config.json

# Families whose layers are counted exactly (tests compare them with transformers); others are taken for a llama.
KNOWN = (
    "llama", "mistral", "mixtral", "qwen2", "qwen3", "qwen3_moe", "phi3", "gemma", "gemma3_text", "smollm3", "granite",
)  # fmt: skip
QK_NORM = ("qwen3", "qwen3_moe", "gemma3_text")
FUSED = ("phi3",)  # query, key and value in one linear layer, gate and up in another
FOUR_NORMS = ("gemma3_text",)  # before and after attention and MLP
TIED_BY_DEFAULT = (
    "gemma",
    "gemma2",
    "gemma3_text",
    "smollm3",
    "gpt2",
    "cohere",
    "cohere2",
)  # transformers leaves a default out of config.json


@dataclass(frozen=True, kw_only=True)
class Linear:
    """A linear layer: its number of inputs, outputs and biases."""

    inputs: int
    outputs: int
    bias: int = 0

    @property
    def weights(self) -> int:
        return self.inputs * self.outputs


@dataclass(frozen=True, kw_only=True)
class Shape:
    """The sizes of a decoder-only transformer, in elements."""

    family: str
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocabulary: int
    tied: bool
    bias: frozenset[str] = field(default_factory=frozenset)  # of the linear layers that have one
    experts: int = 0  # of a layer; 0: one dense MLP
    active_experts: int = 0  # that a token goes through
    dense_layers: int = 0  # of a mixture of experts: layers with a dense MLP after all
    expert_intermediate: int = 0
    window: int | None = None  # of sliding attention, in tokens
    sliding_layers: int = 0  # that have such a window
    stored: str = ""  # the dtype of the checkpoint, as its config.json calls it

    @property
    def known(self) -> bool:
        return self.family in KNOWN

    @property
    def queries(self) -> int:
        return self.heads * self.head_dim

    @property
    def keys(self) -> int:
        return self.kv_heads * self.head_dim

    @property
    def norms(self) -> int:
        """RMSNorms over the hidden size in a layer."""
        return 4 if self.family in FOUR_NORMS else 2

    @property
    def qk_norm(self) -> bool:
        return self.family in QK_NORM

    @property
    def sparse_layers(self) -> int:
        return self.layers - self.dense_layers if self.experts else 0

    @cached_property
    def attention(self) -> Mapping[str, Linear]:
        """The linear layers of attention in a layer, by transformers' names."""
        named = {"q_proj": (self.hidden, self.queries), "k_proj": (self.hidden, self.keys)}
        named |= {"v_proj": (self.hidden, self.keys), "o_proj": (self.queries, self.hidden)}
        if self.fused:
            named = {"qkv_proj": (self.hidden, self.queries + 2 * self.keys), "o_proj": named["o_proj"]}
        return self._with_bias(named)

    @property
    def fused(self) -> bool:
        return self.family in FUSED

    @cached_property
    def mlp(self) -> Mapping[str, Linear]:
        """Those of a dense MLP."""
        wide = self.intermediate
        named = dict.fromkeys(("gate_proj", "up_proj"), (self.hidden, wide)) | {"down_proj": (wide, self.hidden)}
        if self.fused:
            named = {"gate_up_proj": (self.hidden, 2 * wide), "down_proj": (wide, self.hidden)}
        return self._with_bias(named)

    def _with_bias(self, named: Mapping[str, tuple[int, int]]) -> Mapping[str, Linear]:
        return {
            name: Linear(inputs=inputs, outputs=outputs, bias=outputs if name in self.bias else 0)
            for name, (inputs, outputs) in named.items()
        }

    @property
    def linears(self) -> tuple[tuple[str, Linear, int], ...]:
        """The linear layers, each with its number in the model; experts are no such layers in transformers."""
        dense = self.layers - self.sparse_layers
        own = [(name, one, self.layers) for name, one in self.attention.items()]
        return (*own, *((name, one, dense) for name, one in self.mlp.items() if dense))

    @property
    def embeddings(self) -> int:
        """Parameters of the token embeddings, and of the head where it has its own."""
        return self.vocabulary * self.hidden * (1 if self.tied else 2)

    @property
    def linear_weights(self) -> int:
        """Weights of the linear layers of all decoder layers: what a quantized base quantizes."""
        return sum(one.weights * count for _, one, count in self.linears)

    @property
    def expert_weights(self) -> int:
        """Weights of all experts of the model."""
        return self.sparse_layers * self.experts * 3 * self.hidden * self.expert_intermediate

    @property
    def parameters(self) -> int:
        """All parameters, as transformers counts those of the model (tied ones once)."""
        biases = sum(one.bias * count for _, one, count in self.linears)
        norms = self.layers * (self.norms * self.hidden + (2 * self.head_dim if self.qk_norm else 0)) + self.hidden
        routers = self.sparse_layers * self.experts * self.hidden
        return self.embeddings + self.linear_weights + self.expert_weights + biases + norms + routers

    @property
    def active(self) -> int:
        """Parameters that a token is multiplied by: no embedding look-up, of the experts those it goes through."""
        share = self.active_experts / self.experts if self.experts else 0
        return self.linear_weights + int(self.expert_weights * share) + self.vocabulary * self.hidden

    def modules(self, name: str) -> int | None:
        """Parameters of all modules whose names end so, as PEFT takes modules_to_save; None where there is none."""
        table = self.vocabulary * self.hidden
        named = {"embed_tokens": table, "lm_head": table, "norm": self.hidden}
        norms = ["input_layernorm", "post_attention_layernorm"]
        norms += ["pre_feedforward_layernorm", "post_feedforward_layernorm"] if self.norms == 4 else []
        named |= dict.fromkeys(norms, self.hidden * self.layers)
        named |= dict.fromkeys(("q_norm", "k_norm") if self.qk_norm else (), self.head_dim * self.layers)
        named |= {linear: (one.weights + one.bias) * count for linear, one, count in self.linears}
        found = [size for one, size in named.items() if one.endswith(name)]
        return sum(found) if found else None

    @property
    def layer_weights(self) -> int:
        """Weights of the largest decoder layer: what sharding gathers at a time."""
        own = sum(one.weights for one in self.attention.values())
        experts = self.experts * 3 * self.hidden * self.expert_intermediate
        return own + (experts or sum(one.weights for one in self.mlp.values()))


def shape(config: Mapping[str, Value], place: str = "config.json") -> Shape:
    """The shape that a config.json describes.

    Raises:
        UserError: a size that is missing or no whole number above 0, or experts of a kind that is not counted.
    """
    text = config.get("text_config")
    if isinstance(text, Mapping):  # of a model that sees too: what it reads with is trained
        config = {"tie_word_embeddings": config.get("tie_word_embeddings", True), **text}
    family = str(config.get("model_type", "")) or "llama"
    family = {"gemma3": "gemma3_text"}.get(family, family)

    def size(*names: str, default: int | None = None) -> int:
        value = next((config[name] for name in names if config.get(name) is not None), default)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise UserError(f"{place}: {names[0]}: {value!r} is not allowed; allowed: a whole number, at least 1")
        return value

    hidden, heads = size("hidden_size", "n_embd"), size("num_attention_heads", "n_head")
    experts = config.get("num_experts") or config.get("num_local_experts")
    # DeepSeek's, GLM's and Kimi's: counted as dense, a model of 671 billion parameters has 39.
    if others := [name for name in config if "experts" in name and config[name] and not experts]:
        raise UserError(f"{place}: {others[0]}: a mixture of experts of a kind that is not counted here")
    layers = size("num_hidden_layers", "n_layer")
    sliding = _sliding_layers(family, config, layers)
    bias = [name for name, asked in _biases(family, config).items() if asked]
    return Shape(
        family=family,
        hidden=hidden,
        layers=layers,
        heads=heads,
        kv_heads=size("num_key_value_heads", default=heads),
        head_dim=size("head_dim", default=max(1, hidden // heads)),
        intermediate=size("intermediate_size", "n_inner", default=4 * hidden),
        vocabulary=size("vocab_size"),
        tied=bool(config.get("tie_word_embeddings", family in TIED_BY_DEFAULT)),
        bias=frozenset(bias),
        experts=size("num_experts", "num_local_experts") if experts else 0,
        active_experts=size("num_experts_per_tok", default=2) if experts else 0,
        dense_layers=_dense_layers(config, layers) if experts else 0,
        expert_intermediate=size("moe_intermediate_size", "intermediate_size") if experts else 0,
        window=size("sliding_window") if sliding else None,
        sliding_layers=sliding,
        stored=str(config.get("dtype") or config.get("torch_dtype") or ""),
    )


def _biases(family: str, config: Mapping[str, Value]) -> dict[str, bool]:
    attention = bool(config.get("attention_bias"))
    found = dict.fromkeys(("q_proj", "k_proj", "v_proj"), attention or family == "qwen2") | {"o_proj": attention}
    if family == "phi3":
        return {}
    return found | dict.fromkeys(("gate_proj", "up_proj", "down_proj"), bool(config.get("mlp_bias")))


def _dense_layers(config: Mapping[str, Value], layers: int) -> int:
    named, every = config.get("mlp_only_layers") or [], config.get("decoder_sparse_step") or 1
    dense = set(named) if isinstance(named, list) else set()
    every = every if isinstance(every, int) else 1
    return sum(1 for n in range(layers) if n in dense or (n + 1) % every)


def _sliding_layers(family: str, config: Mapping[str, Value], layers: int) -> int:
    if not config.get("sliding_window") or config.get("use_sliding_window") is False:
        return 0
    kinds = config.get("layer_types")
    if isinstance(kinds, list):
        return kinds.count("sliding_attention")
    # Every sixth layer of Gemma 3 looks at everything; Qwen's window is off unless its config says that it is on.
    return {"mistral": layers, "phi3": layers, "gemma3_text": layers - layers // 6}.get(family, 0)
