"""From frames of an object to its whole shape."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nvs_ros.completion.cloud import (
    Cloud,
    all_measured_points,
    completed_cloud,
    view_gains,
)
from nvs_ros.completion.confidence import Calibration, Evidence, evidence_of
from nvs_ros.completion.cycle import cycle_check
from nvs_ros.completion.hull import Grid, carve
from nvs_ros.completion.surface import Surface, hull_surface
from nvs_ros.completion.uncertainty import Estimate, estimate_views
from nvs_ros.geometry import TargetCamera
from nvs_ros.geometry.like_mask import check_like_mask
from nvs_ros.settings import CompletionSettings
from nvs_ros.synthesizer import Frame, Observation, Synthesizer

NOT_CALIBRATED = (
    'confidence is not calibrated for this model: it is how far the silhouettes of several seeds '
    'agree'
)


@dataclass(frozen=True, eq=False)
class AssessedView:
    """A synthesised viewpoint with its confidence.

    Attributes
    ----------
    estimate : Estimate
    evidence : Evidence
    confidence : float
        0..1: the IoU that the silhouette is expected to have with the true one. If the model has no
        calibration, the agreement of the seeds' silhouettes instead, with a warning.
    warnings : tuple of str
        Remarks on the confidence, in sentences for a person.
    """

    estimate: Estimate
    evidence: Evidence
    confidence: float
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Completion:
    """The whole shape of an object, most of it imagined; in the object frame.

    Attributes
    ----------
    cloud : Cloud
    surface : Surface
        Closed surface of the hull.
    gains : (views,) float64
        Surface that a real image from each viewpoint would add, m^2; see
        :func:`nvs_ros.completion.cloud.view_gains`.
    """

    cloud: Cloud
    surface: Surface
    gains: NDArray[np.float64]

    @property
    def next_best_view(self) -> int:
        """Index of the viewpoint from which a real image would add most."""
        return int(self.gains.argmax())

    def scaled(self, factor: float) -> Completion:
        """The shape scaled about the origin of the object frame."""
        cloud = dataclasses.replace(self.cloud, points=self.cloud.points * factor)
        surface = dataclasses.replace(self.surface, vertices=self.surface.vertices * factor)
        return Completion(cloud, surface, self.gains * factor**2)


def assess_views(
    synthesizer: Synthesizer,
    observation: Observation,
    targets: Sequence[TargetCamera],
    settings: CompletionSettings,
    *,
    seed: int = 0,
    callback: Callable[[dict], None] | None = None,
) -> list[AssessedView]:
    """Synthesise viewpoints with several seeds, check the cycle back, and give their confidence.

    Parameters
    ----------
    synthesizer : Synthesizer
    observation : Observation
    targets : sequence of TargetCamera
    settings : CompletionSettings
    seed : int
        The first of the seeds.
    callback : callable, optional
        As for :meth:`nvs_ros.synthesizer.Synthesizer.synthesize`; the count starts again for the
        cycle check of each view.

    Raises
    ------
    ValueError
        The preset is unknown, or the profile of the model holds an unusable calibration.
    """
    sampler = synthesizer.preset(settings.preset)
    estimates = estimate_views(
        synthesizer,
        observation,
        targets,
        sampler,
        seeds=settings.seeds,
        seed=seed,
        callback=callback,
    )
    calibration = calibration_of(synthesizer)
    views = []
    for estimate in estimates:
        nearest = observation.nearest(estimate.target)
        source, told = observation.sources[nearest].view, estimate
        if nearest:
            told = dataclasses.replace(estimate, target=estimate.target.relative_to(source))
        evidence = evidence_of(told, cycle_check(synthesizer, source, told, sampler, callback))
        if calibration is None:
            views.append(
                AssessedView(estimate, evidence, evidence.agreement, warnings=(NOT_CALIBRATED,))
            )
        else:
            views.append(AssessedView(estimate, evidence, calibration.confidence(evidence)))
    return views


def calibration_of(synthesizer: Synthesizer) -> Calibration | None:
    """The calibration in the model's profile; None if there is none.

    Raises
    ------
    ValueError
        The profile holds an unusable calibration.
    """
    return Calibration.from_profile(synthesizer.components.profile.confidence)


def provenance_of(views: Sequence[AssessedView], settings: CompletionSettings) -> dict[str, object]:
    """Model, preset and seeds that a shape was made with, for its files."""
    estimate = views[0].estimate
    return {
        'model': estimate.model_id,
        'preset': settings.preset,
        'seeds': ' '.join(map(str, estimate.seeds)),
    }


def complete_shape(
    frames: Sequence[Frame],
    observation: Observation,
    views: Sequence[AssessedView],
    settings: CompletionSettings,
) -> Completion:
    """Carve the whole shape of an object from its frames and synthesised views.

    Parameters
    ----------
    frames : sequence of Frame
        The measured frames, one or more.
    observation : Observation
        Of the frames.
    views : sequence of AssessedView
        Of the observation; those with a confidence below ``settings.min_confidence`` are not used.
    settings : CompletionSettings

    Raises
    ------
    ValueError
        Depth of another size than the mask, no view with enough confidence, or nothing left of the
        object.
    """
    for frame in frames:
        check_like_mask(np.shape(frame.mask), depth_m=frame.depth_m)
    confidences = [view.confidence for view in views]
    if not max(confidences, default=-1) >= settings.min_confidence:
        raise ValueError(
            f'expected a view with a confidence of {settings.min_confidence:g} or more, '
            f'got {max(confidences, default=0):.2f} at most'
        )
    grid = Grid(observation.source.unit_m, settings.cells)
    estimates = [view.estimate for view in views]
    # With confidence 0 a view neither carves nor colours, and the indices of views stay the same.
    confidences = [c if c >= settings.min_confidence else 0.0 for c in confidences]
    sources = [source.view for source in observation.sources]
    occupancy = carve(grid, frames, estimates, confidences)
    points, colors = all_measured_points(frames)
    surface = hull_surface(grid, occupancy, sources, estimates, confidences, points)
    return Completion(completed_cloud(points, colors, surface), surface, view_gains(surface))
