"""The systems that are compared: transformers in PyTorch, the graphs that PyTorch exports, and this package.

PyTorch and transformers are imported where they are needed, so that a process that measures ours is without them.
"""

from __future__ import annotations

import importlib
import inspect
import logging
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import onnxruntime

from dynamic_tinybert import LengthConfig, QuestionAnswerer
from dynamic_tinybert.folder import ModelFolder
from dynamic_tinybert.inference import TextTokenizer, cut_windows
from dynamic_tinybert.runtime import Runtime
from dynamic_tinybert.squad import Question

MAX_SEQ_LEN, DOC_STRIDE, MAX_ANSWER_LEN = 384, 128, 30
BERT_LAYERS = {"BERT-base": 12, "TinyBERT6L": 6}  # all else is alike
EXPORTED = {"default exporter": "sdpa", "TorchScript, eager": "eager", "TorchScript, sdpa": "sdpa"}  # -> attention

_FUSED = "TorchScript, sdpa"
_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
_ERRORS_ONLY = 3
_QUESTION_TOKENS = 64

Ints: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float32]


class Window(NamedTuple):
    """A window without padding, `[1, tokens]` each."""

    input_ids: Ints
    attention_mask: Ints
    token_type_ids: Ints


Logits: TypeAlias = tuple[Floats, Floats]
RunWindow: TypeAlias = Callable[[Window], Logits]
Ask: TypeAlias = Callable[[str, str], str]


def pytorch_model(shape: str, threads: int, *, bfloat16: bool = False) -> Any:
    """Return a model of this shape with random weights, ready to answer; weights are irrelevant to speed."""
    import torch
    from transformers import BertConfig, BertForQuestionAnswering, DistilBertConfig, DistilBertForQuestionAnswering

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    if shape == "DistilBERT":
        model = DistilBertForQuestionAnswering(DistilBertConfig(attn_implementation="sdpa"))
    else:
        config = BertConfig(num_hidden_layers=BERT_LAYERS[shape], attn_implementation="sdpa")
        model = BertForQuestionAnswering(config)
    return model.to(torch.bfloat16 if bfloat16 else torch.float32).eval()


def run_pytorch(model: Any) -> RunWindow:
    """Return what runs a window through a model of transformers."""
    import torch

    names = _inputs(model)

    def run(window: Window) -> Logits:
        inputs = {name: torch.from_numpy(getattr(window, name)) for name in names}
        with torch.inference_mode():
            output = model(**inputs)
        return output.start_logits.float().numpy(), output.end_logits.float().numpy()

    return run


def run_exported(folder: Path, exporter: str, threads: int) -> RunWindow:
    """Export a model folder to ONNX with one of PyTorch's exporters, and return what runs a window through the graph.

    ONNX Runtime has its default options, but for the threads.
    """
    path = folder / f"{exporter}.onnx"
    export(folder, exporter, path)
    return _run_graph(path, threads)


def run_quantized(folder: Path, exporter: str, threads: int) -> RunWindow:
    """Quantize a graph that `run_exported` has exported, as ONNX Runtime's users do, and return what runs a window."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    path = folder / f"{exporter} int8.onnx"
    logging.getLogger().setLevel(logging.ERROR)  # it recommends a preprocessing that the exporter has done
    quantize_dynamic(folder / f"{exporter}.onnx", path, per_channel=True, weight_type=QuantType.QInt8)
    return _run_graph(path, threads)


def run_openvino(folder: Path, exporter: str, threads: int, samples: Sequence[Window] = ()) -> RunWindow | None:
    """Return what runs a window through a graph that `run_exported` has exported, in OpenVINO; None if it is absent.

    Args:
        samples: Windows from which NNCF learns the scales of a graph in INT8. Without them it stays in float32.
    """
    try:
        import openvino
        from openvino.properties import inference_num_threads
        from openvino.properties.hint import inference_precision

        nncf = importlib.import_module("nncf") if samples else None
    except ImportError:
        return None
    core = openvino.Core()
    model = core.read_model(folder / f"{exporter}.onnx")
    if nncf is not None:
        nncf.set_log_level(logging.ERROR)
        data = nncf.Dataset([{x.any_name: getattr(window, x.any_name) for x in model.inputs} for window in samples])
        model = nncf.quantize(model, data, model_type=nncf.ModelType.TRANSFORMER, subset_size=len(samples))
    compiled = core.compile_model(
        model, "CPU", {inference_num_threads: threads, inference_precision: openvino.Type.f32}
    )
    request = compiled.create_infer_request()
    names = [x.any_name for x in model.inputs]

    def run(window: Window) -> Logits:
        found = request.infer({name: getattr(window, name) for name in names})
        return found[0], found[1]

    return run


def _run_graph(path: Path, threads: int) -> RunWindow:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = _ERRORS_ONLY
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [x.name for x in session.get_inputs()]

    def run(window: Window) -> Logits:
        start, end = session.run(None, {name: getattr(window, name) for name in names})
        return start, end

    return run


def export(folder: Path, exporter: str, path: Path) -> None:
    """Export a model folder to ONNX with one of PyTorch's exporters (`EXPORTED`), of any batch and length."""
    import torch
    from transformers import AutoModelForQuestionAnswering
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    model = AutoModelForQuestionAnswering.from_pretrained(
        folder, dtype=torch.float32, attn_implementation=exporters(folder)[exporter]
    ).eval()
    model.config.return_dict = False
    names = _inputs(model)
    sample = torch.randint(1000, 2000, (2, 100))
    axes = {0: "batch", 1: "tokens"}
    default = exporter == "default exporter"
    dynamic = {"dynamic_shapes": (axes,) * len(names)} if default else {"dynamic_axes": dict.fromkeys(names, axes)}
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model,
            (sample, torch.ones_like(sample), torch.zeros_like(sample))[: len(names)],
            str(path),
            input_names=names,
            output_names=("start_logits", "end_logits"),
            dynamo=default,
            verbose=False,
            **dynamic,
        )


