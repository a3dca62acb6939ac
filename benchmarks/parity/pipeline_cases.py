"""What both pipelines are asked: parameters, questions and texts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from benchmarks import common

Questions = dict[str, list[list[str]]]
RUNS: list[tuple[str, dict[str, Any]]] = [  # which questions, and the parameters
    ("short", {}),
    ("short", {"top_k": 3}),
    ("short", {"top_k": 20}),
    ("short", {"max_answer_len": 1}),
    ("short", {"max_answer_len": 3}),
    ("short", {"max_answer_len": 40, "top_k": 3}),
    ("short", {"handle_impossible_answer": True}),
    ("short", {"handle_impossible_answer": True, "top_k": 3}),
    ("short", {"align_to_words": False}),
    ("short", {"align_to_words": False, "top_k": 3}),
    ("short", {"max_question_len": 64}),
    ("some", {"max_seq_len": 96, "doc_stride": 32}),
    ("some", {"max_seq_len": 96, "doc_stride": 0, "top_k": 3}),
    ("some", {"max_seq_len": 128, "doc_stride": 0, "handle_impossible_answer": True}),
    ("some", {"max_seq_len": 192, "top_k": 3}),
    ("some", {"max_seq_len": 512}),
    ("some", {"max_answer_len": 1, "top_k": 5}),
    ("some", {"padding": "max_length"}),
    ("some", {"padding": "longest", "max_seq_len": 128, "doc_stride": 16}),
    ("some", {"padding": True, "batch_size": 8, "top_k": 3}),
    ("long", {}),
    ("long", {"top_k": 3}),
    ("long", {"top_k": 20}),
    ("long", {"doc_stride": 0}),
    ("long", {"doc_stride": 200, "top_k": 3}),
    ("long", {"max_seq_len": 512, "doc_stride": 1, "top_k": 3}),
    ("long", {"max_seq_len": 128}),
    ("long", {"handle_impossible_answer": True}),
    ("long", {"handle_impossible_answer": True, "top_k": 5}),
    ("long", {"max_seq_len": 256, "doc_stride": 64, "handle_impossible_answer": True, "top_k": 3}),
    ("long", {"max_answer_len": 1, "top_k": 3}),
    ("long", {"max_answer_len": 100, "top_k": 3}),
    ("long", {"align_to_words": False, "top_k": 20}),
    ("long", {"padding": "max_length", "top_k": 3}),
    ("long", {"batch_size": 16, "top_k": 3}),
    ("unicode", {}),
    ("unicode", {"top_k": 3}),
    ("unicode", {"align_to_words": False}),
    ("unicode", {"align_to_words": False, "top_k": 3}),
    ("unicode", {"handle_impossible_answer": True}),
    ("unicode", {"max_answer_len": 1}),
    ("unicode", {"max_seq_len": 48, "doc_stride": 8}),
]
TOWER = "The tower stands in Paris. Everybody knows that it is in Paris. It was built in 1889."
DEMONSTRATIONS: list[tuple[str, str, str, dict[str, Any]]] = [  # what, question, context, parameters
    ("overlapping answers", "Where is the tower?", TOWER, {"top_k": 3}),
    ("fewer than `top_k`", "Where is the tower?", TOWER, {"top_k": 3, "align_to_words": False, "max_answer_len": 1}),
    ("one answer for `top_k` 3: no list", "Where is the tower?", "Paris", {"top_k": 3}),
    ("window of as many spans as wanted", "Where", "Paris", {"top_k": 25, "align_to_words": False}),
    ("a letter and its combining mark", "Who wrote it?", "Rene\u0301 wrote it in 1898.", {}),
    ("a word at the edge of a window", "Where is it?", "It is in Llanfairpwll.", {"max_seq_len": 12, "doc_stride": 0}),
    ("a question without words", " ", TOWER, {}),
    ("`doc_stride` at the window's length", "Where is it?", TOWER * 9, {"max_seq_len": 64, "doc_stride": 60}),
    ("the default `doc_stride`", "Where is the tower? " * 8, TOWER * 9, {"max_seq_len": 64}),
    ("`max_seq_len` beyond the model", "Where is it?", TOWER * 40, {"max_seq_len": 1000}),
    ("a question that fills the window", "Where is it? " * 120, TOWER, {}),
    ("`max_question_len`", "Is it in London or in Rome or where is the tower?", TOWER, {"max_question_len": 3}),
    ("a special token's name in a text", "What is the sign?", "The sign [SEP] is the sign of the end.", {}),
    ("an unknown parameter", "Where is the tower?", TOWER, {"max_anwser_len": 3}),
    ("`topk`", "Where is the tower?", TOWER, {"topk": 2}),
    ("half a surrogate pair", "Where is it?", "It is \ud83d in Paris.", {}),
    ("equal answers in windows that overlap: kept", "Where is it?", TOWER * 9, {"max_seq_len": 64, "doc_stride": 40}),
]
SCRIPTS = [  # questions and texts beyond ASCII
    ["Where does Zoë live?", "Zoë Müller-Lüdenscheidt wohnt in Köln; ihr Bruder Jürgen lebt in Århus."],
    ["Où est la tour ?", "La tour « Eiffel » se trouve à Paris\u202f; l\u2019œuvre fut achevée en 1889\u00a0…"],
    ["Who wrote it?", "Rene\u0301 Ba\u0308r wrote it in Sa\u0303o Paulo, not A\u030angstro\u0308m."],
    ["Где находится башня?", "Башня стоит в Париже. Все знают, что она построена в 1889 году."],
    ["Πού είναι ο πύργος;", "Ο πύργος βρίσκεται στο Παρίσι. Χτίστηκε το 1889."],
    ["איפה המגדל?", "המגדל עומד בפריז. הוא נבנה בשנת 1889."],
    ["أين البرج؟", "يقع البرج في باريس، وقد بُنِيَ في عام ١٨٨٩."],
    ["टावर कहाँ है?", "टावर पेरिस में है। इसे 1889 में बनाया गया था।"],
    ["塔在哪里？", "这座塔位于巴黎。它建于1889年，高330米。"],
    ["塔はどこですか？", "エッフェル塔はパリにあります。1889年に建てられました。"],
    ["탑은 어디에 있습니까?", "에펠탑은 파리에 있습니다. 1889년에 지어졌습니다."],
    ["หออยู่ที่ไหน", "หอไอเฟลตั้งอยู่ที่กรุงปารีส สร้างเสร็จในปี ๑๘๘๙"],
    [
        "Where is the party?",
        "The party \U0001f389 is in \U0001f1eb\U0001f1f7 Paris \U0001f469\u200d\U0001f680\ufe0f at 8!",
    ],
    ["Where is the tower?", "Line one.\r\nThe tower stands\r\nin Paris.\r\n\r\nIt was built\tin 1889.\r"],
    [
        "How high is it?",
        "The tower is 330\u00a0m\u00a0high,\u2009or 1\u202f083\u00a0ft, and weighs 10\u2011100\u00a0t.",
    ],
    ["Where is the tower?", "The tow\u00ader stands in Pa\u200bris\ufeff, as every\u200cbody\u2060 knows\u200e."],
    [
        "What is the formula?",
        "Water is H\u2082O, and E\u00a0= mc\u00b2; \U0001d54f \u2208 \u211d, \ufb01nally \u2460 \u215b \uff21.",
    ],
    [
        "Where is \u0130stanbul?",
        "\u0130stanbul is in T\u00fcrkiye; I\u0307zmir and \u0131spanak are not; STRASSE, Stra\u00dfe, \u01c5.",
    ],
    ["Who?", "A\u0301\u0302\u0303\u0304 b\u0336 c\u20dd; \u0301 alone; \ufffd and \x07 bell \x00 null \x1b escape."],
]


def questions(data: str, limit: int, long: int) -> Questions:
    """Pairs of a question and a context.

    `short`: one paragraph each; `some`: a part of these; `long`: many paragraphs; `unicode`: contexts that hold all
    characters there are beyond ASCII, and some of other scripts.
    """
    if data == "examples":
        return _examples()
    articles = common.read_articles(data)
    pairs = [[q["question"], p["context"]] for a in articles for p in a["paragraphs"] for q in p["qas"]]
    short = pairs[:: max(1, len(pairs) // limit)][:limit]
    texts = ["\n\n".join(p["context"] for p in a["paragraphs"][:12]) for a in articles]
    joined = [
        [p["qas"][0]["question"], text]
        for text, article in zip(texts, articles, strict=True)
        for p in article["paragraphs"][:12:4]
    ]
    return {
        "short": short,
        "some": short[::4],
        "long": joined[:: max(1, len(joined) // long)][:long],
        "unicode": [*_foreign(pairs), *SCRIPTS],
    }


def _foreign(pairs: Sequence[list[str]]) -> list[list[str]]:
    """Of the contexts that hold a character beyond ASCII that none before did, one pair each."""
    known: set[str] = set()
    chosen = []
    for pair in pairs:
        new = {character for character in pair[1] if not character.isascii()} - known
        if new:
            known |= new
            chosen.append(pair)
    return chosen


def _examples() -> Questions:
    asked = json.loads((common.ROOT / "examples/questions.json").read_text("utf-8"))
    texts = {item["text"]: (common.ROOT / "examples" / item["text"]).read_text("utf-8") for item in asked}
    long = [[item["question"], texts[item["text"]]] for item in asked]
    short = [[q, part] for i, (q, text) in enumerate(long) for part in text.split("\n\n")[i % 5 + 1 :: 9]]
    return {"short": short, "some": short[::2], "long": long[::3], "unicode": [*SCRIPTS]}
