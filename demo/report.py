"""What the demo leaves: pictures, a bag, a contact sheet, and figures against the truth."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from rclpy.time import Time
from truth import Score, Truth, mean, read_truths, score, truth_at

from nvs_interfaces.msg import NovelView, NovelViewArray
from nvs_ros.bag.reader import Bag
from nvs_ros.bag.writer import BagWriter, write_view, write_views
from nvs_ros.contact_sheet import contact_sheet
from nvs_ros.geometry import CanonicalView, canonical_view, inverse
from nvs_ros.image_files import save_view
from nvs_ros.messages.cameras import camera_from_message, rigid_from_pose
from nvs_ros.messages.images import array_from_image, depth_from_image
from nvs_ros.messages.view_maker import view_name
from nvs_ros.messages.views import measured_share, told_apart_picture

VIEWS, BAG, SHEET = 'views', 'views.mcap', 'contact_sheet.png'
CELL = 176
"""Side of a picture on the contact sheet, pixels."""


class Comparison(NamedTuple):
    """A view beside the truth."""

    view: NovelView
    image: np.ndarray
    true_image: np.ndarray
    score: Score
    copy_score: Score
    """Of the source picture in place of the view."""
    measured_share: float
    """Of the object in the view, 0 ... 1."""


class Source(NamedTuple):
    """What the views were made from: as in the bag, and as the model sees it."""

    image: np.ndarray
    depth_m: np.ndarray
    canonical: CanonicalView


def object_from_view(view: NovelView) -> np.ndarray:
    """Pose of a view's camera in the frame of the object, (4, 4)."""
    frame_from_object = rigid_from_pose(view.object_pose, 'object_pose')
    return inverse(frame_from_object) @ rigid_from_pose(view.camera_pose, 'camera_pose')


def is_at_rest(message: NovelViewArray) -> bool:
    """Whether the views are of a frame for which there is truth."""
    truths = read_truths()
    return all(truth_at(object_from_view(view), truths) for view in message.views)


def remove_results(output: Path) -> None:
    """Take away what an earlier run left, so that nothing old is taken for new."""
    shutil.rmtree(output / VIEWS, ignore_errors=True)
    for name in (BAG, SHEET):
        (output / name).unlink(missing_ok=True)


def report(bag: Path, views: NovelViewArray, requested: NovelView, output: Path) -> None:
    """Write everything and print what was written and how true it is."""
    source = _source(bag, views.views[0])
    truths = read_truths()
    compared = [_compare(view, source.canonical, truths) for view in (*views.views, requested)]
    _write_views([c.view for c in compared], output / VIEWS)
    _write_bag(views, requested, output / BAG)
    _write_sheet(source, compared, output / SHEET)
    _print_table(compared[:-1])
    print(f'made by {requested.model_id} with preset {requested.preset}:')
    print(f'  {output / SHEET}  views, what of them was measured, and the truth')
    print(f'  {output / VIEWS}  {len(compared)} pictures')
    print(f'  {output / BAG}  the same as messages, with camera_info')


def _source(bag: Path, view: NovelView) -> Source:
    """The measured frame that a view was made from."""
    stamp = view.source_header.stamp
    with Bag(bag) as messages:
        frame = {t: m for t, _, m in messages.messages() if m.header.stamp == stamp}
    image = array_from_image(frame['/image'])
    canonical = canonical_view(
        image,
        array_from_image(frame['/mask']),
        camera_from_message(frame['/camera_info']),
        inverse(rigid_from_pose(frame['/object_pose'].pose, 'object_pose')),
        object_size_m=view.object_size_m,
        image_size=view.image.width,
    )
    return Source(image, depth_from_image(frame['/depth']), canonical)


def _compare(view: NovelView, source: CanonicalView, truths: list[Truth]) -> Comparison:
    pose, camera = object_from_view(view), camera_from_message(view.camera_info)
    true_image, true_mask = truth_at(pose, truths).seen_by(camera, pose)
    image, mask = array_from_image(view.image), array_from_image(view.mask)
    return Comparison(
        view,
        image,
        true_image,
        score(image, mask, true_image, true_mask),
        score(source.image, source.mask, true_image, true_mask),
        measured_share(view),
    )


