"""What embed would do to a view, in numbers and reasons."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from features.rev import feature_key
from features.view import StoredView, View
from pipelines.differences import Difference, describe, differences
from pipelines.published import Published
from pipelines.reduced_views import ReducedView, foresee_rev
from pipelines.view_plan import DefinedView, plan_view

_DECLARED = ("input", "encoder", "pooling", "dtype", "code_version")
_NAMES = {
    "definition.weights_digest": "encoder weights",
    "definition.settings": "encoder option",
    "definition.running": "encoder option",
    "definition.batch_tokens": "encoder option batch_tokens",
    "definition.batch_size": "encoder option batch_size",
    "definition.code": "code",
    "definition.worker": "code",
    "definition.libraries": "library",
    "definition.base": "rev of the view it is made from",
    "definition.fitted_on": "digest of training samples",
    "definition": "",
}


@dataclass(frozen=True)
class ViewChanges:
    """How many samples that have the view's modality are new, stale, unchanged or removed since the published version,
    how many the encoder will be given, and why; num_open of them, not counted elsewhere, are known later.

    num_encoded is not their sum: a row that is stored under another key or name is copied, one of equal inputs is
    encoded, and what could not be encoded is not tried again.
    """

    name: str
    num_new: int
    num_stale: int
    num_unchanged: int
    num_removed: int
    num_encoded: int
    num_open: int
    num_other_inputs: int  # of the stale samples, those whose own input differs
    differences: tuple[Difference, ...]  # of the view's definition, which make all of its samples stale
    origin: str = ""  # where the rows of a view come from that was not stored under its name, or why it goes

    @property
    def is_unchanged(self) -> bool:
        return not (self.num_new or self.num_stale or self.num_removed or self.differences or self.origin)

    def reasons(self) -> list[str]:
        """Why samples are stale, or where those of a new view come from; a line each."""
        lines = describe([found for found in self.differences if found.part != "definition.name"], _NAMES)
        if self.num_other_inputs:
            lines.append(f"input bytes of {self.num_other_inputs} {plural('sample', self.num_other_inputs)}")
        return [*lines, self.origin] if self.origin else lines


def plural(noun: str, num: int) -> str:
    """The noun for so many things."""
    return noun if num == 1 else f"{noun}s"


def view_changes(
    defined: DefinedView | ReducedView,
    known: pa.Table,
    spans: Sequence[range],
    published: Published,
    open_rows: pa.Table,
) -> ViewChanges:
    """What embed will do to the view for the samples that are known, in these shards.

    open_rows: samples that exist, but may come out of the stages before otherwise.
    """
    view = defined.view
    if isinstance(defined, ReducedView):
        definition, rev = foresee_rev(defined, known, published)
        num_encoded = 0
    else:
        definition, rev = defined.definition, defined.rev
        num_encoded = plan_view(defined, known, spans, published).num_to_encode
    stored_view = published.views.get(view.name)
    stored = published.rows([stored_view] if stored_view else [])
    absent = feature_key(stored_view.rev, None) if stored_view else ""
    had_N = pc.and_(
        pc.not_equal(stored.feature_keys, absent), pc.invert(pc.is_in(stored.keys, value_set=open_rows.column("key")))
    ).to_numpy(zero_copy_only=False)
    has = known.select(["key", f"digest_{view.source}"]).filter(known.column(f"digest_{view.source}").is_valid())
    before = pa.table([stored.keys.filter(had_N), stored.feature_keys.filter(had_N)], ["key", "feature_key"])
    place = pc.index_in(has.column(0), value_set=before.column("key")).combine_chunks()
    both, num_both = has.filter(place.is_valid()), len(place) - place.null_count
    num_other = 0
    if stored_view and num_both:
        inputs = pa.array([_feature_key(stored_view, digest) for digest in both.column(1).to_pylist()])
        kept = before.column("feature_key").take(place.drop_null())
        num_other = pc.sum(pc.not_equal(inputs, kept.combine_chunks())).as_py()
    is_same = stored_view is not None and stored_view.rev == rev
    num_stale = num_other if is_same else num_both
    return ViewChanges(
        name=view.name,
        num_new=place.null_count,
        num_stale=num_stale,
        num_unchanged=num_both - num_stale,
        num_removed=before.num_rows - num_both,
        num_encoded=num_encoded,
        num_open=open_rows.num_rows - open_rows.column(f"digest_{view.input}").null_count,
        num_other_inputs=num_other,
        differences=_definition_differences(stored_view, view, definition) if stored_view and not is_same else (),
        origin="" if is_same else _origin(rev, published, is_known=stored_view is not None),
    )


def open_view(reduced: ReducedView, rows: pa.Table) -> ViewChanges:
    """A reduced view while it is not known on what it will be fitted; rows: all samples."""
    num_open = rows.num_rows - rows.column(f"digest_{reduced.view.input}").null_count
    origin = "fitted on training samples, some of which are known later"
    return ViewChanges(reduced.view.name, 0, 0, 0, 0, 0, num_open, 0, (), origin)


def _feature_key(view: StoredView, input_digest: str) -> str:
    """The feature key of a stored row of this input; that of a reduced view is made from that of its base."""
    return feature_key(view.rev, feature_key(view.definition["base"], input_digest) if view.base else input_digest)


def removed_view(name: str, published: Published) -> ViewChanges:
    """A view that is stored and no longer declared."""
    view = published.views[name]
    stored = published.rows([view])
    num_rows = int(
        np.sum(pc.not_equal(stored.feature_keys, feature_key(view.rev, None)).to_numpy(zero_copy_only=False))
    )
    return ViewChanges(name, 0, 0, 0, num_rows, 0, 0, 0, (), "no longer declared")


def _definition_differences(stored: StoredView, view: View, definition: dict[str, Any]) -> tuple[Difference, ...]:
    """What differs; of another encoder only that it is another one, since all of it does."""

    is_same_encoder = stored.encoder == view.encoder

    def whole(declaration: View | StoredView, definition: dict[str, Any]) -> dict[str, Any]:
        declared = {name: getattr(declaration, name) for name in _DECLARED}
        return {**declared, "definition": definition} if is_same_encoder else declared

    return tuple(differences(whole(stored, stored.definition), whole(view, definition)))


def _origin(rev: str, published: Published, *, is_known: bool) -> str:
    """Where the rows of a view come from whose rev is not stored under its name; nothing to say if they are made."""
    same = next((view.name for view in published.views.values() if view.rev == rev), None)
    if same:
        return f"was called {same!r}: rows are copied"
    return "" if is_known else "not stored yet"
