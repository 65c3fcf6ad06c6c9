"""The confidence of a view: the IoU that its silhouette is expected to have with the true one.

It is calibrated on objects whose other sides are known.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import minimize
from scipy.special import expit

from nvs_ros.completion.cycle import CycleCheck
from nvs_ros.completion.uncertainty import Estimate

RIDGE = 1e-4
"""Factor of the squared weights in the loss, relative to the mean loss of a view."""


class Evidence(NamedTuple):
    """Inputs of the calibration: what is known of a view without its true image.

    Attributes
    ----------
    agreement : float
        Mean IoU of the silhouettes of two seeds, 0..1.
    spread : float
        Mean standard deviation of the colours over the seeds, 0..1.
    cycle_iou : float
        :attr:`nvs_ros.completion.cycle.CycleCheck.iou`, 0..1.
    cycle_error : float
        :attr:`nvs_ros.completion.cycle.CycleCheck.error`, 0..1.
    side : float
        Squared sine of the change of azimuth: 1 at right angles to the source.
    back : float
        0 at the source's azimuth, 1 opposite to it.
    rise : float
        Absolute change of elevation, radians.
    """

    agreement: float
    spread: float
    cycle_iou: float
    cycle_error: float
    side: float
    back: float
    rise: float


SIGNS = {'agreement': 1, 'spread': -1, 'cycle_iou': 1, 'cycle_error': -1, 'rise': -1}
"""Sign that the weight of a field of the evidence must have; others may have either sign."""


def evidence_of(estimate: Estimate, cycle: CycleCheck) -> Evidence:
    """The evidence for a view."""
    relative = estimate.target.relative
    turn = relative.delta_azimuth_rad
    return Evidence(
        estimate.agreement,
        estimate.spread,
        cycle.iou,
        cycle.error,
        math.sin(turn) ** 2,
        (1 - math.cos(turn)) / 2,
        abs(relative.delta_polar_rad),
    )


@dataclass(frozen=True)
class Calibration:
    """Logistic regression from evidence to expected IoU.

    Attributes
    ----------
    bias : float
    weights : mapping of str to float
        One for each field of :class:`Evidence`.

    Raises
    ------
    ValueError
        A weight is missing, unknown, not finite or against :data:`SIGNS`.
    """

    bias: float
    weights: Mapping[str, float]

    def __post_init__(self) -> None:
        if set(self.weights) != set(Evidence._fields):
            raise ValueError(
                f'confidence: expected weights of {list(Evidence._fields)}, '
                f'got {sorted(self.weights)}'
            )
        for name, value in {'bias': self.bias, **self.weights}.items():
            if not (isinstance(value, (int, float)) and math.isfinite(value)):
                raise ValueError(f'confidence: expected a finite number as {name}, got {value!r}')
            if value * SIGNS.get(name, 0) < 0:
                raise ValueError(
                    f'confidence: expected {"no" if SIGNS[name] > 0 else "only"} negative weight '
                    f'of {name}, got {value}'
                )

    @classmethod
    def from_profile(cls, values: Mapping[str, float]) -> Calibration | None:
        """Calibration from a model's profile: ``bias`` and the weights; None if it is empty.

        Raises
        ------
        ValueError
            The profile holds something else.
        """
        if not values:
            return None
        return cls(values.get('bias', math.nan), {k: v for k, v in values.items() if k != 'bias'})

    def profile(self) -> dict[str, float]:
        """Values for :attr:`nvs_ros.zero123.profile.ModelProfile.confidence`."""
        return {'bias': self.bias, **self.weights}

    def confidence(self, evidence: Evidence) -> float:
        """Expected IoU, 0..1."""
        score = self.bias + sum(self.weights[k] * v for k, v in evidence._asdict().items())
        return float(expit(score))


def fit_calibration(evidence: Sequence[Evidence], ious: ArrayLike) -> Calibration:
    """Fit a calibration to views whose true image is known.

    Minimises the cross-entropy between confidence and IoU, with a weak pull of the weights towards
    zero and with the signs of :data:`SIGNS`.

    Parameters
    ----------
    evidence : sequence of n Evidence
    ious : array_like (n,)
        True IoU of each view's silhouette, 0..1.

    Raises
    ------
    ValueError
        There is no view, or not one IoU for each.
    """
    features = np.array(evidence)
    truth = np.asarray(ious, np.float64)
    if features.shape != (len(truth), len(Evidence._fields)) or not len(truth):
        raise ValueError(f'expected an IoU for each of {len(features)} views, got {len(truth)}')

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        score = parameters[0] + features @ parameters[1:]
        entropy = np.logaddexp(0, score) - truth * score
        slope = expit(score) - truth
        gradient = np.concatenate([[slope.mean()], slope @ features / len(truth)])
        gradient[1:] += 2 * RIDGE * parameters[1:]
        return entropy.mean() + RIDGE * np.square(parameters[1:]).sum(), gradient

    signs = [SIGNS.get(name, 0) for name in Evidence._fields]
    limits = {1: (0, None), -1: (None, 0), 0: (None, None)}
    bounds = [(None, None), *(limits[sign] for sign in signs)]
    best = minimize(loss, np.zeros(len(bounds)), jac=True, bounds=bounds, method='L-BFGS-B').x
    bias, *weights = map(float, best)
    return Calibration(bias, dict(zip(Evidence._fields, weights, strict=True)))


class Reliability(NamedTuple):
    """One bin of a reliability diagram: number of views, mean confidence, mean true IoU."""

    views: int
    confidence: float
    iou: float


def reliability(
    confidences: ArrayLike, ious: ArrayLike, bins: int = 10
) -> tuple[list[Reliability], float]:
    """How well confidence predicts the true IoU.

    Parameters
    ----------
    confidences, ious : array_like (n,)
        Confidence and true IoU of each view, 0..1; at least one.
    bins : int
        Number of bins, of about equal numbers of views.

    Returns
    -------
    bins : list of Reliability
        In order of confidence.
    error : float
        Expected calibration error: mean absolute difference of confidence and IoU over the bins,
        weighted by their numbers of views.
    """
    confidences, ious = np.asarray(confidences, float), np.asarray(ious, float)
    order = np.argsort(confidences, kind='stable')
    parts = [part for part in np.array_split(order, bins) if len(part)]
    rows = [
        Reliability(len(part), float(confidences[part].mean()), float(ious[part].mean()))
        for part in parts
    ]
    error = sum(row.views * abs(row.confidence - row.iou) for row in rows) / len(order)
    return rows, float(error)
