"""The method in NumPy float64, written from the equations of the paper; the tests compare with it.

Sobol, Xu, Litany, *Zero-to-Hero*, NeurIPS 2024, sections 4.3 and 4.4; Song et al., *Denoising
Diffusion Implicit Models*, equation 12.
"""

from itertools import groupby

import numpy as np


def alphas_bar(beta_start=0.00085, beta_end=0.012, zero_terminal_snr=False):
    """Cumulative product of 1 - beta for t = 0..999, linear in the square root of beta."""
    betas = np.linspace(beta_start**0.5, beta_end**0.5, 1000) ** 2
    result = np.cumprod(1 - betas)
    if zero_terminal_snr:
        root = np.sqrt(result)
        root = (root - root[-1]) * root[0] / (root[0] - root[-1])
        result = root**2
    return result


def ddim_step(z, output, alpha_bar, alpha_bar_previous, prediction_type):
    """Deterministic DDIM: z_t to z_{t-1}, and the predicted z_0."""
    a, s = np.sqrt(alpha_bar), np.sqrt(1 - alpha_bar)
    if prediction_type == 'epsilon':
        noise = output
        z_0 = (z - s * noise) / a
    else:
        z_0 = a * z - s * output
        noise = s * z + a * output
    return np.sqrt(alpha_bar_previous) * z_0 + np.sqrt(1 - alpha_bar_previous) * noise, z_0


def renoise(z_previous, noise, alpha_bar, alpha_bar_previous):
    """Section 4.3: z_t drawn from q(z_t | z_{t-1})."""
    ratio = alpha_bar / alpha_bar_previous
    return np.sqrt(ratio) * z_previous + np.sqrt(1 - ratio) * noise


def refined_maps(
    timesteps, maps, *, pooling, alpha_i, alpha_c, alpha_h, in_step_window, cross_step_window
):
    """Section 4.3: the refined map of every evaluation of a run.

    Parameters
    ----------
    timesteps : list of int
        t of each evaluation; equal neighbours are the passes of one step.
    maps : list of array
        M_{t,r}, before softmax.
    """
    result, history, position = [], None, 0
    for t, group in groupby(timesteps):
        passes = len(list(group))
        refined = []
        for m in maps[position : position + passes]:
            pooled = m
            if in_step_window[0] <= t < in_step_window[1] and refined:
                pooled = {
                    'min': lambda m=m, refined=refined: np.min([m, *refined], axis=0),
                    'mean': lambda m=m, refined=refined: np.mean([m, *refined], axis=0),
                    'ema': lambda m=m, refined=refined: alpha_i * m + (1 - alpha_i) * refined[-1],
                }[pooling]()
            if cross_step_window[0] <= t < cross_step_window[1] and history is not None:
                pooled = alpha_c * pooled + (1 - alpha_c) * history
            refined.append(pooled)
        if cross_step_window[0] <= t < cross_step_window[1]:
            last = refined[-1]
            history = last if history is None else alpha_h * last + (1 - alpha_h) * history
        result += refined
        position += passes
    return result


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


class Attention:
    """One self-attention layer with the weights of a diffusers layer."""

    def __init__(self, layer):
        state = {name: value.double().numpy() for name, value in layer.state_dict().items()}
        self.heads = layer.heads
        self.query, self.key, self.value = (state[f'to_{name}.weight'].T for name in 'qkv')
        self.out, self.bias = state['to_out.0.weight'].T, state['to_out.0.bias']

    def split(self, x):
        rows, tokens, width = x.shape
        return x.reshape(rows, tokens, self.heads, width // self.heads).transpose(0, 2, 1, 3)

    def maps(self, hidden, context):
        """Q K^T / sqrt(d), (rows, heads, tokens, tokens)."""
        query, key = self.split(hidden @ self.query), self.split(context @ self.key)
        return query @ key.transpose(0, 1, 3, 2) / np.sqrt(query.shape[-1])

    def output(self, maps, context):
        hidden = softmax(maps) @ self.split(context @ self.value)
        rows, heads, tokens, width = hidden.shape
        joined = hidden.transpose(0, 2, 1, 3).reshape(rows, tokens, heads * width)
        return joined @ self.out + self.bias


def mutual_context(hidden, groups):
    """Section 4.4: the context of each row when targets look at the source row of their group."""
    grouped = hidden.reshape(groups, -1, *hidden.shape[1:])
    return np.broadcast_to(grouped[:, :1], grouped.shape).reshape(hidden.shape)
