"""Carries training to a machine that has a GPU and no network, and its results home, in pieces that fit.

usage, here:   lease.py pack BASE SQUAD OUT        base weights and data -> OUT/part-0, part-1, ...
       there:  lease.py unpack PARTS DATA          the parts, side by side in PARTS -> DATA
               lease.py gather RUN FILE            a run's figures, predictions, curves and model, in float16 -> a tar
               lease.py collect FILE TO GROUP      pieces of a file, four at a time: GROUP 0, 1, ... -> TO
       here:   lease.py join PIECES FILE           -> the file, checked by its SHA-256

BASE is the folder that base-models.sh fills, SQUAD that of train-v1.1.json.gz, dev-v1.1.json.gz and the held-out lists.
Base weights travel as INT8 with a scale for each row: training starts from there, so the rounding does not matter.
docs/training-queue.md has the commands, in order.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

MODELS = ("all-MiniLM-L6-v2", "all-mpnet-base-v2")
KEPT = ("config.json", "tokenizer.json", "tokenizer_config.json", "vocab.txt", "special_tokens_map.json")
DATA = ("train-v1.1.json.gz", "dev-v1.1.json.gz")
PART = 28 * 2**20  # beside the tracked files, in a call that takes 64 MiB
PIECE, GROUP = 15 * 2**20, 4  # of what comes back: files of 16 MiB, 64 MiB in all
WEIGHTS = "model.safetensors"


def pack(base: Path, squad: Path, out: Path) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for model in MODELS:
            for name in KEPT:
                if (base / model / name).is_file():
                    tar.add(base / model / name, f"{model}/{name}")
            small = base / f".{model}.int8"
            save_file(rounded(load_file(base / model / WEIGHTS)), small)
            tar.add(small, f"{model}/{WEIGHTS}")
            small.unlink()
        for name in DATA:
            tar.add(squad / name, name)
    shutil.rmtree(out, ignore_errors=True)
    for number, piece in enumerate(cut(packed.getvalue(), PART)):
        (out / f"part-{number}").mkdir(parents=True)
        (out / f"part-{number}" / f"bundle.{number:02d}").write_bytes(piece)
    print(f"{number + 1} parts in {out}, {len(packed.getvalue()) / 2**20:.0f} MiB in all")


def unpack(parts: Path, data: Path) -> None:
    packed = b"".join(part.read_bytes() for part in sorted(parts.glob("bundle.*")))
    with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
        tar.extractall(data, filter="data")
    for model in MODELS:
        file = data / model / WEIGHTS
        save_file(restored(load_file(file)), file, metadata={"format": "pt"})
    print(f"unpacked into {data}")


def timeless(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    """So that gathering twice makes the same file, whose pieces may be fetched in several calls."""
    entry.mtime = 0
    return entry


def gather(run: Path, file: Path) -> None:
    small = run / ".half"
    with tarfile.open(file, mode="w") as tar:
        for path in sorted(p for p in run.rglob("*") if p.is_file() and "checkpoint-" not in str(p)):
            name = path.relative_to(run)
            if path.name != WEIGHTS:
                tar.add(path, f"{run.name}/{name}", filter=timeless)
            elif name.parts[0] == "model":
                weights = load_file(path)
                save_file({key: value.astype(np.float16) for key, value in weights.items()}, small, {"format": "pt"})
                tar.add(small, f"{run.name}/{name}", filter=timeless)
                small.unlink()
    print(f"{file}: {file.stat().st_size:,} bytes")


def rounded(weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Each matrix in INT8 with a scale for each row beside it."""
    small = {}
    for name, value in weights.items():
        if value.ndim == 2 and value.dtype.kind == "f":
            wide = value.astype(np.float32)
            scale = np.maximum(np.abs(wide).max(axis=1, keepdims=True), 1e-12) / np.float32(127)
            small[name], small[f"{name}.scale"] = np.rint(wide / scale).astype(np.int8), scale
        else:
            small[name] = value
    return small


def restored(small: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Undo `rounded`, as nearly as it can be."""
    return {
        name: value.astype(np.float32) * small[f"{name}.scale"] if f"{name}.scale" in small else value
        for name, value in small.items()
        if not name.endswith(".scale")
    }


def collect(file: Path, to: Path, group: int) -> None:
    content = file.read_bytes()
    pieces = cut(content, PIECE)
    to.mkdir(parents=True, exist_ok=True)
    for number in range(group * GROUP, min((group + 1) * GROUP, len(pieces))):
        (to / f"{file.name}.{number:02d}").write_bytes(pieces[number])
    (to / f"{file.name}.sha256").write_text(f"{hashlib.sha256(content).hexdigest()}  {file.name}\n")
    print(f"{file}: {len(content):,} bytes, group {group} of 0 to {(len(pieces) - 1) // GROUP}")


def join(pieces: Path, file: Path) -> None:
    content = b"".join(piece.read_bytes() for piece in sorted(pieces.glob(f"{file.name}.[0-9][0-9]")))
    wanted = (pieces / f"{file.name}.sha256").read_text().split()[0]
    if hashlib.sha256(content).hexdigest() != wanted:
        raise SystemExit(f"lease: {file.name} is not whole: a piece is missing or damaged")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    print(f"{file}: {len(content):,} bytes, as they were sent")


def cut(content: bytes, size: int) -> list[bytes]:
    return [content[i : i + size] for i in range(0, len(content), size)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parsers = parser.add_subparsers(dest="command", required=True)
    for name, arguments in (
        ("pack", ("base", "squad", "out")),
        ("unpack", ("parts", "data")),
        ("gather", ("run", "file")),
        ("collect", ("file", "to", "group")),
        ("join", ("pieces", "file")),
    ):
        command = parsers.add_parser(name)
        for argument in arguments:
            command.add_argument(argument, type=int if argument == "group" else Path)
    given = vars(parser.parse_args())
    commands: dict[str, Callable[..., None]] = {
        "pack": pack, "unpack": unpack, "gather": gather, "collect": collect, "join": join,
    }  # fmt: skip
    commands[given.pop("command")](**given)


if __name__ == "__main__":
    main()
