"""A contract for import-linter: a room's face is its `__init__`, and other rooms import from there alone."""

from __future__ import annotations

from typing import cast

from grimp import ImportGraph
from importlinter import Contract, ContractCheck, fields, output


class FaceContract(Contract):
    """A module imports its siblings and the rooms beside it or above it, never a file inside such a room.

    `a.b.c` may import `a.b.d`, `a.e` and `a.e`'s face, but not `a.e.f`.
    """

    type_name = "face"
    ignored = fields.ListField(subfield=fields.StringField(), required=False)

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:
        """Find the imports that go past a face."""
        ignored = cast("list[str]", self.ignored or [])
        inside = [
            (importer, imported)
            for importer in sorted(graph.modules)
            for imported in sorted(graph.find_modules_directly_imported_by(importer))
            if imported not in ignored and _goes_past_a_face(importer, imported)
        ]
        return ContractCheck(kept=not inside, metadata={"inside": inside})

    def render_broken_contract(self, check: ContractCheck) -> None:
        """Print them."""
        for importer, imported in check.metadata["inside"]:
            output.print_error(f"{importer} imports {imported}: import from {imported.rpartition('.')[0]}")


def _goes_past_a_face(importer: str, imported: str) -> bool:
    ours, theirs = importer.split("."), imported.split(".")
    common = 0
    while common < min(len(ours), len(theirs)) and ours[common] == theirs[common]:
        common += 1
    return common > 0 and len(theirs) - common > 1
