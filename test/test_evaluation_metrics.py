import numpy as np
import pytest

from nvs_ros.evaluation.metrics import (
    foreground_psnr,
    mask_iou,
    measure,
    psnr,
    ssim,
)


def test_psnr_of_a_known_error():
    black, grey = np.zeros((4, 4, 3), np.uint8), np.full((4, 4, 3), 51, np.uint8)
    assert psnr(black, grey) == pytest.approx(20 * np.log10(255 / 51))
    assert psnr(black, black) == np.inf
    with pytest.raises(ValueError, match='one shape'):
        psnr(black, grey[:2])


def test_foreground_psnr_looks_at_the_object_alone():
    truth = np.full((4, 4, 3), 255, np.uint8)
    truth[:2] = 100
    image = truth.copy()
    image[2:] = 0
    mask = np.zeros((4, 4), np.uint8)
    mask[:2] = 255
    assert foreground_psnr(image, truth, mask) == np.inf
    image[:2] = 151
    assert foreground_psnr(image, truth, mask) == pytest.approx(20 * np.log10(255 / 51))


def test_iou_by_hand():
    a, b = np.zeros((2, 4), np.uint8), np.zeros((2, 4), np.uint8)
    a[:, :2], b[:, 1:3] = 255, 255
    assert mask_iou(a, b) == pytest.approx(2 / 6)
    assert mask_iou(a, a) == 1
    assert mask_iou(np.zeros_like(a), np.zeros_like(a)) == 1


def test_ssim_of_flat_pictures_by_formula():
    """Without structure only the luminance term is left: (2ab + c) / (a^2 + b^2 + c)."""
    a, b, c = 100.0, 150.0, (0.01 * 255) ** 2
    pictures = [np.full((16, 16, 3), value, np.uint8) for value in (a, b)]
    assert ssim(*pictures) == pytest.approx((2 * a * b + c) / (a * a + b * b + c))
    assert ssim(pictures[0], pictures[0]) == 1


def test_the_mask_of_a_view_is_read_off_the_picture():
    truth = np.full((16, 16, 3), 255, np.uint8)
    truth[4:12, 4:12] = (200, 30, 30)
    mask = np.where(truth[..., 1] < 255, 255, 0).astype(np.uint8)
    shifted = np.roll(truth, 4, axis=1)
    measured = measure(shifted, truth, mask, None)
    assert set(measured) == {'psnr', 'ssim', 'fg_psnr', 'iou'}
    assert measured['iou'] == pytest.approx(1 / 3)
