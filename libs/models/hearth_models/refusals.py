"""Why a model cannot be had, in words for the user: what was wrong, and what to do."""

import contextlib
import errno
import socket
from collections.abc import Iterator
from http import HTTPStatus

from hearth_contracts.errors import Conflict, Forbidden, HearthError, NotFound, causes
from huggingface_hub import constants
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

IMPORT = "import a folder: put it under HEARTH_HOME/imports and POST /v1/models/import/"

_LATER = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS)
_HTTP_CLIENTS = ("httpx", "httpx2", "httpcore", "httpcore2")


class Refused(Exception):
    """The model cannot be had; the message says why and what to do.

    `kind` is the error that it is to a client who asks for the model; None where asking again later may help. `is_away`
    says that what it is asked of, the hub or S3, does not answer or has a fault of its own, which may pass.
    """

    def __init__(self, message: str, kind: type[HearthError] | None = None, *, is_away: bool = False) -> None:
        super().__init__(message)
        self.kind = kind
        self.is_away = is_away


@contextlib.contextmanager
def disk_errors(model_id: str) -> Iterator[None]:
    """A full disk as words for the user."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise Refused(
                f"the disk is full: free some space and try {model_id} again; what was downloaded is kept"
            ) from error
        if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
            raise Refused(
                f"{model_id} cannot be put into the model store, which may not be written here: {error.filename}"
            ) from error
        raise


@contextlib.contextmanager
def hub_errors(model_id: str, instead: str = IMPORT) -> Iterator[None]:
    """The hub client's exceptions as words for the user; `instead` is what to do without a hub."""
    where = constants.ENDPOINT
    try:
        with disk_errors(model_id):
            yield
    except Refused:
        raise
    except GatedRepoError as error:
        raise Refused(
            f"{model_id} is gated: accept its licence on {where}/{model_id} and set HF_TOKEN to that account's token",
            Forbidden,
        ) from error
    except RepositoryNotFoundError as error:
        raise Refused(
            f"{where} knows no model {model_id}, or it is private: check the id, or set HF_TOKEN to one that may",
            NotFound,
        ) from error
    except (RevisionNotFoundError, EntryNotFoundError) as error:
        raise Refused(
            f"{where} has not this revision of {model_id} any more, or not all of its files: delete the model, add it "
            "again and deploy it"
        ) from error
    except OfflineModeIsEnabled as error:
        raise Refused(f"HF_HUB_OFFLINE is set, so nothing is downloaded: unset it, or {instead}", Conflict) from error
    except HfHubHTTPError as error:
        code = error.response.status_code
        if code in (401, 403):
            raise Refused(
                f"{where} refuses the token for {model_id} ({code}): set HF_TOKEN to a valid one", Forbidden
            ) from error
        passes = code >= HTTPStatus.INTERNAL_SERVER_ERROR or code in _LATER
        raise Refused(f"{where} answered {code} for {model_id}; try again later", is_away=passes) from error
    except Exception as error:
        if _is_of_the_network(error):
            raise Refused(
                f"{where} is not reachable ({error}): check the network and HF_ENDPOINT, or {instead}", is_away=True
            ) from error
        raise Refused(
            f"{model_id} could not be downloaded from {where}: {type(error).__name__}: {error}. "
            "Try again: what was downloaded is kept"
        ) from error


@contextlib.contextmanager
def s3_errors(model_id: str) -> Iterator[None]:
    """The same of files that come from S3 by their signed addresses, which no message shows."""
    try:
        with disk_errors(model_id):
            yield
    except Refused:
        raise
    except HfHubHTTPError as error:
        code = error.response.status_code
        if code >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise Refused(f"S3 answered {code} for {model_id}", is_away=True) from error
        raise Refused(
            f"S3 answered {code} for a file of {model_id}: share it again (python -m hearth_models.share {model_id})"
        ) from error
    except Exception as error:
        what = type(error).__name__
        if _is_of_the_network(error):
            raise Refused(f"{model_id} cannot be fetched from S3 now ({what})", is_away=True) from error
        raise Refused(f"{model_id} could not be fetched from S3: {what}") from error


def _is_of_the_network(error: BaseException) -> bool:
    """Whether a connection failed, as the system says it, or the hub's HTTP client and what that stands on."""
    return any(
        isinstance(cause, (ConnectionError, TimeoutError, socket.gaierror))
        or type(cause).__module__.partition(".")[0] in _HTTP_CLIENTS
        for cause in causes(error)
    )
