"""``llara serve``: the champion at work, over HTTP."""

from __future__ import annotations

import importlib.util
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llara_core.cli.local_state import local_state
from llara_core.cli.models import WHERE, local
from llara_core.cli.options import Device
from llara_core.errors import ConfigError, MissingDependencyError

if TYPE_CHECKING:
    import socket

    from llara_core.operations.live import LiveStore
    from llara_core.serving.champion import Source
    from llara_core.serving_settings import ServingSettings

logger = logging.getLogger(__name__)
_NEEDED = ("fastapi", "uvicorn", "prometheus_client")
_SHORT_KEY = 16  # characters; what is shorter can be tried out over a network


def serve(  # noqa: PLR0913, PLR0917 - the options of the command
    name: Annotated[str, typer.Option("--name", help="Registered model.")] = "llara-retriever",
    store: Annotated[
        Path | None, typer.Option("--store", help="Live store; default: live/NAME of the local state.")
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option("--model", metavar=WHERE, callback=local, help="Serve this bundle, not a live store."),
    ] = None,
    index: Annotated[Path | None, typer.Option("--index", metavar="DIR", help="Index of --model.")] = None,
    data: Annotated[
        str | None,
        typer.Option(
            "--data", metavar="COLLECTION", help="Texts of --model; without --index they are encoded first."
        ),
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any that is free.")] = 8000,
    api_key_env: Annotated[
        str | None,
        typer.Option("--api-key-env", metavar="NAME", help="Environment variable that holds the keys."),
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="YAML of limits, e.g. configs/serving.yaml.")
    ] = None,
    no_indexing: Annotated[
        bool, typer.Option("--no-indexing", help="Refuse an empty live store instead of filling it.")
    ] = False,
    device: Device = None,
) -> None:
    """Serve embeddings, search and the search page; a new champion is taken over without a break.

    Without options: what `make run` has made champion. Where it has no index yet, one is made first.
    """
    _check(model, store, alone=index is None and data is None)
    settings, keys = _settings(config), _keys(api_key_env)
    from llara_core.serving.server import bind

    with bind(host, port) as listening:  # a port that is taken is said before a model is loaded
        if model is not None:
            _run(_fixed(model, index, data, device), None, listening, settings, keys, device)
        else:
            live = _store(store, name, no_indexing)
            from llara_core.serving.champion import StoreSource

            _run(StoreSource(live, device), live, listening, settings, keys, device)


def _check(model: Path | None, store: Path | None, *, alone: bool) -> None:
    """Refuse options that contradict each other, and a machine without the extra.

    Raises:
        MissingDependencyError: names the extra.
        ConfigError: says which options.
    """
    missing = [one for one in _NEEDED if importlib.util.find_spec(one) is None]
    if missing:
        raise MissingDependencyError(f"llara serve needs {', '.join(missing)}: pip install 'llara[serve]'")
    if model is None and not alone:
        raise ConfigError("--index and --data belong to --model; a live store holds its own")
    if model is not None and store is not None:
        raise ConfigError("give --model or --store, not both")


def _settings(config: Path | None) -> ServingSettings:
    from llara_core.serving_settings import ServingSettings
    from llara_core.settings import load_yaml

    return ServingSettings() if config is None else ServingSettings.parse(load_yaml(config), str(config))


def _keys(variable: str | None) -> tuple[str, ...]:
    """The keys that a variable holds, apart by commas or white space."""
    if variable is None:
        return ()
    keys = tuple(os.environ.get(variable, "").replace(",", " ").split())
    if not keys:
        raise ConfigError(
            f"--api-key-env {variable}: the variable is not set, or is empty; put the keys there"
        )
    if not all(key.isascii() for key in keys):
        raise ConfigError(f"--api-key-env {variable}: a key holds characters that no header can carry")
    if min(map(len, keys)) < _SHORT_KEY:
        logger.warning(
            "$%s: a key of less than %d characters can be guessed; openssl rand -hex 32 makes a good one",
            variable, _SHORT_KEY,
        )  # fmt: skip
    return keys


