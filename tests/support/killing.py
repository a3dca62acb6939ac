"""Runs recipes in processes that are killed: `python killing.py`, with what to do as JSON on standard input.

A process of its own imports PyTorch once; each run is a fork of it. A run is ended at a moment that is told, and then
resumed.
"""

from __future__ import annotations

import gc
import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

_WRITES = ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir")


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def nth(count: int, act: Callable[[], object] = die) -> Callable[[], None]:
    """What acts when it is called for the nth time, from 1."""
    calls = iter(range(1, 10**9))

    def called() -> None:
        if next(calls) == count:
            act()

    return called


def before(owner: Any, name: str, act: Callable[[], None], *, after: bool = False) -> None:
    """Act before a function is called, or after."""
    original = getattr(owner, name)

    def replaced(*arguments: Any, **options: Any) -> Any:
        if not after:
            act()
        found = original(*arguments, **options)
        if after:
            act()
        return found

    setattr(owner, name, replaced)


def half(path: str) -> None:
    """Leave half of a file, and die."""
    content = Path(path).read_bytes()
    Path(path).write_bytes(content[: len(content) // 2])
    die()


def arm(moment: str, count: int, output: str) -> None:
    """Let this process die at a moment."""
    import transformers.modeling_utils
    from transformers import Trainer, TrainerState

    import dynamic_tinybert.train.finalize
    import dynamic_tinybert.train.run
    from dynamic_tinybert.train.trainer import StageTrainer

    if moment == "batch":
        before(StageTrainer, "compute_loss", nth(count))
    elif moment == "select":
        before(dynamic_tinybert.train.run, "measure", nth(count))
    elif moment == "weights":
        save = transformers.modeling_utils.safe_save_file
        cut = nth(count)

        def halved(tensors: Any, path: Any, **options: Any) -> None:
            save(tensors, path, **options)
            if "checkpoint-" in str(path):
                cut_path.append(str(path))
                cut()

        cut_path: list[str] = []
        cut = nth(count, lambda: half(cut_path[-1]))
        transformers.modeling_utils.safe_save_file = halved
    elif moment == "optimizer":
        before(Trainer, "_save_optimizer_and_scheduler", nth(count), after=True)
    elif moment == "state":
        save_json = TrainerState.save_to_json
        paths: list[str] = []
        act = nth(count, lambda: half(paths[-1]))

        def saved(self: Any, path: str) -> None:
            save_json(self, path)
            paths.append(path)
            act()

        TrainerState.save_to_json = saved
    elif moment == "rotate":
        before(transformers.trainer, "rotate_checkpoints", nth(count))
    elif moment == "end":
        before(dynamic_tinybert.train.run, "write_model", nth(count))
    elif moment == "between":
        before(dynamic_tinybert.train.run, "write_model", nth(count), after=True)
    elif moment == "measure":
        before(dynamic_tinybert.train.finalize, "evaluate_at", nth(count))
    elif moment in ("logits", "part"):
        import dynamic_tinybert.train.predict as predicting

        predicting._SAVE_EVERY = 0.0
        before(*((predicting, "greatest_logits") if moment == "logits" else (Path, "replace")), nth(count))
    elif moment == "write":
        act_write = nth(count)

        def hook(event: str, arguments: tuple[Any, ...]) -> None:
            if (
                event in _WRITES
                and output in str(arguments[0])
                and (event != "open" or set("wxa+") & set(str(arguments[1])))
            ):
                act_write()

        sys.addaudithook(hook)
    else:
        raise ValueError(moment)


def main() -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    sys.modules["matplotlib.figure"] = None  # type: ignore[assignment]
    import torch

    from dynamic_tinybert.train import read_recipe, train

    torch.set_num_threads(1)
    gc.collect()
    gc.freeze()

    def start(recipe: str, output: str, *, resume: bool, moment: str = "", count: int = 0) -> int:
        child = os.fork()
        if child:
            return child
        status = 1
        try:
            if moment:
                arm(moment, count, output)
            train(read_recipe(recipe), Path(output), resume=resume)
            status = 0
        except BaseException as error:
            print(repr(error), file=sys.stderr)
        finally:
            os._exit(status)

    found = []
    for job in json.load(sys.stdin):
        recipe, output, moment, count = (job[key] for key in ("recipe", "output", "moment", "count"))
        killed, resume = 0, False
        if moment == "any":
            draw = random.Random(count)
            for _ in range(8):
                child = start(recipe, output, resume=resume)
                time.sleep(draw.uniform(0.1, 0.6))
                os.kill(child, signal.SIGKILL)
                killed += os.waitpid(child, 0)[1] == signal.SIGKILL
                resume = True
        elif moment:
            killed += (
                os.waitpid(start(recipe, output, resume=resume, moment=moment, count=count), 0)[1] == signal.SIGKILL
            )
            resume = True
        status = os.waitpid(start(recipe, output, resume=resume), 0)[1]
        found.append({**job, "killed": killed, "status": status})
    print(json.dumps(found))


if __name__ == "__main__":
    main()
