"""Read the architecture and the sizes of a model from its `config.json`.

A setting that would change what the model computes is handled or refused, never ignored.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn

from dynamic_tinybert.folder.architectures import ARCHITECTURES, BUCKETS
from dynamic_tinybert.folder.errors import ModelFolderError
from dynamic_tinybert.model import Activation, Bottleneck, Disentangled, ModelShape, Modern, read_significance

_ACTIVATIONS: Final[Mapping[str, Activation]] = {
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_fast": "gelu_tanh",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
}
_OWN_POSITIONS: Final = ("deberta", "deberta-v2", "mobilebert", "modernbert")  # never read position_embedding_type
_MOST_LAYERS: Final = 1000
_MOST_POSITIONS: Final = 1 << 17  # tables are made by position
_MOST: Final = 2**31 - 1
_LAYER_TYPES: Final = ("full_attention", "sliding_attention")
_BASES: Final = {
    "full_attention": ("global_rope_theta", 160_000.0),
    "sliding_attention": ("local_rope_theta", 10_000.0),
}


@dataclass(frozen=True)
class _Settings:
    """The content of a `config.json`."""

    file: Path
    config: Mapping[str, Any]

    def refuse(self, key: str, wanted: str) -> NoReturn:
        """Raise the error for a setting that is not supported."""
        found = repr(self.config[key]) if key in self.config else "missing"
        raise ModelFolderError(f"{self.file}: {key} is {found}, but only {wanted} is supported: choose another model")

    def count(self, key: str, default: int | None = None, least: int = 1, most: int = _MOST) -> int:
        value = self.config.get(key, default)
        if type(value) is not int or not least <= value <= most:
            self.refuse(key, f"an integer from {least} to {most}")
        return value

    def flag(self, key: str, default: bool) -> bool:
        value = self.config.get(key, default)
        if type(value) is not bool:
            self.refuse(key, "true or false")
        return value

    def activation(self, key: str, default: str) -> Activation:
        found = _ACTIVATIONS.get(str(self.config.get(key, default)))
        if found is None:
            self.refuse(key, " | ".join(_ACTIVATIONS))
        return found

    def words(self, key: str, known: tuple[str, ...]) -> list[str]:
        """Return a list of different words, in JSON or in a string with `|` between them; none if it is missing."""
        value = self.config.get(key)
        if value is None:
            return []
        words = [word.strip() for word in value.lower().split("|")] if isinstance(value, str) else value
        if not isinstance(words, list) or not all(word in known for word in words) or len(set(words)) < len(words):
            self.refuse(key, f"a list of {' | '.join(known)}")
        return words


def read_shape(file: Path, config: Mapping[str, Any]) -> tuple[str, ModelShape]:
    """Read the architecture, which is the `model_type`, and the sizes from the content of the `config.json` `file`.

    Raises:
        ModelFolderError: The architecture or a setting is not supported, or a size is missing.
    """
    settings = _Settings(file, config)
    count, refuse = settings.count, settings.refuse
    kind = config.get("model_type", _kind_of(config.get("architectures")))
    if not isinstance(kind, str) or kind not in ARCHITECTURES:
        refuse("model_type", " | ".join(ARCHITECTURES))
    theirs = ARCHITECTURES[kind]
    ours = {name for name, _ in theirs.names}
    for key, only in (("is_decoder", False), ("add_cross_attention", False), ("position_embedding_type", "absolute")):
        if config.get(key) not in (None, only) and not (key == "position_embedding_type" and kind in _OWN_POSITIONS):
            refuse(key, repr(only))
    activation = settings.activation(theirs.settings["activation"], theirs.activation)
    try:
        significance, significance_head = read_significance(config.get("dynamic_tinybert", {}))
    except ValueError as error:
        raise ModelFolderError(f"{file}: {error}: choose another model") from None
    if significance_head and "layers.{i}.significance_head" not in ours:
        raise ModelFolderError(
            f"{file}: a {kind} model with a significance_head is not supported: choose another model"
        )
    key, usual = theirs.epsilon_setting
    epsilon = config.get(key, usual) if theirs.epsilon is None else theirs.epsilon
    if type(epsilon) is not float or not 0 < epsilon < 1:
        refuse(key, "a number between 0 and 1")
    layers = count(theirs.settings["layers"], most=_MOST_LAYERS)
    hidden, heads = count(theirs.settings["hidden"]), count(theirs.settings["heads"])
    if hidden % heads:
        refuse(theirs.settings["hidden"], f"a multiple of {theirs.settings['heads']} ({heads})")
    disentangled = None
    if kind in ("deberta", "deberta-v2"):
        disentangled = _read_disentangled(settings, hidden // heads, first=kind == "deberta")
    modern = _read_modern(settings, layers, hidden // heads) if kind == "modernbert" else None
    if significance == "question" and modern and any(modern.local):
        raise ModelFolderError(
            f"{file}: only voters 'all' is supported with local attention, because most tokens are not within reach of"
            " the question: choose another model"
        )
    bottleneck = _read_bottleneck(settings, heads) if kind == "mobilebert" else None
    embedding = hidden
    if theirs.narrow or disentangled:
        embedding = count("embedding_size", hidden if disentangled else 128)
    first = 0
    if theirs.padded_positions:
        first = 1 + (count("pad_token_id", 1, least=0) if theirs.padding is None else theirs.padding)
    shared = kind == "albert"
    if shared:
        count("inner_group_num", 1, most=1)
    groups = count("num_hidden_groups", 1, most=layers) if shared else layers
    types = 0
    if "embeddings.token_type" in ours:
        types = count("type_vocab_size", 0, least=0) if disentangled else count("type_vocab_size", 2)
    return kind, ModelShape(
        layers=layers,
        hidden=hidden,
        heads=heads,
        feed_forward=count(theirs.settings["feed_forward"]),
        vocabulary=count("vocab_size"),
        positions=count("max_position_embeddings", theirs.positions, least=first + 1, most=_MOST_POSITIONS) - first,
        token_types=types,
        activation=activation,
        norm_epsilon=epsilon,
        significance=significance,
        significance_head=significance_head,
        typed=types > 0,  # if the tokenizer makes types
        embedding=None if embedding == hidden else embedding,
        projected=shared or bottleneck is not None or embedding != hidden,
        first_position=first,
        distances=count("relative_attention_num_buckets", BUCKETS, least=BUCKETS) if "distances" in ours else 0,
        sharing=tuple(int(i / (layers / groups)) for i in range(layers)) if shared else (),
        disentangled=disentangled,
        modern=modern,
        bottleneck=bottleneck,
    )


def _kind_of(classes: object) -> str | None:
    """Return the architecture whose class is the first of `architectures`, for a configuration without a type."""
    said = classes[0] if isinstance(classes, list) and classes else None
    return next((kind for kind, known in ARCHITECTURES.items() if known.model == said), None)


def _read_bottleneck(settings: _Settings, heads: int) -> Bottleneck:
    """Read the settings of MobileBERT, in the form of the published models."""
    wanted = {
        "trigram_input": True,
        "use_bottleneck": True,
        "key_query_shared_bottleneck": True,
        "use_bottleneck_attention": False,
        "normalization_type": "no_norm",
    }
    for key, only in wanted.items():
        if settings.config.get(key, only) != only:
            settings.refuse(key, str(only).lower())
    width = settings.count("intra_bottleneck_size", 128)
    if width % heads:
        settings.refuse("intra_bottleneck_size", f"a multiple of num_attention_heads ({heads})")
    if settings.config.get("true_hidden_size") not in (None, width):
        settings.refuse("true_hidden_size", f"intra_bottleneck_size ({width})")
    return Bottleneck(width=width, feed_forwards=settings.count("num_feedforward_networks", 4))


def _read_disentangled(settings: _Settings, size: int, *, first: bool) -> Disentangled:
    """Read the settings of DeBERTa; `size` is that of an attention head, `first` whether it is not v2 or v3."""
    config = settings.config
    if config.get("conv_kernel_size") not in (None, 0):
        settings.refuse("conv_kernel_size", "0, a model without a convolution,")
    if config.get("attention_head_size") not in (None, size):
        settings.refuse("attention_head_size", f"hidden_size / num_attention_heads ({size})")
    if config.get("talking_head") not in (None, False):
        settings.refuse("talking_head", "false")
    positioned = settings.flag("position_biased_input", True)
    kinds = settings.words("pos_att_type", ("c2p", "p2c"))
    relative = settings.flag("relative_attention", False)
    if relative != bool(kinds):
        wanted = "a list of c2p | p2c, with relative_attention" if relative else "null, without relative_attention,"
        settings.refuse("pos_att_type", wanted)
    if not relative:
        return Disentangled(positioned=positioned, packed=first)
    longest = settings.count("max_relative_positions", -1, least=-1)
    if longest < 1:
        longest = settings.count("max_position_embeddings", 512)
    span = -1 if first else settings.count("position_buckets", -1, least=-1)
    logarithmic = span > 0
    if logarithmic and not (span >= 4 and span // 2 < longest - 1):
        settings.refuse("position_buckets", f"-1 or an integer from 4 to {max(2 * longest - 3, 4)}")
    return Disentangled(
        span=span if logarithmic else longest,
        longest=longest if logarithmic else 0,
        to_position="c2p" in kinds,
        to_content="p2c" in kinds,
        shared=not first and settings.flag("share_att_key", False),
        normed=not first and "layer_norm" in settings.words("norm_rel_ebd", ("none", "layer_norm")),
        positioned=positioned,
        packed=first,
    )


def _read_modern(settings: _Settings, layers: int, size: int) -> Modern:
    """Read the settings of ModernBERT; `size` is that of an attention head."""
    config = settings.config
    reach = settings.count("local_attention", 128, least=0) // 2
    if config.get("sliding_window") not in (None, reach):
        settings.refuse("sliding_window", f"half of local_attention ({reach})")
    if config.get("head_dim") not in (None, size):
        settings.refuse("head_dim", f"hidden_size / num_attention_heads ({size})")
    if size % 2:
        settings.refuse("num_attention_heads", "a number that makes the size of a head even")
    types = config.get("layer_types")
    if types is None:
        every = settings.count("global_attn_every_n_layers", 3)
        types = [_LAYER_TYPES[bool(i % every)] for i in range(layers)]
    if not isinstance(types, list) or len(types) != layers or not all(name in _LAYER_TYPES for name in types):
        settings.refuse("layer_types", f"a list of {layers} of {' | '.join(_LAYER_TYPES)}")
    bases = _read_bases(settings)
    return Modern(
        bases=tuple(bases[name] for name in types),
        local=tuple(name == "sliding_attention" for name in types),
        reach=reach,
        head_activation=settings.activation("classifier_activation", "gelu"),
        attention_bias=settings.flag("attention_bias", False),
        feed_forward_bias=settings.flag("mlp_bias", False),
        norm_bias=settings.flag("norm_bias", False),
        head_bias=settings.flag("classifier_bias", False),
    )


def _read_bases(settings: _Settings) -> dict[str, float]:
    """Read the base of the rotation for each type of layer.

    Transformers 4 writes `global_rope_theta` and `local_rope_theta`, which is the global one if it is null.
    Transformers 5 writes `rope_parameters`, an object for each type of layer, which comes first.
    """
    config = settings.config
    bases: dict[str, float] = {}
    if config.get("rope_scaling") is not None:
        settings.refuse("rope_scaling", "null")
    given = config.get("rope_parameters")
    given = {} if given is None else given
    if not isinstance(given, dict) or not set(given) <= set(_LAYER_TYPES):
        settings.refuse("rope_parameters", f"an object for each of {' | '.join(_LAYER_TYPES)}")
    for name, (key, usual) in _BASES.items():
        own = given.get(name)
        own = {} if own is None else own
        if not isinstance(own, dict) or not set(own) <= {"rope_type", "rope_theta"}:
            settings.refuse("rope_parameters", "rope_type and rope_theta")
        if own.get("rope_type", "default") != "default":
            settings.refuse("rope_parameters", "the rope_type 'default'")
        base = own.get("rope_theta", config.get(key, usual))
        if base is None and name == "sliding_attention":
            base = bases["full_attention"]
        if type(base) not in (int, float) or not 1 < base < float("inf"):
            settings.refuse("rope_parameters" if "rope_theta" in own else key, "a base greater than 1")
        bases[name] = float(base)
    return bases
