"""The public path of the components for LangChain; `dynamic_tinybert.compat` has them."""

from dynamic_tinybert.compat import AnswerCompressor, DocumentAnswer, DocumentAnswerer

__all__ = ["AnswerCompressor", "DocumentAnswer", "DocumentAnswerer"]
