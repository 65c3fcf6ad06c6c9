"""What a grasp is looked for on: points of a surface with normals and trust."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nvs_ros.completion.cloud import Cloud
from nvs_ros.completion.hull import transformed


@dataclass(frozen=True, eq=False)
class Points:
    """Points of an object's surface.

    Attributes
    ----------
    places : (N, 3) float64
        Metres.
    normals : (N, 3) float64
        Unit vectors that point outward.
    confidence : (N,) float64
        0..1; 1 for measured points.
    synthetic : (N,) float64
        0 measured, 1 imagined; in between where both were joined.
    """

    places: NDArray[np.float64]
    normals: NDArray[np.float64]
    confidence: NDArray[np.float64]
    synthetic: NDArray[np.float64]

    def __post_init__(self) -> None:
        count = len(self.places)
        for name in ('normals', 'confidence', 'synthetic'):
            if len(getattr(self, name)) != count:
                raise ValueError(
                    f'{name}: expected {count} of them, got {len(getattr(self, name))}'
                )

    @classmethod
    def of(cls, cloud: Cloud) -> Points:
        """Those of a completed cloud."""
        return cls(
            cloud.points,
            cloud.normals,
            cloud.confidence.astype(np.float64),
            cloud.synthetic.astype(np.float64),
        )

    @classmethod
    def measured(cls, places: NDArray[np.float64], normals: NDArray[np.float64]) -> Points:
        """Points that are certain."""
        return cls(places, normals, np.ones(len(places)), np.zeros(len(places)))

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, chosen: NDArray) -> Points:
        """Some of them."""
        parts = self.places, self.normals, self.confidence, self.synthetic
        return Points(*(part[chosen] for part in parts))

    def __add__(self, other: Points) -> Points:
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return Points(*(np.concatenate(pair) for pair in pairs))

    def moved(self, target_from_source: NDArray[np.float64]) -> Points:
        """The points in another frame."""
        places = transformed(target_from_source, self.places)
        normals = self.normals @ target_from_source[:3, :3].T
        return Points(places, normals, self.confidence, self.synthetic)

    def thinned(self, spacing_m: float) -> Points:
        """One point for each cell of a grid and each of six ways to face, the mean of those there.

        So both sides of a thin wall stay two.
        """
        if not len(self):
            return self
        cells = np.floor(self.places / spacing_m).astype(np.int64)
        axis = np.abs(self.normals).argmax(1)
        side = 2 * axis + (np.take_along_axis(self.normals, axis[:, None], 1)[:, 0] > 0)
        key = np.column_stack([cells, side])
        _, group, count = np.unique(key, axis=0, return_inverse=True, return_counts=True)

        def mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
            columns = values.reshape(len(values), -1).T
            sums = [np.bincount(group.ravel(), column, len(count)) for column in columns]
            return (np.array(sums) / count).T.reshape(len(count), *values.shape[1:])

        normals = mean(self.normals)
        normals /= np.linalg.norm(normals, axis=1, keepdims=True)
        return Points(mean(self.places), normals, mean(self.confidence), mean(self.synthetic))
