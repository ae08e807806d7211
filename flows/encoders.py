"""The command encoders: what there is, what each one needs, and fetching weights for a machine without a network."""

import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from features.errors import EncoderError
from flows.commands import ParamsOption
from flows.options import JsonOption
from flows.tables import print_json, print_table

if TYPE_CHECKING:
    from features.encoders.listing import Listing
    from features.view import View

_COLUMNS = ("encoder", "takes", "package", "weights", "gives")


class _ByName(TyperGroup):
    """Takes a name that is no command of its own for the encoder to show."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and not args[0].startswith("-") and args[0] not in self.commands:
            args = ["show", *args]
        return super().parse_args(ctx, args)


def add_encoders(app: typer.Typer) -> None:
    """Add the command encoders, which is a group with fetch."""
    group = typer.Typer(cls=_ByName, invoke_without_command=True, subcommand_metavar="[NAME | fetch [NAME]...]")
    group.callback()(_list)
    group.command("show", hidden=True)(_show)
    group.command("fetch")(_fetch)
    app.add_typer(group, name="encoders")


def _list(context: typer.Context, json: JsonOption = False) -> None:
    """List the encoders: what each takes, needs and gives. With a NAME, as timm:resnet18, say all of that one."""
    if context.invoked_subcommand:
        return
    from features.encoders.listing import list_encoders

    listings = list_encoders()
    if json:
        print_json([asdict(listing) for listing in listings])
    else:
        print_table(_COLUMNS, [_row(listing) for listing in listings])


def _row(listing: "Listing") -> list[str]:
    package = listing.package if listing.is_installed else f"{listing.package} is missing: {listing.install}"
    gives = list(dict.fromkeys(_facts(about) for about in listing.about.values()))
    return [listing.name, ", ".join(listing.inputs), package, listing.weights, "; ".join(gives)]


def _facts(about: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in about.items())


def _show(name: Annotated[str, typer.Argument(metavar="NAME")], json: JsonOption = False) -> None:
    """Say what one encoder takes, needs and gives, and where its weights are."""
    from features.encoders.listing import describe_encoder

    listing = describe_encoder(name)
    if json:
        print_json(asdict(listing))
    else:
        print_table(["encoder", listing.name], list(_details(listing)))


def _details(listing: "Listing") -> Iterator[list[Any]]:
    yield ["takes", ", ".join(listing.inputs)]
    yield ["package", f"{listing.package}, {'installed' if listing.is_installed else f'missing: {listing.install}'}"]
    yield ["weights", listing.cure or listing.weights]
    if listing.weights_digest is not None:
        yield ["weights_digest", listing.weights_digest]
    for modality, about in listing.about.items():
        yield [modality, _facts(about) or "known once it is loaded"]


def _fetch(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME", help="Encoders, instead of those of the views.")
    ] = None,
    params: ParamsOption = Path("params.yaml"),
    json: JsonOption = False,
) -> None:
    """Bring the weights of the declared views to this machine and load each, so that runs need no network.

    What a hub has goes into the hub's cache; weights that come in packages are checked.
    """
    rows = [_fetched(name, views) for name, views in (_named(names) if names else _declared(params))]
    if json:
        print_json(rows)
    else:
        shown = [[row["encoder"], ", ".join(row["ready_for"]) or "nothing", row["weights_digest"]] for row in rows]
        print_table(["encoder", "ready for", "weights_digest"], shown)
    failed = [row for row in rows if row["error"]]
    for row in failed:
        sys.stderr.write(f"encoders fetch: {row['error']}\n")
    if failed:
        raise EncoderError(f"{len(failed)} of {len(rows)} encoders are not ready: what is missing is said above")


def _named(names: list[str]) -> Iterator[tuple[str, list["View"]]]:
    from features.encoders.listing import views_of

    for name in names:
        yield name, views_of(name)


def _declared(params: Path) -> Iterator[tuple[str, list["View"]]]:
    from features.view import View
    from pipelines.params import load_params
    from pipelines.view_params import ViewParams

    for name, view in load_params(params).embed.views.items():
        if isinstance(view, ViewParams):
            yield view.encoder, [View(name=name, **view.model_dump())]


def _fetched(encoder: str, views: list["View"]) -> dict[str, Any]:
    """What became of an encoder's weights: one is ready if it loads for any of the views that it might be for."""
    from features.encoders.listing import fetch_weights

    ready, digests, errors = [], [], []
    for view in views:
        try:
            digests.append(fetch_weights(view))
            ready.append(view.input)
        except EncoderError as error:
            errors.append(str(error))
    return {
        "encoder": encoder,
        "ready_for": ready,
        "weights_digest": next(iter(digests), None),
        "error": None if ready else errors[0],
    }
