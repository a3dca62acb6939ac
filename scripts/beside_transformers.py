"""Run the installed package and transformers in one process: the same logits at `full`, and answers from both."""

from __future__ import annotations

import argparse
import importlib.metadata
import tempfile
from pathlib import Path

import numpy as np
import torch
import transformers

import dynamic_tinybert
from dynamic_tinybert import LengthConfig, QuestionAnswerer
from dynamic_tinybert.folder import open_folder, save_folder

PAIRS = (
    ("Who wrote it?", "The report was written by Ada Lovelace in 1843."),
    ("Where is the tower?", "Der Turm, «la tour» — 塔 — stands in Paris. " * 20),
    ("When did it open?", "It opened. " * 60 + "The doors opened to visitors on 6 May 1889."),
)
ATOL = 1e-4
OTHERS = ("dynamic-tinybert", "torch", "transformers", "huggingface_hub", "tokenizers", "numpy", "onnxruntime")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--also", action="append", default=[], help="another module to import first, haystack say")
    for name in parser.parse_args().also:
        __import__(name)
    qa = QuestionAnswerer()
    worst = 0.0
    with tempfile.TemporaryDirectory() as folder:
        path = save_folder(open_folder(), Path(folder) / "model")
        tokenizer = transformers.AutoTokenizer.from_pretrained(path)
        model = transformers.AutoModelForQuestionAnswering.from_pretrained(path).eval()
        for question, text in PAIRS:
            tokens = tokenizer(question, text, return_tensors="np", truncation="only_second", max_length=384)
            with torch.no_grad():
                theirs = model(**{key: torch.from_numpy(value) for key, value in tokens.items()})
            ids, types, mask = (tokens[key] for key in ("input_ids", "token_type_ids", "attention_mask"))
            ours = qa.reader.runtime.run(ids, types, mask, LengthConfig.full(qa.shape.layers).lengths([ids.shape[1]]))
            for mine, other in ((ours.start, theirs.start_logits), (ours.end, theirs.end_logits)):
                worst = max(worst, float(np.abs(mine - other.numpy()).max()))
            print(
                f"{ids.shape[1]:4} tokens: {qa(question, text).text!r}, at 0.5 {qa(question, text, budget=0.5).text!r}"
            )
    print(", ".join(f"{name} {importlib.metadata.version(name)}" for name in OTHERS))
    print(f"imported from {Path(dynamic_tinybert.__file__).parent}; largest difference of a logit: {worst:.1e}")
    if worst > ATOL:
        raise SystemExit(f"more than {ATOL}")


if __name__ == "__main__":
    main()
