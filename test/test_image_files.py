"""Photographs and masks as people have them."""

import io
import json
import warnings

import cv2
import numpy as np
import pytest
from PIL import Image

from nvs_ros.contact_sheet import contact_sheet, told_apart
from nvs_ros.errors import UserError
from nvs_ros.image_files import read_photograph, save_view
from nvs_ros.silhouette import mask_iou

COLOURS = np.zeros((30, 40, 3), np.uint8)
COLOURS[:, :20] = (200, 40, 30)
COVERAGE = np.zeros((30, 40), np.uint8)
COVERAGE[5:15, 10:30] = 255


@pytest.fixture
def read(tmp_path):
    """Writes a photograph, and a mask, and reads them."""

    def write_and_read(picture, mask=COVERAGE, name='photo.png', **options):
        picture.save(tmp_path / name, **options)
        if mask is None:
            return read_photograph(tmp_path / name)
        mask = mask if isinstance(mask, Image.Image) else Image.fromarray(mask)
        mask.save(tmp_path / 'mask.png')
        with warnings.catch_warnings():
            warnings.simplefilter('error')
            return read_photograph(tmp_path / name, tmp_path / 'mask.png')

    return write_and_read


def test_a_photograph_is_turned_as_its_exif_says(read):
    picture = Image.fromarray(COLOURS)
    exif = picture.getexif()
    exif[0x112] = 6  # to be turned clockwise for display
    shown = np.rot90(COVERAGE, -1).copy()
    image, mask = read(picture, shown, 'photo.jpg', exif=exif.tobytes(), quality=95)
    assert image.shape == (40, 30, 3) and np.array_equal(mask, shown)
    assert image[5, 15, 0] > 150 and image[35, 15, 0] < 50  # red was left, is above


def test_grey_of_16_bits_is_not_clipped(read):
    grey = np.full((30, 40), 100 * 257, np.uint16)
    grey[:, 20:] = 200 * 257
    image, _ = read(Image.fromarray(grey))
    assert np.array_equal(np.unique(image), [100, 200])


def test_floating_point_pictures_are_refused(read):
    with pytest.raises(UserError, match='floating-point'):
        read(Image.fromarray(np.ones((30, 40), np.float32)), name='photo.tiff')


@pytest.mark.parametrize('transparency', [1, bytes([255, 0])])
def test_transparent_colours_of_a_palette_are_the_mask(read, transparency):
    picture = Image.fromarray((COVERAGE == 0).astype(np.uint8), 'P')
    picture.putpalette([200, 40, 30, 9, 9, 9])
    image, mask = read(picture, None, transparency=transparency)
    assert np.array_equal(mask, COVERAGE)
    assert (image[COVERAGE > 0] == (200, 40, 30)).all()


