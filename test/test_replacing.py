"""Files that are there whole or not at all."""

import pytest

from nvs_ros.replacing import replacing


def test_two_writers_of_one_file_do_not_disturb_each_other(tmp_path):
    file = tmp_path / 'mesh.txt'
    with replacing(file) as first:
        first.write_text('first')
        with replacing(file) as second:
            second.write_text('second')
        assert file.read_text() == 'second'
    assert file.read_text() == 'first'
    assert list(tmp_path.iterdir()) == [file]


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path):
    file = tmp_path / 'mesh.txt'
    file.write_text('old')
    with pytest.raises(OSError, match='disk full'), replacing(file) as partial:
        partial.write_text('half')
        raise OSError('disk full')
    assert file.read_text() == 'old'
    assert list(tmp_path.iterdir()) == [file]
