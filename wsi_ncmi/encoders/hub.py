"""Weights from the hub, and why they cannot be had."""

import logging
from pathlib import Path

import huggingface_hub
from huggingface_hub import errors

from wsi_ncmi.encoders.facts import PathologyEncoder, hub_page
from wsi_ncmi.errors import PartError

log = logging.getLogger(__name__)

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


def no_access(facts: PathologyEncoder, *, ask: bool = False) -> str:
    """Why an encoder's weights cannot be fetched, with what to do; "" where nothing is known of it.

    Args:
        ask: the hub, whether the login has been granted access. Else any login will do.
    """
    if not facts.repository:
        return f"{facts.title} is at no hub: fetch {facts.filename} from {facts.page}"
    cached = huggingface_hub.try_to_load_from_cache(facts.repository, facts.filename)
    if not facts.gated or isinstance(cached, str):
        return ""
    if huggingface_hub.get_token() is None:
        return (
            f"{facts.title} is gated, and there is no login: ask for access on {facts.page}, then "
            "log in with `hf auth login` or set HF_TOKEN"
        )
    try:
        if ask:
            huggingface_hub.auth_check(facts.repository)
    except _NO_ACCESS as error:
        return remedy(facts.repository, error)
    except Exception as error:  # without a network nobody knows; hubs raise what they like
        log.info("%s was not asked about access: %s", facts.repository, error)
    return ""


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
