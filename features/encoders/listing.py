"""What encoders there are, what each one needs and gives, and how a machine gets ready to do without a network."""

from dataclasses import dataclass, field, replace
from typing import Any, Literal

from features.encoders.catalogue import FAMILIES, Family, find_family, make_encoder
from features.encoders.memory import within_memory
from features.encoders.running import take_running
from features.encoders.weights import check_pin, fetching
from features.errors import EncoderError
from features.view import View

Weights = Literal["none", "here", "missing", "by name", "unknown"]
"""Of an encoder: it has none, they are on this machine or not; of a family, each model has its own; not to be told
before the package is installed."""


@dataclass(frozen=True, kw_only=True)
class Listing:
    """An encoder, or a family of them, as far as it is known here without a model in memory.

    name: with what follows it where it is a family; inputs: modalities; package: what it needs, and install: the
    command that brings it; cure: where its weights are missing, why and what brings them; about: by modality, what
    it takes and gives (features.encoders.base.Encoder).
    """

    name: str
    inputs: list[str]
    package: str
    is_installed: bool
    install: str
    weights: Weights
    weights_digest: str | None = None
    cure: str | None = None
    about: dict[str, dict[str, Any]] = field(default_factory=dict)


def list_encoders() -> list[Listing]:
    """Every encoder that is one, and every family of them."""
    return [_list_family(name, family) for name, family in FAMILIES.items()]


def describe_encoder(name: str) -> Listing:
    """One encoder by the name that a view would give, or a family by its own.

    Raises EncoderError if it is unknown.
    """
    if name in FAMILIES:
        return _list_family(name, FAMILIES[name])
    return _list_encoder(name, find_family(name, f"encoder {name!r}"))


def _list_family(name: str, family: Family) -> Listing:
    if not family.models:
        return _list_encoder(name, family)
    return _listing(f"{name}:{family.models}", family, "by name")


def _list_encoder(name: str, family: Family) -> Listing:
    if not family.is_installed:
        return _listing(name, family, "unknown")
    encoders = {modality: make_encoder(View(name=name, input=modality, encoder=name)) for modality in family.makers}
    listed = _listing(name, family, "missing", about={modality: made.about for modality, made in encoders.items()})
    try:
        digest = next(iter(encoders.values())).definition()["weights_digest"]
    except EncoderError as error:
        return replace(listed, cure=str(error))
    return replace(listed, weights="none" if digest is None else "here", weights_digest=digest)


def _listing(name: str, family: Family, weights: Weights, *, about: dict[str, dict[str, Any]] | None = None) -> Listing:
    return Listing(
        name=name,
        inputs=list(family.makers),
        package=family.package,
        is_installed=family.is_installed,
        install=family.install,
        weights=weights,
        about=about or {},
    )


def views_of(name: str) -> list[View]:
    """A view of the encoder for each modality that it takes. Raises EncoderError if it is unknown."""
    family = find_family(name, f"encoder {name!r}")
    return [View(name=modality, input=modality, encoder=name) for modality in family.makers]


def fetch_weights(view: View) -> str | None:
    """Bring the weights of a view's encoder to this machine, and load them: nothing that it needs is missing then.

    Returns their digest, None if it has none. Raises EncoderError if they cannot be had, do not load or are not those
    that the view pins.
    """
    plain_view, _ = take_running(view)  # how a network is run does not matter, and need not be possible here
    with fetching():
        encoder = make_encoder(plain_view)
        digest: str | None = encoder.definition()["weights_digest"]
        check_pin(view, digest)
        with within_memory(view, "cpu"):
            encoder.load("cpu")
    return digest
