"""The public path of the components for LlamaIndex; `dynamic_tinybert.compat` has them."""

from dynamic_tinybert.compat import AnswerRerank, AnswerSynthesizer

__all__ = ["AnswerRerank", "AnswerSynthesizer"]
