"""The ZenML server that this machine is told of: where it is, and what it says when it does not let us in."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from llara_core.errors import ConfigError


def address() -> str:
    """Address of ZenML's store, without connecting to it: a URL, or ``sqlite:///…`` of this machine."""
    told = os.environ.get("ZENML_STORE_URL")
    if told:
        return told
    from zenml.config.global_config import GlobalConfiguration

    configuration = GlobalConfiguration().store_configuration
    return str(configuration.url)


@contextmanager
def readable_errors() -> Iterator[None]:
    """Make of ZenML's errors of connection and login one that says what to do.

    Raises:
        ConfigError: the server does not answer, does not know us, or forbids what was asked.
    """
    from zenml.exceptions import AuthorizationException, CredentialsNotValid, IllegalOperationError

    try:
        yield
    except (AuthorizationException, CredentialsNotValid) as error:
        url = address()
        raise ConfigError(
            f"ZenML server {url}: it does not know us ({type(error).__name__}); `zenml login {url}`, or put "
            "ZENML_STORE_API_KEY of a service account into deploy/kubernetes.env"
        ) from error
    except IllegalOperationError as error:
        raise ConfigError(f"ZenML server {address()}: it forbids this: {error}") from error
    except RuntimeError as error:
        if "connecting to URL" not in str(error):
            raise
        raise ConfigError(f"ZenML server {address()}: it does not answer: {error}") from error
