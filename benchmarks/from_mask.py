"""How far the place of an object that is found from mask and depth is off the true one, in per cent
of its size, and what that costs the views: python benchmarks/from_mask.py [--objects N] [--views]

Held-out household objects on a table, a wall behind, random cameras 5 to 60 degrees above and 1.6
to 4 sizes away, 640x480.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import time

import numpy as np

from nvs_ros.evaluation.sets import SPLIT_SEEDS
from nvs_ros.evaluation.tabletop import TableScene, table_scene
from nvs_ros.geometry import Spherical, inverse
from nvs_ros.geometry.from_mask import Place, place_from_mask
from nvs_ros.scenes.categories import HOUSEHOLD, make_object
from nvs_ros.scenes.mesh import Mesh

BANDS = ((5, 15), (15, 30), (30, 45), (45, 60), (5, 60))
AZIMUTHS_DEG = (30, 90, 180)


def scenes(count: int, faults: bool):
    """Mesh, camera and scene of each object."""
    for index in range(count):
        rng = np.random.default_rng([SPLIT_SEEDS['test'], index])
        mesh = make_object(HOUSEHOLD[index % len(HOUSEHOLD)], rng)
        camera = Spherical(
            rng.uniform(-np.pi, np.pi), np.radians(rng.uniform(5, 60)), rng.uniform(1.6, 4)
        )
        yield mesh, camera, table_scene(mesh, camera, rng, faults=faults)


def errors(mesh: Mesh, scene: TableScene, place: Place) -> list[float]:
    """Of the centre and of the longest side, in per cent of the size: against the true pose's box,
    and against the true box along the axes that were found."""
    size_m = scene.frame.object_size_m
    true_from_found = scene.frame.object_from_camera @ place.camera_from_object
    box = mesh.vertices @ true_from_found[:3, :3] * size_m
    middle = (box.max(0) + box.min(0)) / 2
    along = inverse(true_from_found)[:3, 3] + middle
    tilt = math.degrees(math.acos(min(true_from_found[2, 2], 1.0)))
    return [
        np.linalg.norm(true_from_found[:3, 3]) / size_m * 100,
        abs(place.size_m / size_m - 1) * 100,
        np.linalg.norm(along) / size_m * 100,
        abs(place.size_m / np.ptp(box, axis=0).max() - 1) * 100,
        tilt,
    ]


def measure(count: int, faults: bool, reference: bool) -> None:
    """Print the errors of one setting."""
    rows, elevations, spent_s = [], [], 0.0
    for mesh, camera, scene in scenes(count, faults):
        frame = scene.frame
        rotation = frame.object_from_camera[:3, :3].T if reference else None
        started = time.process_time()
        try:
            place = place_from_mask(frame.mask >= 128, frame.camera, frame.depth_m, rotation)
        except ValueError as error:
            print(f'not found: {error}')
            continue
        spent_s += time.process_time() - started
        rows.append(errors(mesh, scene, place))
        elevations.append(math.degrees(camera.elevation_rad))
    rows, elevations = np.array(rows), np.array(elevations)
    name = f'{"sensor" if faults else "ideal"}, up {"given" if reference else "from the plane"}'
    print(f'{name}: {1000 * spent_s / len(rows):.0f} ms each; mean (90th percentile), % of size')
    for low, high in BANDS:
        own = rows[(elevations >= low) & (elevations < high)]
        words = [f'{own[:, i].mean():.1f} ({np.percentile(own[:, i], 90):.1f})' for i in range(4)]
        print(
            f'  {low:2}-{high:2} deg, {len(own):3}: centre {words[0]}, size {words[1]}; against '
            f'the box along the view: centre {words[2]}, size {words[3]}; tilt at most '
            f'{own[:, 4].max():.2f} deg'
        )


def compare_views(count: int, preset: str) -> None:
    """Print the mask IoU of views with the true pose, and with the one that was found."""
    from nvs_ros.geometry import target_from_angles, target_from_pose
    from nvs_ros.scenes.render import render
    from nvs_ros.silhouette import mask_iou
    from nvs_ros.synthesizer import Synthesizer

    synthesizer = Synthesizer.from_pretrained('embedded')
    settings = synthesizer.preset(preset)
    for faults in (False, True):
        found: dict[str, list[list[float]]] = {'true pose': [], 'found': []}
        for mesh, _, scene in scenes(count, faults):
            frame = scene.frame
            place = place_from_mask(frame.mask >= 128, frame.camera, frame.depth_m)
            own = dataclasses.replace(
                frame,
                object_from_camera=inverse(place.camera_from_object),
                object_size_m=place.size_m,
            )
            true = synthesizer.observe([frame])
            # The same cameras in space, whatever pose the views are made with.
            asked = [target_from_angles(true.source, math.radians(a), 0.0) for a in AZIMUTHS_DEG]
            scaled = mesh.transformed(frame.object_size_m * np.eye(3))
            truth = [
                render(scaled, t.object_from_camera, t.camera.matrix, *t.camera.size).mask
                for t in asked
            ]
            observation = synthesizer.observe([own])
            moved = inverse(frame.object_from_camera @ place.camera_from_object)
            targets = [
                target_from_pose(observation.source, t.camera, moved @ t.object_from_camera)
                for t in asked
            ]
            for name, *given in (('true pose', true, asked), ('found', observation, targets)):
                views = synthesizer.synthesize(*given, settings, seed=0)
                ious = [mask_iou(v.mask, t) for v, t in zip(views, truth, strict=True)]
                found[name].append(ious)
        base, made = (np.array(values) for values in found.values())
        change = (made - base).mean(1)
        interval = 1.96 * change.std(ddof=1) / math.sqrt(len(change))
        print(
            f'{"sensor" if faults else "ideal"}, {count} objects, {preset}: mask IoU at '
            f'{AZIMUTHS_DEG} degrees {base.mean():.3f} {base.mean(0).round(3)} with the true pose, '
            f'{made.mean():.3f} {made.mean(0).round(3)} with the one found: '
            f'{change.mean():+.3f} +- {interval:.3f}',
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--objects', type=int, default=240)
    parser.add_argument('--views', action='store_true', help='mask IoU of views instead of errors')
    parser.add_argument('--preset', default='fast')
    arguments = parser.parse_args()
    if arguments.views:
        compare_views(arguments.objects, arguments.preset)
        return
    for faults in (False, True):
        for reference in (False, True):
            measure(arguments.objects, faults, reference)


if __name__ == '__main__':
    main()
