"""A model folder: embedded in the package, local, or from the Hugging Face Hub; read, checked, written.

The folder is what transformers writes, so all that knows transformers' names and settings is in this room: its names
of tensors in `tensors`, those of its settings in `reading`.
"""

from dynamic_tinybert.folder.errors import ModelFolderError
from dynamic_tinybert.folder.reading import EMBEDDED, ModelFolder, called, open_folder
from dynamic_tinybert.folder.saving import save_folder

__all__ = ["EMBEDDED", "ModelFolder", "ModelFolderError", "called", "open_folder", "save_folder"]