def _fixed(model: Path, index: Path | None, data: str | None, device: str | None) -> Source:
    """A model that lies anywhere; what is wrong with it is said at once."""
    from llara_core.cli.options import read_data, read_settings
    from llara_core.serving.champion import FixedSource
    from llara_core.serving.served import open_folders

    collection = None if data is None else read_data(data, read_settings(None, None), "optional")
    served = open_folders(model.expanduser(), index, collection, cache=_cache() / "indexes", device=device)
    return FixedSource(served.name, lambda: served)


def _cache() -> Path:
    """Where indexes that are made here are kept: the local state, or what the machine has for caches."""
    try:
        return local_state(None) / "serve"
    except ConfigError:
        home = os.environ.get("XDG_CACHE_HOME")
        return (Path(home) if home else Path.home() / ".cache") / "llara-serve"


def _store(given: Path | None, name: str, no_indexing: bool) -> LiveStore:
    """The live store, with a pair in it where that is ours to do.

    Raises:
        LiveError: it is damaged, or empty and not to be filled.
    """
    from llara_core.operations.live import LiveError, LiveStore

    store = LiveStore(given if given is not None else local_state(None) / "live" / name)
    if store.current() is not None:
        return store
    if no_indexing:
        raise LiveError(f"{store.folder}: nothing is live yet; make it with `python -m pipelines indexing`")
    if given is not None:  # somebody else's: a pod may well start before the first indexing
        logger.warning("%s: nothing is live yet; /readyz says no until something is", store.folder)
        return store
    from llara_core.cli.project import find_project, run_module

    logger.info("%s: nothing is live yet, so the champion's index is made first", name)
    if code := run_module("pipelines", ["indexing"], find_project()):
        logger.error("The indexing has failed, so there is nothing to serve. Is there a champion? `make run`")
        raise typer.Exit(code)
    if store.current() is None:
        raise LiveError(
            f"{store.folder}: the indexing has made nothing live there; the canary may have refused it: "
            "see what it says above"
        )
    return store


def _run(
    source: Source,
    live: LiveStore | None,
    listening: socket.socket,
    settings: ServingSettings,
    keys: tuple[str, ...],
    device: str | None,
) -> None:
    from llara_core.serving.app import create_app
    from llara_core.serving.champion import Champion
    from llara_core.serving.page_routes import SearchPage
    from llara_core.serving.served import open_pair
    from llara_core.serving.server import Server, hosts_for
    from llara_core.serving.service import Service
    from llara_core.serving.systems import Systems

    if settings.threads:
        import torch

        torch.set_num_threads(settings.threads)
    service = Service(Champion(source, settings.switch), settings)
    champion, opened = service.champion, lambda pair: open_pair(pair, device)
    systems = Systems(lambda: champion.current, live, _cache() / "bm25", settings.page, opened)
    page = SearchPage(systems, settings.page)
    shown = settings.page.enabled
    app = create_app(
        service,
        keys=keys,
        hosts=hosts_for(listening, settings),
        more=[page.router] if shown else [],
        open_paths=page.open_paths if shown else (),
    )
    try:
        _say(listening, keys, shown)
        Server(app, service, settings).run(sockets=[listening])
    finally:
        page.close()


def _say(listening: socket.socket, keys: tuple[str, ...], shown: bool) -> None:
    """Tell the person at the keyboard where to go."""
    from llara_core.serving.server import is_loopback, url_of

    url = url_of(listening)
    key = " -H 'Authorization: Bearer KEY'" if keys else ""
    if shown:
        typer.echo(f"Search page   {url}/", err=True)
    typer.echo(f"Description   {url}/openapi.json", err=True)
    typer.echo(
        f"Try           curl {url}/search -H 'Content-Type: application/json'{key} "
        '-d \'{"query": "read a file line by line"}\'',
        err=True,
    )
    if not keys and not is_loopback(listening):
        logger.warning(
            "Whoever reaches %s can use this service: there is no key. Set one with --api-key-env, or listen "
            "on 127.0.0.1 behind a proxy that asks for one", url,
        )  # fmt: skip