@pytest.mark.parametrize('value', [1, 7, 255])
def test_any_single_value_above_zero_is_the_object(read, value):
    _, mask = read(Image.fromarray(COLOURS), COVERAGE // 255 * value)
    assert np.array_equal(mask, COVERAGE)


def test_numbers_of_16_bits_and_colours_are_labels(read):
    labels = (COVERAGE > 0).astype(np.uint16)
    labels[10:15] *= 1000
    assert np.array_equal(read(Image.fromarray(COLOURS), labels)[1], COVERAGE)
    colours = np.zeros((30, 40, 3), np.uint8)
    colours[5:12, 10:30] = (0, 0, 90)
    colours[12:15, 10:30] = (255, 255, 0)
    assert np.array_equal(read(Image.fromarray(COLOURS), colours)[1], COVERAGE)


def test_grey_levels_are_coverage(read):
    soft = COVERAGE.copy()
    soft[5] //= 2
    assert np.array_equal(read(Image.fromarray(COLOURS), soft)[1], soft)


def on_alpha(grey, alpha=COVERAGE):
    """A grey value everywhere and a coverage as its alpha."""
    return Image.merge('LA', [Image.fromarray(np.full_like(COVERAGE, grey)), to_image(alpha)])


def to_image(pixels, mode=None, palette=None):
    picture = Image.fromarray(pixels)
    if palette is not None:
        picture = Image.frombytes('P', picture.size, pixels.tobytes())
        picture.putpalette(palette)
    return picture if mode is None else picture.convert(mode)


OBJECT = (COVERAGE > 0).astype(np.uint8)
CUT_OUT = to_image(np.dstack([COLOURS, COVERAGE]))


@pytest.mark.parametrize(
    'mask',
    [
        on_alpha(255),
        on_alpha(0),
        on_alpha(255).convert('RGBA'),
        on_alpha(0).convert('RGBA'),
        CUT_OUT,
        on_alpha(90, OBJECT),
        on_alpha(90, OBJECT * 100),
    ],
    ids=['white', 'black', 'white RGB', 'black RGB', 'cut-out', 'alpha 0/1', 'thin alpha'],
)
def test_a_mask_file_may_have_its_shape_in_its_alpha(read, mask):
    assert np.array_equal(read(to_image(COLOURS), mask)[1], COVERAGE)


@pytest.mark.parametrize('opaque', [255, 254, 200, 0])
def test_alpha_that_is_the_same_everywhere_is_not_a_mask_files_shape(read, opaque):
    mask = Image.merge('LA', [to_image(COVERAGE), to_image(np.full_like(COVERAGE, opaque))])
    assert np.array_equal(read(to_image(COLOURS), mask)[1], COVERAGE)
    assert np.array_equal(read(to_image(COLOURS), mask.convert('RGBA'))[1], COVERAGE)


@pytest.mark.parametrize('mode', ['LA', 'RGBA'])
@pytest.mark.parametrize('alpha', [255, 254, 128, 0])
def test_alpha_that_is_the_same_everywhere_is_not_a_photographs_object(read, alpha, mode):
    picture = to_image(COLOURS, mode)
    picture.putalpha(alpha)
    with pytest.raises(UserError, match='has no alpha channel .*--mask FILE'):
        read(picture, None)
    image, mask = read(picture)
    assert np.array_equal(mask, COVERAGE) and image.std() > 20


def test_alpha_that_is_solid_everywhere_is_not_a_photographs_object(read):
    alpha = np.full_like(COVERAGE, 255)
    alpha[:3] = 250
    with pytest.raises(UserError, match='has no alpha channel'):
        read(to_image(np.dstack([COLOURS, alpha])), None)


@pytest.mark.parametrize('mode', ['LAB', 'CMYK', 'YCbCr', 'RGBX'])
def test_a_colour_is_not_taken_for_alpha(read, mode):
    """LAB has a band that is called A."""
    picture = to_image(COLOURS, mode)
    with pytest.raises(UserError, match='has no alpha channel'):
        read(picture, None, 'photo.tiff')
    image, _ = read(picture, name='photo.tiff')
    assert np.abs(image.astype(int) - COLOURS).max() <= 6


def test_sixteen_bits_with_a_transparent_value_have_alpha(read):
    grey = np.where(COVERAGE > 0, 100 * 257, 7).astype(np.uint16)
    image, mask = read(to_image(grey), None, transparency=7)
    assert np.array_equal(mask, COVERAGE) and image[10, 20].tolist() == [100] * 3


TAB10 = [31, 119, 180, 255, 127, 14]


@pytest.mark.parametrize(
    'palette',
    [TAB10, [0, 0, 0, 128, 0, 0], [255, 255, 255, 0, 0, 0], [9, 9, 9, 0, 0, 0], TAB10[::-1] * 9],
    ids=['tab10', 'VOC', 'black on white', 'black on grey', 'long'],
)
def test_index_0_of_a_palette_is_the_background(read, palette):
    mask = to_image(OBJECT, palette=palette)
    assert np.array_equal(read(to_image(COLOURS), mask)[1], COVERAGE)
    mask = to_image(OBJECT * np.arange(1, 3).repeat(20).astype(np.uint8), palette=palette + TAB10)
    assert np.array_equal(read(to_image(COLOURS), mask)[1], COVERAGE)


@pytest.mark.parametrize('colour', [(255, 255, 255), (255, 0, 0), (0, 0, 90)])
def test_black_is_the_background_of_colours_that_were_reduced(read, colour):
    """Which puts the brightest first."""
    picture = (OBJECT[..., None] * np.array(colour)).astype(np.uint8)
    mask = to_image(picture).quantize(2)
    assert mask.getpalette()[:3] == list(colour)
    assert np.array_equal(read(to_image(COLOURS), mask)[1], COVERAGE)


def test_grey_levels_of_a_palette_are_coverage(read):
    soft = COVERAGE.copy()
    soft[5] //= 3
    mask = to_image(soft, palette=np.arange(256).repeat(3).tolist())
    assert np.array_equal(read(to_image(COLOURS), mask)[1], soft)


def test_a_transparent_colour_of_a_mask_is_the_background(read, tmp_path):
    to_image(OBJECT, palette=[255] * 6).save(tmp_path / 'mask.png', transparency=0)
    to_image(COLOURS).save(tmp_path / 'photo.png')
    _, mask = read_photograph(tmp_path / 'photo.png', tmp_path / 'mask.png')
    assert np.array_equal(mask, COVERAGE)


def iou_of_an_ellipse(tmp_path, colour, save):
    solid = cv2.ellipse(np.zeros((240, 320), np.uint8), (160, 120), (70, 50), 20, 0, 360, 1, -1)
    save(to_image(solid[..., None] * np.array(colour, np.uint8)))
    to_image(np.zeros((240, 320, 3), np.uint8)).save(tmp_path / 'photo.png')
    (file,) = tmp_path.glob('mask.*')
    _, mask = read_photograph(tmp_path / 'photo.png', file)
    return mask_iou(mask, solid * 255)


@pytest.mark.parametrize('colour', [(255, 0, 0), (0, 0, 128), (90, 40, 0), (60, 60, 60)])
@pytest.mark.parametrize('ending', ['jpg', 'webp'])
def test_ringing_of_compression_is_cut_at_half(tmp_path, colour, ending):
    file = tmp_path / f'mask.{ending}'
    iou = iou_of_an_ellipse(tmp_path, colour, lambda picture: picture.save(file, quality=60))
    assert iou > 0.97


@pytest.mark.parametrize('colour', [(255, 0, 0), (0, 0, 128), (90, 40, 0)])
def test_what_was_compressed_on_its_way_to_a_file_without_loss_is_cut_at_half(tmp_path, colour):
    def save(picture):
        on_its_way = io.BytesIO()
        picture.save(on_its_way, 'JPEG', quality=75)
        Image.open(on_its_way).save(tmp_path / 'mask.png')

    assert iou_of_an_ellipse(tmp_path, colour, save) > 0.97


def test_floating_point_coverage_and_labels(read, tmp_path):
    to_image(COLOURS).save(tmp_path / 'photo.png')
    values = OBJECT.astype(np.float32)
    values[5] = 0.25
    values[0] = np.nan
    for factor, expected in ((1, 64), (7, 255)):
        to_image(values * factor).save(tmp_path / 'mask.tiff')
        _, mask = read_photograph(tmp_path / 'photo.png', tmp_path / 'mask.tiff')
        assert mask[6, 15] == 255 and mask[5, 15] == expected and mask[0, 15] == 0


def dds(fourcc):
    """A header with a pixel format."""
    numbers = [124, 0x1007, 8, 8, 0, 0, 0, *[0] * 11, 32, 4]
    return b'DDS ' + np.array(numbers, '<u4').tobytes() + fourcc + bytes(64)


@pytest.mark.parametrize('content', [dds(b'ZZZZ'), dds(b'DX10'), b'', b'GIF89a', b'P6 3'])
def test_a_format_that_cannot_be_read_is_one_line(tmp_path, content):
    (tmp_path / 'photo.png').write_bytes(content)
    with pytest.raises(UserError, match=r'photo\.png is not a readable picture: .+'):
        read_photograph(tmp_path / 'photo.png')


def test_too_many_pixels_are_refused(read, monkeypatch):
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 500)
    with pytest.raises(UserError, match='at most 1000 pixels'):
        read(Image.fromarray(COLOURS))


