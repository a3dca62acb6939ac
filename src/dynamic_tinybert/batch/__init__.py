"""Answer a file of questions into a file of answers. `batch.on_ray` does it on a cluster (extra `ray`)."""

from dynamic_tinybert.batch.answering import Answering, Setup, Summary, answer_file, from_corpus, from_texts
from dynamic_tinybert.batch.output import BatchError
from dynamic_tinybert.batch.records import BadLine, Question, Record, read_questions

__all__ = [
    "Answering",
    "BadLine",
    "BatchError",
    "Question",
    "Record",
    "Setup",
    "Summary",
    "answer_file",
    "from_corpus",
    "from_texts",
    "read_questions",
]
