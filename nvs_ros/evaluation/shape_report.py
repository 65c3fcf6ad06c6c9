"""Report of an assessment: tables with intervals, reliability, and pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from scipy.stats import spearmanr

from nvs_ros.completion.confidence import reliability
from nvs_ros.completion.hull import Grid
from nvs_ros.completion.surface import triangulated
from nvs_ros.contact_sheet import contact_sheet
from nvs_ros.evaluation.markdown_tables import cell
from nvs_ros.evaluation.shape_protocol import METHODS
from nvs_ros.evaluation.statistics import mean_and_interval
from nvs_ros.geometry import Camera, look_at
from nvs_ros.image_files import CONTENT, save_view
from nvs_ros.scenes.mesh import Mesh
from nvs_ros.scenes.render import render

REFERENCES = ('cone', 'mirrored', 'copied')
PAIRS = [
    *((ours, other) for ours in ('ours', 'ours_no_depth') for other in REFERENCES),
    ('ours_2_frames', 'ours'),
    ('ours_3_frames', 'ours_2_frames'),
]
"""Pairs of methods that are compared object by object."""
SHEET_OBJECTS = 8
CLAY = (0.55, 0.6, 0.7)


def summarise(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Summarise the results of an assessment.

    Parameters
    ----------
    results : sequence of dict
        From :func:`nvs_ros.evaluation.shape_protocol.assess`.

    Returns
    -------
    dict
        ``shapes``: method -> metric -> mean and ends of the 95 % interval over objects; ``paired``:
        the difference of two methods likewise; ``confidence``: views, mean iou, spearman, ece, mean
        absolute error, reliability.
    """
    scores = {
        method: {
            metric: np.array([result['shapes'][method][metric] for result in results])
            for metric in ('iou', 'chamfer')
        }
        for method in METHODS
        if method in results[0]['shapes']
    }
    views = [view for result in results for view in result['views']]
    confidence = np.array([view['confidence'] for view in views])
    iou = np.array([view['iou'] for view in views])
    bins, error = reliability(confidence, iou)
    return {
        'objects': len(results),
        'shapes': {
            method: {metric: mean_and_interval(values) for metric, values in metrics.items()}
            for method, metrics in scores.items()
        },
        'paired': {
            f'{ours}-{reference}': {
                metric: mean_and_interval(scores[ours][metric] - scores[reference][metric])
                for metric in ('iou', 'chamfer')
            }
            for ours, reference in PAIRS
            if ours in scores
        },
        'confidence': {
            'views': len(views),
            'iou': float(iou.mean()),
            'spearman': float(spearmanr(confidence, iou).statistic),
            'ece': error,
            'mean_absolute_error': float(np.abs(confidence - iou).mean()),
            'reliability': [row._asdict() for row in bins],
        },
    }


def table(summary: dict[str, Any]) -> str:
    """The summary as Markdown tables."""
    lines = [
        f'{summary["objects"]} objects; means with 95 % intervals over objects.',
        '',
        '| shape | volumetric IoU | Chamfer distance, % of the longest side |',
        '|---|---|---|',
    ]
    for method, row in summary['shapes'].items():
        what = METHODS[method]
        lines.append(f'| {what} | {cell(row["iou"])} | {cell(row["chamfer"], 100, 2)} |')
    lines += ['', '| difference | volumetric IoU | Chamfer distance, % |', '|---|---|---|']
    for pair, row in summary['paired'].items():
        cells = f'{cell(row["iou"], sign="+")} | {cell(row["chamfer"], 100, 2, "+")}'
        lines.append(f'| {pair.replace("-", " - ")} | {cells} |')
    confidence = summary['confidence']
    lines += [
        '',
        f'Confidence of {confidence["views"]} views (mean IoU {confidence["iou"]:.3f}): '
        f'Spearman correlation with the true IoU {confidence["spearman"]:.2f}, expected '
        f'calibration error {confidence["ece"]:.3f}, '
        f'mean absolute error {confidence["mean_absolute_error"]:.3f}.',
    ]
    return '\n'.join(lines)


def write_plots(summary: dict[str, Any], results: Sequence[dict[str, Any]], folder: Path) -> None:
    """Write ``reliability.png`` and ``shapes.png`` of up to 8 objects.

    Parameters
    ----------
    summary : dict
        From :func:`summarise`.
    results : sequence of dict
        From :func:`nvs_ros.evaluation.shape_protocol.assess`.
    folder : Path
        Created if it does not exist.
    """
    folder.mkdir(parents=True, exist_ok=True)
    reliability_figure(summary, results).savefig(folder / 'reliability.png', dpi=110)
    save_view(shape_sheet(results[:SHEET_OBJECTS]), folder / 'shapes.png', {'content': CONTENT})


def reliability_figure(summary: dict[str, Any], results: Sequence[dict[str, Any]]) -> Figure:
    """True IoU over confidence: single views, and means of bins with equal numbers of views."""
    figure = Figure(figsize=(4.6, 4.4), layout='constrained')
    axes = figure.subplots()
    views = [view for result in results for view in result['views']]
    points = np.array([(view['confidence'], view['iou']) for view in views])
    axes.scatter(points[:, 0], points[:, 1], s=5, alpha=0.3, color='tab:gray', label='views')
    rows = summary['confidence']['reliability']
    axes.plot([row['confidence'] for row in rows], [row['iou'] for row in rows], 'o-', label='bins')
    axes.plot([0, 1], [0, 1], '--', color='black', linewidth=1, label='calibrated')
    low = max(0.0, points.min() - 0.05)
    axes.set(xlim=(low, 1), ylim=(low, 1), xlabel='confidence', ylabel='true IoU')
    axes.legend()
    return figure


def shape_sheet(results: Sequence[dict[str, Any]]) -> np.ndarray:
    """Contact sheet of each object: measured image, and truth and shapes seen from behind."""
    rows, captions = [], []
    for result in results:
        frame, occupancy = result['frame'], result['occupancy']
        grid = Grid(1.0, next(iter(occupancy.values())).shape[0])
        x, y, z = frame.object_from_camera[:3, 3]
        turn = np.radians(140)
        behind = np.array(
            [x * np.cos(turn) - y * np.sin(turn), x * np.sin(turn) + y * np.cos(turn), abs(z) + 0.5]
        )
        rows.append([frame.image, _picture(result['mesh'], behind)])
        captions.append([f'measured: {result["name"][-16:]}', 'truth, from behind'])
        for method in ('cone', 'mirrored', 'ours', 'true'):
            rows[-1].append(_picture(_clay(grid, occupancy[method]), behind))
            captions[-1].append(f'{method}: IoU {result["shapes"][method]["iou"]:.2f}')
    return contact_sheet(rows, captions)


def _picture(mesh: Mesh, position: np.ndarray, size: int = 192) -> np.ndarray:
    return render(mesh, look_at(position), Camera.canonical(size).matrix, size, size).image


def _clay(grid: Grid, occupancy: np.ndarray) -> Mesh:
    vertices, faces, normals = triangulated(grid, occupancy)
    colors = np.tile(np.array(CLAY, np.float32), (len(faces), 1))
    return Mesh(vertices, faces.astype(np.int64), colors, normals[faces].astype(np.float32))
