"""A collection as MLflow's data sets have it: our content hash is its digest. Issue 5, point 7."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from mlflow.data.dataset import Dataset
from mlflow.data.dataset_source import DatasetSource
from mlflow.types import ColSpec, Schema

DIGEST = 36  # characters that MLflow keeps of a digest; the whole hash is in the profile and in a tag


class CollectionSource(DatasetSource):
    """Where a collection came from, as the user wrote it; MLflow's own kinds do not know all our places."""

    def __init__(self, place: str) -> None:
        self.place = place

    @staticmethod
    def _get_source_type() -> str:
        return "llara"

    def load(self) -> Any:
        """Not ours to do: collections are read by llara.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError("read it with llara_core.data.formats.open_collection")

    @staticmethod
    def _can_resolve(raw_source: Any) -> bool:
        return False

    @classmethod
    def _resolve(cls, raw_source: Any) -> CollectionSource:
        return cls(str(raw_source))

    def to_dict(self) -> dict[Any, Any]:
        """The place."""
        return {"place": self.place}

    @classmethod
    def from_dict(cls, source_dict: Mapping[Any, Any]) -> CollectionSource:
        """What ``to_dict`` gave."""
        return cls(str(source_dict["place"]))


class CollectionDataset(Dataset):
    """A collection by name and content hash.

    Args:
        name: of the collection.
        content_hash: of its content, in hexadecimal.
        place: where it came from.
        columns: names of the documents' text columns.
        facts: of ``llara_core.data.lineage``; shown as the data set's profile.
    """

    def __init__(
        self, name: str, content_hash: str, place: str, columns: Sequence[str], facts: Mapping[str, Any]
    ) -> None:
        self._content_hash, self._columns = content_hash, list(columns)
        self._facts = {**facts, "content_hash": content_hash}
        super().__init__(CollectionSource(place), name, content_hash[:DIGEST])

    def _compute_digest(self) -> str:
        return self._content_hash[:DIGEST]

    @property
    def schema(self) -> Schema:
        """The documents' columns, all of them strings."""
        return Schema([ColSpec("string", name) for name in self._columns])

    @property
    def profile(self) -> dict[str, Any]:
        """Counts, format, revision, and the whole content hash."""
        return self._facts

    def to_dict(self) -> dict[str, str]:
        """As MLflow stores it."""
        schema = json.dumps({"mlflow_colspec": self.schema.to_dict()})
        return {**super().to_dict(), "schema": schema, "profile": json.dumps(self.profile)}