def _angles_deg(view: NovelView) -> tuple[int, int]:
    """Azimuth 0 .. 359 and elevation, relative to the source camera."""
    return round(math.degrees(view.azimuth_rad)) % 360, round(math.degrees(view.elevation_rad))


def _name(view: NovelView) -> str:
    azimuth, elevation = _angles_deg(view)
    return f'{azimuth} deg, {elevation:+} up' if elevation else f'{azimuth} deg'


def _write_views(views: list[NovelView], folder: Path) -> None:
    folder.mkdir()
    for view in views:
        azimuth, elevation = _angles_deg(view)
        file = folder / f'azimuth_{azimuth:03}_elevation_{elevation:+03}.png'
        stamp = view.source_header.stamp
        provenance = {
            'model': view.model_id,
            'preset': view.preset,
            'seed': view.seed,
            'source_stamp': f'{stamp.sec}.{stamp.nanosec:09d}',
            'azimuth_deg': azimuth,
            'elevation_deg': elevation,
            'measured_share': f'{measured_share(view):.3f}',
        }
        save_view(array_from_image(view.image), file, provenance)


def _write_bag(views: NovelViewArray, requested: NovelView, file: Path) -> None:
    """The node's topics, and those of the requested view in the same manner."""
    with BagWriter(file) as writer:
        names = list(map(view_name, range(len(views.views))))
        write_views(writer, Time.from_msg(views.header.stamp).nanoseconds, views, names)
        stamp_ns = Time.from_msg(requested.header.stamp).nanoseconds
        write_view(writer, stamp_ns, 'requested', requested)


def _write_sheet(source: Source, compared: list[Comparison], file: Path) -> None:
    """The views, what of them was measured, and the truth; at the left what the camera took."""
    names = [_name(c.view) for c in compared]
    apart, shares = zip(*(told_apart_picture(c.view, CELL) for c in compared), strict=True)
    rows = [
        [source.image, *(c.image for c in compared)],
        [_depth_picture(source.depth_m), *apart],
        [source.canonical.image, *(c.true_image for c in compared)],
    ]
    captions = [
        ['camera image', *(f'view {name}' for name in names)],
        ['camera depth', *shares],
        ['camera image, cut out', *(f'truth {name}' for name in names)],
    ]
    content = (
        'measured image and depth at the left; synthesised views above, truth below, between them '
        'the views with measured pixels in colour and imagined ones grey and striped'
    )
    save_view(contact_sheet(rows, captions, CELL), file, {'content': content})


def _depth_picture(depth_m: np.ndarray) -> np.ndarray:
    """Depth as colours (RGB) from near, red, to far, blue; black where there is none."""
    known = np.isfinite(depth_m)
    near, far = depth_m[known].min(), depth_m[known].max()
    levels = np.where(known, 255 * (far - depth_m) / (far - near), 0).astype(np.uint8)
    colors = cv2.applyColorMap(levels, cv2.COLORMAP_TURBO)[..., ::-1]
    return np.where(known[..., None], colors, 0).astype(np.uint8)


def _print_table(compared: list[Comparison]) -> None:
    print('\n               views              copy of the source')
    print('azimuth   mask IoU  PSNR [dB]   mask IoU  PSNR [dB]   measured')
    lines = [(_name(c.view), c.score, c.copy_score, c.measured_share) for c in compared]
    _, views, copies, shares = zip(*lines, strict=True)
    lines.append(('mean', mean(views), mean(copies), float(np.mean(shares))))
    for name, view, copy, share in lines:
        print(
            f'{name:>7}   {view.iou:8.3f}  {view.psnr_db:9.2f}   {copy.iou:8.3f}  '
            f'{copy.psnr_db:9.2f}   {share:8.0%}'
        )
    print()