def exporters(folder: Path) -> dict[str, str]:
    """Return the exporters for a model folder, with their attention: all eager where transformers has no fused one."""
    from transformers import AutoConfig, AutoModelForQuestionAnswering

    architecture = AutoModelForQuestionAnswering._model_mapping[type(AutoConfig.from_pretrained(folder))]
    if architecture._supports_sdpa:
        return EXPORTED
    return {name: "eager" for name in EXPORTED if name != _FUSED}


def _inputs(model: Any) -> tuple[str, ...]:
    """Name the inputs of a model of transformers: DistilBERT and MPNet have no token types."""
    takes = inspect.signature(model.forward).parameters
    return tuple(name for name in _INPUTS if name in takes)


def windows_of(folder: ModelFolder, questions: Sequence[Question]) -> list[Window]:
    """Return the windows of questions, each without padding."""
    tokenizer = TextTokenizer(folder.path)
    found: list[Window] = []
    for question in questions:
        ids = tokenizer.question(question.question, longest=_QUESTION_TOKENS)
        text = tokenizer.text(question.context)
        for window in cut_windows(tokenizer, ids, text, max_seq_len=MAX_SEQ_LEN, doc_stride=DOC_STRIDE):
            tokens = np.asarray(window.ids, np.int64)[None]
            found.append(Window(tokens, np.ones_like(tokens), np.asarray(window.type_ids, np.int64)[None]))
    return found


def run_ours(runtime: Runtime, config: LengthConfig) -> RunWindow:
    """Return what runs a window through our graph at a length configuration."""

    def run(window: Window) -> Logits:
        lengths = config.lengths(window.attention_mask.sum(axis=1))
        logits = runtime.run(window.input_ids, window.token_type_ids, window.attention_mask, lengths)
        return logits.start, logits.end

    return run


def ask_pytorch(shape: str, tokenizer_folder: Path, threads: int, *, bfloat16: bool = False) -> Ask:
    """Return what answers with transformers in PyTorch, as a careful user writes it.

    Nothing is padded; a long text is read in overlapping windows; the answer is the best span of the text.
    """
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
    run = run_pytorch(pytorch_model(shape, threads, bfloat16=bfloat16))

    def ask(question: str, text: str) -> str:
        encoding = tokenizer(
            question,
            text,
            truncation="only_second",
            max_length=MAX_SEQ_LEN,
            stride=DOC_STRIDE,
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
        )
        best, answer = -np.inf, ""
        for row, columns in enumerate(zip(*(encoding[name] for name in _INPUTS), strict=True)):
            start, end = run(Window(*(np.array([column]) for column in columns)))
            first = encoding.sequence_ids(row).index(1)
            scores = start[0, first:-1, None] + end[0, None, first:-1]
            tokens = len(scores)
            in_order = np.tri(tokens, k=MAX_ANSWER_LEN - 1, dtype=bool) & ~np.tri(tokens, k=-1, dtype=bool)
            scores[~in_order] = -np.inf
            begin, last = divmod(int(scores.argmax()), tokens)
            if scores[begin, last] > best:
                offsets = encoding["offset_mapping"][row]
                best, answer = scores[begin, last], text[offsets[first + begin][0] : offsets[first + last][1]]
        return answer

    return ask


def ask_ours(qa: QuestionAnswerer, config: LengthConfig) -> Ask:
    """Return what answers with this package at a length configuration."""
    return lambda question, text: qa(question, text, budget=config).text
