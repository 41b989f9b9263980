"""Weights from the hub, and why they cannot be had."""

from pathlib import Path

import huggingface_hub
from huggingface_hub import errors

from wsi_ncmi.encoders.facts import PathologyEncoder, hub_page
from wsi_ncmi.errors import PartError

# The hub answers "not found" for a gated repository to who has not logged in.
_NO_ACCESS = (errors.GatedRepoError, errors.RepositoryNotFoundError)
_NO_FILE = (errors.RemoteEntryNotFoundError, errors.RevisionNotFoundError)


def download(facts: PathologyEncoder) -> Path:
    """The published file of weights in the hub's cache, fetched if it is not there.

    Raises:
        PartError: it cannot be had: why, its licence, and what to do.
    """
    local = f"give the file as extraction.weights ({facts.filename})"
    if not facts.repository:
        raise PartError(
            f"encoder {facts.name}: {facts.title} is at no hub; its licence is {facts.licence}: "
            f"fetch it from {facts.page} and {local}"
        )
    try:
        return Path(huggingface_hub.hf_hub_download(facts.repository, facts.filename))
    except Exception as error:  # hubs and networks raise what they like
        gated = (
            ""
            if isinstance(error, _NO_ACCESS) or not facts.gated
            else (f" (they are gated: ask for access on {facts.page})")
        )
        raise PartError(
            f"encoder {facts.name}: no weights from {facts.repository} (licence "
            f"{facts.licence}): {remedy(facts.repository, error)}{gated}; or {local}"
        ) from error


def remedy(repository: str, error: Exception) -> str:
    """What stood in the way, and what to do about it."""
    if isinstance(error, _NO_ACCESS):
        return (
            f"the hub refuses access ({type(error).__name__}): ask for it on "
            f"{hub_page(repository)} with an account of your own, then log in with "
            "`hf auth login` or set HF_TOKEN"
        )
    if isinstance(error, _NO_FILE):
        return f"the repository has no such file any more ({type(error).__name__}: {error})"
    if isinstance(error, errors.OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE is set and the cache does not have them: unset it with a network"
    if isinstance(error, errors.LocalEntryNotFoundError):
        return "the cache does not have them and there is no network: fetch them once with one"
    return f"{type(error).__name__}: {error}"
