"""Photographs and masks as people have them."""

import json
import warnings

import numpy as np
import pytest
from PIL import Image

from nvs_ros.errors import UserError
from nvs_ros.pictures import read_photograph, save_view

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
