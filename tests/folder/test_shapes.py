"""The settings of DeBERTa, MobileBERT and ModernBERT: each that changes the arithmetic is handled or refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dynamic_tinybert.folder import ModelFolderError
from dynamic_tinybert.folder.shapes import read_shape
from dynamic_tinybert.model import Bottleneck, Disentangled, ModelShape

USUAL: dict[str, Any] = {
    "vocab_size": 100,
    "hidden_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "intermediate_size": 96,
    "max_position_embeddings": 512,
}
V3: dict[str, Any] = {
    **USUAL,
    "model_type": "deberta-v2",
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-7,
    "relative_attention": True,
    "max_relative_positions": -1,
    "position_buckets": 256,
    "norm_rel_ebd": "layer_norm",
    "share_att_key": True,
    "pos_att_type": "p2c|c2p",
    "position_biased_input": False,
    "type_vocab_size": 0,
}
MODERN: dict[str, Any] = {
    **USUAL,
    "model_type": "modernbert",
    "hidden_activation": "gelu",
    "norm_eps": 1e-5,
    "local_attention": 128,
    "global_attn_every_n_layers": 3,
    "global_rope_theta": 160000.0,
    "local_rope_theta": 10000.0,
}


def shape_of(config: dict[str, Any]) -> ModelShape:
    return read_shape(Path("config.json"), config)[1]


def changed(config: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """The configuration with changes; a key that becomes `...` is missing."""
    return {key: value for key, value in {**config, **changes}.items() if value is not ...}


def test_deberta_v3_is_read() -> None:
    shape = shape_of(V3)
    assert shape.disentangled == Disentangled(
        span=256, longest=512, to_position=True, to_content=True, shared=True, normed=True, positioned=False
    )
    assert (shape.typed, shape.token_types, shape.positioned, shape.norm_epsilon) == (False, 0, False, 1e-7)
    assert json.loads(json.dumps(shape.to_dict()))["disentangled"]["span"] == 256


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"pos_att_type": ["c2p"]}, {"to_content": False}),
        ({"position_buckets": -1}, {"span": 512, "longest": 0}),
        ({"position_buckets": ...}, {"span": 512, "longest": 0}),
        ({"max_relative_positions": 300}, {"longest": 300}),
        ({"max_relative_positions": ...}, {"longest": 512}),
        ({"norm_rel_ebd": "none"}, {"normed": False}),
        ({"norm_rel_ebd": ...}, {"normed": False}),
        ({"share_att_key": ...}, {"shared": False}),
        ({"position_biased_input": ...}, {"positioned": True}),
        ({"conv_kernel_size": 0}, {}),
        ({"attention_head_size": 12}, {}),
    ],
    ids=str,
)
def test_settings_of_deberta_mean_what_they_mean_to_transformers(
    changes: dict[str, Any], wanted: dict[str, Any]
) -> None:
    usual = shape_of(V3).disentangled
    assert usual is not None
    found = shape_of(changed(V3, changes)).disentangled
    assert found is not None
    assert {**vars(usual), **wanted} == vars(found)


def test_the_first_deberta_has_no_buckets() -> None:
    shape = shape_of({**V3, "model_type": "deberta"})
    assert shape.disentangled == Disentangled(
        span=512, to_position=True, to_content=True, positioned=False, packed=True
    )


def test_deberta_without_relative_attention_has_only_positions() -> None:
    shape = shape_of(changed(V3, {"relative_attention": ..., "pos_att_type": ..., "position_biased_input": ...}))
    assert shape.disentangled == Disentangled()
    assert shape.positioned


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"talking_head": True}, "talking_head is True"),
        ({"pos_att_type": ["c2p", "c2p"]}, "pos_att_type is ['c2p', 'c2p']"),
        ({"pos_att_type": ""}, "pos_att_type is ''"),
        ({"conv_kernel_size": 3}, "conv_kernel_size is 3, but only 0, a model without a convolution, is supported"),
        ({"attention_head_size": 64}, "attention_head_size is 64"),
        ({"pos_att_type": ["c2p", "p2p"]}, "pos_att_type is ['c2p', 'p2p'], but only a list of c2p | p2c"),
        ({"pos_att_type": None}, "pos_att_type is None"),
        ({"pos_att_type": 3}, "pos_att_type is 3"),
        ({"relative_attention": False}, "pos_att_type is 'p2c|c2p', but only null, without relative_attention,"),
        ({"relative_attention": "yes"}, "relative_attention is 'yes', but only true or false"),
        ({"norm_rel_ebd": "batch_norm"}, "norm_rel_ebd is 'batch_norm'"),
        ({"position_buckets": 2}, "position_buckets is 2"),
        (
            {"position_buckets": 256, "max_relative_positions": 100},
            "position_buckets is 256, but only -1 or an integer",
        ),
        ({"max_relative_positions": "all"}, "max_relative_positions is 'all'"),
        ({"type_vocab_size": -1}, "type_vocab_size is -1"),
        ({"embedding_size": 0}, "embedding_size is 0"),
        ({"hidden_act": "mish"}, "hidden_act is 'mish'"),
        ({"layer_norm_eps": 0}, "layer_norm_eps"),
    ],
    ids=str,
)
def test_settings_of_deberta_that_are_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ModelFolderError) as error:
        shape_of(changed(V3, changes))
    assert said in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "form",
    [
        {},
        {"global_attn_every_n_layers": ..., "global_rope_theta": ..., "local_rope_theta": ...},
        {
            "global_attn_every_n_layers": ...,
            "global_rope_theta": ...,
            "local_rope_theta": ...,
            "layer_types": ["full_attention", "sliding_attention", "sliding_attention", "full_attention"],
            "rope_parameters": {
                "full_attention": {"rope_type": "default", "rope_theta": 160000.0},
                "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
            },
        },
    ],
    ids=["transformers 4", "defaults", "transformers 5"],
)
def test_modernbert_is_read_in_all_forms(form: dict[str, Any]) -> None:
    modern = shape_of(changed(MODERN, form)).modern
    assert modern is not None
    assert modern.local == (False, True, True, False)
    assert modern.bases == (160000.0, 10000.0, 10000.0, 160000.0)
    assert modern.reach == 64


def test_a_setting_that_modernbert_never_reads_is_no_obstacle() -> None:
    assert shape_of({**MODERN, "position_embedding_type": "sans_pos"}) == shape_of(MODERN)  # as mmBERT has it


def test_a_local_base_that_is_null_is_the_global_one() -> None:
    modern = shape_of(changed(MODERN, {"local_rope_theta": None})).modern
    assert modern is not None
    assert set(modern.bases) == {160000.0}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"rope_scaling": {"rope_type": "yarn"}}, "rope_scaling is {'rope_type': 'yarn'}, but only null"),
        ({"rope_parameters": {"rope_theta": 1e4}}, "rope_parameters is"),
        ({"rope_parameters": {"full_attention": {"rope_type": "linear", "factor": 2}}}, "rope_type and rope_theta"),
        ({"rope_parameters": {"full_attention": {"rope_type": "linear"}}}, "the rope_type 'default'"),
        ({"rope_parameters": {"full_attention": {"rope_theta": "big"}}}, "a base greater than 1"),
        ({"global_rope_theta": 0}, "global_rope_theta is 0"),
        ({"layer_types": ["full_attention"]}, "a list of 4 of full_attention | sliding_attention"),
        ({"layer_types": ["full_attention"] * 3 + ["chunked_attention"]}, "layer_types"),
        ({"global_attn_every_n_layers": 0}, "global_attn_every_n_layers is 0"),
        ({"local_attention": -1}, "local_attention is -1"),
        ({"head_dim": 64}, "head_dim is 64"),
        ({"num_attention_heads": 16}, "num_attention_heads is 16"),
        ({"hidden_activation": "silu"}, "hidden_activation is 'silu'"),
        ({"classifier_activation": "silu"}, "classifier_activation is 'silu'"),
        ({"norm_bias": 1}, "norm_bias is 1, but only true or false"),
        ({"norm_eps": 0}, "norm_eps is 0"),
        ({"dynamic_tinybert": {"voters": "question"}}, "only voters 'all' is supported with local attention"),
    ],
    ids=str,
)
def test_settings_of_modernbert_that_are_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ModelFolderError) as error:
        shape_of(changed(MODERN, changes))
    assert said in str(error.value)
    assert "\n" not in str(error.value)


MOBILE: dict[str, Any] = {**USUAL, "model_type": "mobilebert", "hidden_act": "relu", "embedding_size": 16}


def test_mobilebert_is_read() -> None:
    shape = shape_of(MOBILE)
    assert shape.bottleneck == Bottleneck(width=128, feed_forwards=4)
    assert (shape.inner_width, shape.embedding_width, shape.activation) == (128, 16, "relu")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"trigram_input": False}, "trigram_input is False, but only true"),
        ({"use_bottleneck": False}, "use_bottleneck is False"),
        ({"use_bottleneck_attention": True}, "use_bottleneck_attention is True, but only false"),
        ({"key_query_shared_bottleneck": False}, "key_query_shared_bottleneck is False"),
        ({"normalization_type": "layer_norm"}, "normalization_type is 'layer_norm', but only no_norm"),
        ({"intra_bottleneck_size": 30}, "a multiple of num_attention_heads (4)"),
        ({"true_hidden_size": 512}, "true_hidden_size is 512, but only intra_bottleneck_size (128)"),
        ({"num_feedforward_networks": 0}, "num_feedforward_networks is 0"),
    ],
    ids=str,
)
def test_settings_of_mobilebert_that_are_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ModelFolderError) as error:
        shape_of({**MOBILE, **changes})
    assert said in str(error.value)


def test_significance_heads_are_read_where_an_encoder_can_have_them() -> None:
    ours = {"dynamic_tinybert": {"voters": "all", "significance_head": True}}
    for config in (MODERN, MOBILE, {**USUAL, "model_type": "bert"}):
        assert shape_of({**config, **ours}).significance_head
        assert not shape_of(config).significance_head
    with pytest.raises(ModelFolderError, match="a deberta-v2 model with a significance_head is not supported"):
        shape_of({**V3, **ours})


def test_the_question_may_vote_where_all_attention_is_everywhere() -> None:
    shape = shape_of({**MODERN, "global_attn_every_n_layers": 1, "dynamic_tinybert": {"voters": "question"}})
    assert shape.significance == "question"


MODERN: dict[str, Any] = {**USUAL, "model_type": "modernbert", "norm_eps": 1e-5}


@pytest.mark.parametrize("config", [MODERN, V3 | {"position_biased_input": False}], ids=["modernbert", "deberta-v2"])
def test_positions_without_a_table_of_their_own_have_a_limit(config: dict[str, Any]) -> None:
    read_shape(Path("config.json"), config)
    with pytest.raises(ModelFolderError, match="max_position_embeddings is 2000000000"):
        read_shape(Path("config.json"), config | {"max_position_embeddings": 2_000_000_000})


def test_another_word_for_local_attention_is_not_ignored() -> None:
    read_shape(Path("config.json"), MODERN | {"local_attention": 128, "sliding_window": 64})
    with pytest.raises(ModelFolderError, match="sliding_window is 4"):
        read_shape(Path("config.json"), MODERN | {"sliding_window": 4})
