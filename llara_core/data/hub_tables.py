"""Tables of a downloaded dataset repository, by the configurations that its README.md names.

The package ``datasets`` finds the files and maps them into memory; nothing else of ours needs it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from llara_core.errors import DataError, MissingDependencyError

IDS = ("_id", "id")  # names of the id's column: BEIR's and mteb's own


def all_splits(folder: Path, part: str, splits: Sequence[str]) -> pa.Table:
    """One table of a part that may be cut by split, as some of mteb's queries are; each id once."""
    if part == "corpus" or len(splits) == 1:
        return load(folder, part, part if part in splits else splits[0])
    tables = [load(folder, part, split) for split in splits]
    common = [name for name in tables[0].column_names if all(name in one.column_names for one in tables)]
    joined = pa.concat_tables([one.select(common) for one in tables])
    key = next((one for one in IDS if one in common), None)
    if key is None:
        return joined
    firsts: dict[str, int] = {}
    for row, value in enumerate(joined[key].to_pylist()):
        firsts.setdefault(value, row)
    return joined.take(pa.array(list(firsts.values())))


def splits_of(folder: Path, config: str | None) -> list[str]:
    """The splits of a configuration (None: the first one); none where there is no such configuration.

    Raises:
        DataError: the package cannot make sense of the folder.
        MissingDependencyError: it is not installed.
    """
    datasets = _datasets(folder)
    try:
        names = datasets.get_dataset_config_names(str(folder))
        chosen = config if config is not None else names[0]
        return list(datasets.get_dataset_split_names(str(folder), chosen)) if chosen in names else []
    except (OSError, ValueError) as error:
        raise DataError(f"cannot be read by datasets: {error}", file=folder, rule="readable") from None


def load(folder: Path, config: str | None, split: str) -> pa.Table:
    """One split of a configuration, memory-mapped; raises as ``splits_of``."""
    datasets = _datasets(folder)
    try:
        loaded = datasets.load_dataset(str(folder), config, split=split)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        raise DataError(f"cannot be read by datasets: {error}", file=folder, rule="readable") from None
    return loaded.data.table


def _datasets(folder: Path) -> Any:
    try:
        import datasets
    except ImportError:
        raise MissingDependencyError(
            f"{folder} holds Parquet, which the package datasets reads, and it is not installed: "
            "pip install 'llara[pipeline]', or pip install datasets"
        ) from None
    return datasets