PROVENANCE = {'model': 'embedded', 'seed': 3, 'preset': 'fast', 'source': 'a stamp: 12.5 \u00e9'}


def test_a_saved_view_carries_where_it_is_from(tmp_path):
    expected = {f'nvs_ros:{k}': str(v) for k, v in PROVENANCE.items()}
    expected['nvs_ros:synthetic'] = 'true'
    save_view(COLOURS, tmp_path / 'view.png', PROVENANCE)
    with Image.open(tmp_path / 'view.png') as view:
        assert view.text == expected and np.array_equal(view, COLOURS)
    save_view(COLOURS, tmp_path / 'view.JPG', PROVENANCE)
    with Image.open(tmp_path / 'view.JPG') as view:
        assert view.format == 'JPEG' and json.loads(view.getexif()[0x10E]) == expected


def test_a_view_that_cannot_be_written_is_said_so(tmp_path):
    with pytest.raises(UserError, match='cannot write'):
        save_view(COLOURS, tmp_path / 'no' / 'view.png', {})
    with pytest.raises(UserError, match=r'\.png or \.jpg'):
        save_view(COLOURS, tmp_path / 'view.gif', {})


@pytest.mark.parametrize('size', [32, 64, 160])
def test_only_what_was_measured_has_its_colours(size):
    """An orange square on white, of which the left half was measured."""
    image, mask = np.full((64, 64, 3), 255, np.uint8), np.zeros((64, 64), np.uint8)
    image[16:48, 16:48], mask[16:48, 16:48] = (200, 100, 40), 255
    measured = np.where(np.arange(64) < 32, mask, 0).astype(np.uint8)
    shown = told_apart(image, mask, measured, size)
    assert shown.shape == (size, size, 3)
    eighth, inside = size // 8, slice(size // 4 + 3, 3 * size // 4 - 3)
    left, right = shown[inside, : size // 2 - 3], shown[inside, size // 2 + 3 :]
    assert np.abs(left[:, size // 4 + 3 :] - np.array([200, 100, 40])).max() < 8
    assert np.ptp(right, axis=2).max() == 0
    right = right[:, : size // 4 - 6, 0]
    assert right.max() < 230 and (size < 64 or np.ptp(right) > 30)  # darker than white, and striped
    assert (shown[:eighth] == 255).all()


def test_a_sheet_may_have_empty_places():
    picture = np.zeros((8, 8, 3), np.uint8)
    sheet = contact_sheet([[picture, picture], [None, picture]], [['a', 'b'], ['', 'd']], 32)
    dark = (sheet == 0).all(2)
    assert dark[: len(sheet) // 2, : sheet.shape[1] // 2].sum() == 32**2
    assert not dark[len(sheet) // 2 :, : sheet.shape[1] // 2].any()
