import numpy as np
import pytest

from nvs_ros.computer.timing import config_hash, duration_figures, stream_figures


def test_a_stream_is_described_by_what_came():
    """Four of five frames, 10 Hz, but for one that came 20 ms late."""
    sent = [0.0, 0.1, 0.2, 0.3, 0.4]
    received = [0.05, 0.15, None, 0.35, 0.47]
    figures = stream_figures(sent, received)
    assert (figures['frames_sent'], figures['frames_received'], figures['missed_frames']) == (
        5,
        4,
        1,
    )
    assert figures['mean_rate_hz'] == pytest.approx(3 / 0.42)
    assert figures['jitter_max_ms'] == pytest.approx(100)
    assert figures['jitter_mean_ms'] == pytest.approx((100 + 80) / 2)
    assert figures['latency_p50_ms'] == pytest.approx(50)
    assert figures['latency_max_ms'] == pytest.approx(70)
    assert figures['latency_mean_ms'] == pytest.approx(55)


@pytest.mark.parametrize('received', [[], [None], [0.2]])
def test_what_too_few_frames_cannot_tell_is_left_out(received):
    figures = stream_figures([0.1] * len(received), received)
    assert not any(name.startswith(('mean_rate', 'jitter')) for name in figures)
    assert ('latency_p50_ms' in figures) == (received == [0.2])


def test_times_must_fit():
    with pytest.raises(ValueError, match='2 times of arrival, got 1'):
        stream_figures([0.0, 0.1], [0.2])


def test_percentiles():
    figures = duration_figures(np.arange(101) / 1000, 'view')
    assert figures['view_p50_ms'] == pytest.approx(50)
    assert figures['view_p90_ms'] == pytest.approx(90)
    assert figures['view_min_ms'] == 0 and figures['view_max_ms'] == pytest.approx(100)


def test_a_configuration_has_a_hash():
    assert config_hash({'a': 1, 'b': (2, 3)}) == config_hash({'b': (2, 3), 'a': 1})
    assert config_hash({'a': 1}) != config_hash({'a': 2})
