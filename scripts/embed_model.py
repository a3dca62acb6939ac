"""Put a model folder into a package, in INT8: the model that answers when none is named, or one of `models/`."""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path

from dynamic_tinybert.folder import ModelFolder, open_folder, save_folder

ROOT = Path(__file__).parents[1]
KEPT = ("README.md", "length_configs.json", "__init__.py")
NOT_NEEDED = ("vocab.txt", "special_tokens_map.json")  # tokenizer.json and tokenizer_config.json say it all


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="The model card and the table of configurations that are there stay, where FOLDER has none of its own;"
        " a README.md without front matter is no model card.",
    )
    parser.add_argument("folder", metavar="FOLDER", help="a model folder, or owner/name on the Hub")
    parser.add_argument("--package", metavar="NAME", help="a package of models/, instead of the embedded model")
    args = parser.parse_args()
    place = place_of(args.package)
    source = open_folder(args.folder)
    kept = {file.name for file in place.iterdir() if stays(file, source)}
    with tempfile.TemporaryDirectory() as room:
        new = save_folder(source, Path(room, "model"), dtype="int8")
        for file in place.iterdir():
            if file.is_file() and file.name not in kept:
                file.unlink()
        for file in new.iterdir():
            if file.name not in (*kept, *NOT_NEEDED):
                shutil.copyfile(file, place / file.name)
    for name in sorted(kept - {"__init__.py"}):
        print(f"{name} kept: see that it still describes the model")
    total = sum(file.stat().st_size for file in place.iterdir() if file.is_file())
    print(f"{source.name} is in {place}: {total / 1e6:.1f} MB")


def place_of(package: str | None) -> Path:
    """Return the model folder of a package of `models/`, or of the embedded model."""
    if package is None:
        return ROOT / "src" / "dynamic_tinybert" / "embedded"
    place = ROOT / "models" / package / "src" / package.replace("-", "_")
    if not place.is_dir():
        raise SystemExit(f"embed_model.py: no such folder: {place}")
    return place


def stays(file: Path, source: ModelFolder) -> bool:
    """Tell whether a file of the package is kept, the source having none to put in its place."""
    if not file.is_file() or file.name not in KEPT:
        return False
    if file.suffix == ".py":
        return True
    own = source.path / file.name
    return not own.is_file() or (file.suffix == ".md" and not own.read_bytes().startswith(b"---"))


if __name__ == "__main__":
    main()
