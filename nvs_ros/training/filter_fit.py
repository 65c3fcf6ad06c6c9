"""Fitting a learned filter to the maps of true pictures.

For each head and stage the weights are those of a conditional logit model: softmax(features @
weights) should be the attention of the true picture. The cross-entropy is convex in the weights, so
there is one optimum, and no network is differentiated.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from nvs_ros.hero.learned_filter import FEATURES

HELD_OUT = 0.25
"""Share of the rows, the last ones, on which a fit is judged."""
RIDGE = 1e-3
"""Weight of the squared distance from the neutral weights."""


@dataclass(frozen=True)
class StageFit:
    """Weights of one layer at one stage and how far they are from the true attention.

    Attributes
    ----------
    weights : torch.Tensor
        (heads, 4).
    untouched, temperature, learned : float
        Mean Kullback-Leibler divergence (nats) of the true attention from that of the maps as they
        are, with the best temperature for each head, and with the weights; on held-out rows.
    """

    weights: torch.Tensor
    untouched: float
    temperature: float
    learned: float


def fit_stage(features: torch.Tensor, truth: torch.Tensor) -> StageFit:
    """Fit the weights of a layer at one stage.

    Parameters
    ----------
    features : torch.Tensor
        (heads, n, keys, 4) float32, see :data:`nvs_ros.hero.learned_filter.FEATURES`.
    truth : torch.Tensor
        (heads, n, keys) float32, attention of the true pictures.

    Raises
    ------
    ValueError
        Fewer than 8 rows.
    """
    rows = features.shape[1]
    if rows < 8:
        raise ValueError(f'recordings: expected at least 8 rows, got {rows}')
    truth = truth / truth.sum(-1, keepdim=True)
    learning = rows - int(HELD_OUT * rows)
    entropy = -torch.special.xlogy(truth, truth).sum(-1)

    def divergence(weights: torch.Tensor, part: slice) -> torch.Tensor:
        logits = torch.einsum('hnkf,hf->hnk', features[:, part], weights)
        cross = -(truth[:, part] * logits.log_softmax(-1)).sum(-1)
        return (cross - entropy[:, part]).mean()

    def best(used: list[int]) -> torch.Tensor:
        neutral = torch.zeros(len(features), len(FEATURES))
        neutral[:, 0] = 1
        free = neutral[:, used].clone().requires_grad_()
        optimizer = torch.optim.LBFGS([free], max_iter=60, line_search_fn='strong_wolfe')

        def full() -> torch.Tensor:
            return neutral.index_copy(1, torch.tensor(used), free)

        def loss() -> torch.Tensor:
            optimizer.zero_grad()
            value = divergence(full(), slice(0, learning))
            value = value + RIDGE * (full() - neutral).square().mean()
            value.backward()
            return value

        optimizer.step(loss)
        return full().detach()

    judged = slice(learning, rows)
    weights = best(_informative(features))
    neutral = torch.zeros_like(weights)
    neutral[:, 0] = 1
    return StageFit(
        weights,
        *(float(divergence(w, judged)) for w in (neutral, best([0]), weights)),
    )


def _informative(features: torch.Tensor) -> list[int]:
    """Indices of the features that are not the present map again, nor zero."""
    present = features[..., 0]
    return [0] + [
        i
        for i in range(1, len(FEATURES))
        if not torch.equal(features[..., i], present) and bool(features[..., i].any())
    ]
