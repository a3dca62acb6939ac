"""Check that a teacher and a student split texts into the same tokens, and map their ids."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import Tensor
from transformers import AutoTokenizer

from dynamic_tinybert.folder import is_hub_name
from dynamic_tinybert.train.errors import TrainingError

_ROLES = ("cls_token", "sep_token", "pad_token", "unk_token", "mask_token")


class Vocabulary:
    """The tokenizer of a model, for training.

    Args:
        model: A model folder, or a name on the Hub.

    Attributes:
        name: The model.
        ids: Token -> id.
        roles: Role -> special token, as `cls_token`; only roles that the tokenizer has.

    Raises:
        TrainingError: The tokenizer cannot be loaded, or is not a fast tokenizer.
    """

    def __init__(self, model: str | Path) -> None:
        self.name = str(model)
        check_exists(model)
        try:
            loaded = AutoTokenizer.from_pretrained(model)
            file = Path(model) / "tokenizer.json"  # features use this file; `loaded` also depends on settings
            self._tokenizer: Tokenizer = Tokenizer.from_file(str(file)) if file.is_file() else loaded.backend_tokenizer
        except Exception as error:  # transformers passes on errors of any type
            raise TrainingError(f"the tokenizer of {model} cannot be loaded: {error}") from None
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._tokenizer.encode_special_tokens = True  # texts are data, as in answering
        self.ids: dict[str, int] = self._tokenizer.get_vocab()
        self.roles = {role: str(token) for role in _ROLES if (token := getattr(loaded, role, None)) is not None}

    @property
    def reads_as_bert(self) -> bool:
        """Whether the special tokens are BERT's, so that windows can be made with this tokenizer."""
        return self.roles.get("cls_token") == "[CLS]" and self.roles.get("sep_token") == "[SEP]"

    def tokens(self, text: str) -> list[str]:
        """Return the tokens of a text, without special tokens."""
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        return list(encoding.tokens)

    def map_from(self, student: Vocabulary) -> Tensor | None:
        """Return this vocabulary's id for each id of a student, `[student's vocabulary]`; None if they are the same.

        Tokens are matched by their text, special tokens by their role. -1 means that there is no such token here.
        """
        table = torch.full((max(student.ids.values()) + 1,), -1, dtype=torch.long)
        for token, index in student.ids.items():
            table[index] = self.ids.get(token, -1)
        for role, token in student.roles.items():
            if token in student.ids:
                table[student.ids[token]] = self.ids.get(self.roles.get(role, ""), -1)
        return None if torch.equal(table, torch.arange(len(table))) else table


def check_exists(model: str | Path) -> None:
    """Check that a model is an existing folder, or that its name may be one on the Hub.

    Raises:
        TrainingError: It is neither.
    """
    if not Path(model).exists() and not is_hub_name(str(model)):
        raise TrainingError(f"there is no model folder {model}; a model on the Hub is called owner/name")


def check_alignment(
    teacher: Vocabulary, student: Vocabulary, texts: Sequence[str], *, role: str = "the teacher"
) -> None:
    """Check, on real texts, that teacher and student split them into the same tokens.

    Args:
        teacher: The tokenizer of the model that gets features under its own ids.
        student: The tokenizer that features are made with.
        texts: The texts.
        role: How the message calls the model of `teacher`.

    Raises:
        TrainingError: They split differently, so the teacher's logits would belong to other tokens than the student's.
    """
    for text in texts:
        mine, his = student.tokens(text), teacher.tokens(text)
        if mine != his:
            pairs: Iterable[tuple[str, str]] = zip([*mine, ""], [*his, ""], strict=False)
            a, b = next((pair for pair in pairs if pair[0] != pair[1]), ("", ""))
            raise TrainingError(
                f"{role} {teacher.name} and the student {student.name} are not token-aligned: in {text[:40]!r} "
                f"one reads {b!r} where the other reads {a!r}; use one with the student's WordPiece tokens"
            )
    table = teacher.map_from(student)
    if table is None:
        return
    missing = {token for token, index in student.ids.items() if table[index] < 0 and not token.startswith("[unused")}
    if missing:
        raise TrainingError(
            f"{role} {teacher.name} has no token {sorted(missing)[0]!r}, which the student {student.name} has: "
            "use one with the student's WordPiece tokens"
        )
