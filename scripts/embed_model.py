"""Put a model folder into the package, in INT8: the model that answers when none is named."""

from __future__ import annotations

import argparse
from pathlib import Path

from dynamic_tinybert.folder import ModelFolder, open_folder, save_folder

EMBEDDED = Path(__file__).parents[1] / "src" / "dynamic_tinybert" / "embedded"
KEPT = ("README.md", "length_configs.json")
NOT_NEEDED = ("vocab.txt", "special_tokens_map.json")  # tokenizer.json and tokenizer_config.json say it all


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="The model card and the table of configurations that are there stay, where FOLDER has none of its own;"
        " a README.md without front matter is no model card.",
    )
    parser.add_argument("folder", metavar="FOLDER", help="a model folder, or owner/name on the Hub")
    source = open_folder(parser.parse_args().folder)
    kept = {file: file.read_bytes() for file in (EMBEDDED / name for name in KEPT) if stays(file, source)}
    save_folder(source, EMBEDDED, dtype="int8", overwrite=True)
    for name in NOT_NEEDED:
        (EMBEDDED / name).unlink(missing_ok=True)
    for file, content in kept.items():
        file.write_bytes(content)
        print(f"{file.name} kept: see that it still describes the model")
    total = sum(file.stat().st_size for file in EMBEDDED.iterdir())
    print(f"{source.name} embedded in {EMBEDDED}: {total / 1e6:.1f} MB")


def stays(file: Path, source: ModelFolder) -> bool:
    """Tell whether an embedded file is kept, the source having none to put in its place."""
    if not file.is_file():
        return False
    own = source.path / file.name
    return not own.is_file() or (file.suffix == ".md" and not own.read_bytes().startswith(b"---"))


if __name__ == "__main__":
    main()
