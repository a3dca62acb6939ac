"""For PyInstaller: the embedded model, the page of the server, and the modules that are imported by name."""

from PyInstaller.utils.hooks import collect_data_files, collect_submodules, copy_metadata

_OTHERS = ("dynamic_tinybert.train", "dynamic_tinybert.search", "dynamic_tinybert.__pyinstaller")  # of other extras

datas = collect_data_files("dynamic_tinybert") + copy_metadata("dynamic-tinybert")
hiddenimports = collect_submodules(
    "dynamic_tinybert",
    filter=lambda name: not name.startswith(_OTHERS) and not name.endswith(".on_ray"),
    on_error="ignore",
)
