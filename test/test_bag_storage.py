"""Bags as people have them: what can be read is read, and what is lost is said."""

import re
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip('rclpy')

from mcap_bytes import McapBytes
from rosbags import rosbag1
from rosbags.interfaces import (
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from nvs_ros.bag.reader import Bag, IncompleteBag, recorded_topics
from nvs_ros.bag.transforms import recorded_transforms
from nvs_ros.cli import main
from nvs_ros.errors import UserError

TYPES = get_typestore(Stores.ROS2_HUMBLE)
ROS1 = get_typestore(Stores.ROS1_NOETIC)
STRING = TYPES.types['std_msgs/msg/String']
NEVER = QosTime(0, 0)
QOS = Qos(
    QosHistory.KEEP_LAST,
    10,
    QosReliability.RELIABLE,
    QosDurability.TRANSIENT_LOCAL,
    NEVER,
    NEVER,
    QosLiveliness.AUTOMATIC,
    NEVER,
    False,
)
PLUGINS = {'mcap': StoragePlugin.MCAP, 'db3': StoragePlugin.SQLITE3}
NUMBER = 4


def cdr(value):
    return bytes(TYPES.serialize_cdr(STRING(value), 'std_msgs/msg/String'))


def write(folder, plugin='mcap', topic='/word', first=0, qos=(), compression=None, declared=()):
    """Four messages, 0 to 3, a second apart; return the folder."""
    writer = Writer(folder, version=8, storage_plugin=PLUGINS[plugin])
    if compression:
        writer.set_compression(compression, CompressionFormat.ZSTD)
    with writer:
        for name, kind in declared:
            writer.add_connection(name, kind, typestore=TYPES)
        connection = writer.add_connection(
            topic, 'std_msgs/msg/String', typestore=TYPES, offered_qos_profiles=list(qos)
        )
        for i in range(first, first + NUMBER):
            writer.write(connection, 10**9 * (i + 1), cdr(str(i)))
    return folder


def metadata(folder, pattern, replacement):
    """Change ``metadata.yaml``; it is there to be changed."""
    file = folder / 'metadata.yaml'
    changed, count = re.subn(pattern, replacement, file.read_text(), flags=re.DOTALL)
    assert count
    file.write_text(changed)


def words(path, topic='/word', topics=()):
    with Bag(path, topics) as bag:
        read = [message.data for name, _, message in bag.messages() if name == topic]
        assert bag.shortfall() == ''
        assert bag.topics[topic].count == len(read)
    return read


WORDS = [str(i) for i in range(NUMBER)]


@pytest.mark.parametrize('kind', ['mcap', 'unclosed mcap', 'db3', 'ROS 1', 'several files'])
def test_reading_begins_where_it_is_asked_to(kind, tmp_path):
    """With the same messages in the same order as reading everything."""
    if kind == 'ROS 1':
        path = tmp_path / 'x.bag'
        with rosbag1.Writer(path) as writer:
            connection = writer.add_connection('/word', 'std_msgs/msg/String', typestore=ROS1)
            string = ROS1.types['std_msgs/msg/String']
            for i in range(NUMBER):
                data = ROS1.serialize_ros1(string(str(i)), 'std_msgs/msg/String')
                writer.write(connection, 10**9 * (i + 1), data)
    elif kind == 'several files':
        path = tmp_path / 'x'
        path.mkdir()
        for i in range(2):
            shutil.copy(write(tmp_path / str(i), first=2 * i) / f'{i}.mcap', path)
    else:
        path = write(tmp_path / 'x', kind.split()[-1])
        if kind == 'unclosed mcap':
            file = path / 'x.mcap'
            path = tmp_path / 'cut.mcap'
            path.write_bytes(file.read_bytes()[:-40])
    with Bag(path) as bag:
        everything = [record[:3] for record in bag.records()]
        assert len(everything) >= NUMBER
        for since_ns in (0, 10**9, 2 * 10**9, 2 * 10**9 + 1, 10**11):
            expected = [record for record in everything if record[1] >= since_ns]
            assert [record[:3] for record in bag.records(since_ns)] == expected


@pytest.mark.parametrize('plugin', PLUGINS)
@pytest.mark.parametrize('changed', ['in metadata.yaml', 'in the file'])
def test_a_qos_that_differs_between_metadata_and_file_loses_nothing(plugin, changed, tmp_path):
    folder = write(tmp_path / 'x', plugin, qos=[QOS])
    if changed == 'in metadata.yaml':
        metadata(folder, r'offered_qos_profiles: .*?(?=\n +type_desc)', 'offered_qos_profiles: ""')
    else:
        other = write(tmp_path / 'other' / 'x', plugin)
        shutil.copy(other / f'x.{plugin}', folder)
    assert words(folder) == WORDS
    with Bag(folder) as bag:
        assert bag.topics['/word'].latched


@pytest.mark.parametrize('plugin', PLUGINS)
def test_what_the_bag_promises_and_does_not_hold_is_counted(plugin, tmp_path, capfd):
    """Everything that is there is published, and then the command fails."""
    folder = write(tmp_path / 'x', plugin)
    metadata(folder, 'message_count: 4', 'message_count: 9')
    read = []
    with Bag(folder) as bag, pytest.raises(IncompleteBag, match='5 of 9 messages on /word'):
        for _, _, message in bag.messages():
            read.append(message.data)
    assert read == WORDS
    assert main(['replay', str(folder), '--wait', '0', '--rate', '1000']) == 2
    output = capfd.readouterr().err
    assert '4/9' in output
    assert '5 of 9 messages on /word' in output
    # A file that holds more than metadata.yaml says is whole.
    metadata(folder, 'message_count: 9', 'message_count: 1')
    assert words(folder) == WORDS


def broken(folder):
    """The messages with the bytes of the second cut, as a transport that lost some leaves them."""
    write(folder, 'db3')
    with sqlite3.connect(folder / 'x.db3') as database:
        database.execute('UPDATE messages SET data = substr(data, 1, 6) WHERE id = 2')
    database.close()
    return folder


def test_a_message_that_cannot_be_decoded_costs_no_other_and_is_told(tmp_path, capfd):
    folder, read = broken(tmp_path / 'x'), []
    complaint = '1 of 4 messages on /word cannot be decoded, the first: '
    with Bag(folder) as bag:
        for _ in range(2):
            with pytest.raises(IncompleteBag, match=complaint) as caught:
                for _, _, message in bag.messages():
                    read.append(message.data)
    assert read == ['0', '2', '3'] * 2
    assert '\n' not in str(caught.value)
    assert main(['replay', str(folder), '--wait', '0', '--rate', '1000']) == 2
    output = capfd.readouterr().err
    assert '3/4' in output
    assert complaint in output


def test_a_topic_of_which_the_files_hold_nothing_is_named(tmp_path):
    folder = write(tmp_path / 'x')
    metadata(folder, 'name: /word', 'name: /other')
    assert words(folder) == WORDS
    with Bag(folder) as bag:
        assert 'promises 4 messages on /other, its files hold none' in '; '.join(bag.notes)
    with pytest.raises(UserError, match='promises 4 messages on /other'):
        Bag(folder, ['/other'])


def standard(recording, topic='/word'):
    definition, _ = TYPES.generate_msgdef('std_msgs/msg/String')
    pairs = [(10**9 * (i + 1), cdr(word)) for i, word in enumerate(WORDS)]
    return recording.add(topic, 'std_msgs/msg/String', 'ros2msg', definition, 'cdr', pairs)


# Type, encoding of its definition, the definition, encoding of the message, a message, complaint.
FOREIGN = {
    'json': ('Imu', 'jsonschema', '{}', 'json', b'{}', "serialised as 'json'"),
    'protobuf': (
        'foxglove.SceneUpdate',
        'protobuf',
        bytes(range(256)),
        'protobuf',
        b'\n\xff',
        "serialised as 'protobuf'",
    ),
    'service events': (
        'example_interfaces/srv/AddTwoInts_Event',
        'ros2msg',
        'int64 a\n---\nint64 sum\n',
        'cdr',
        bytes(64),
        'AddTwoInts_Event of /odd is not installed',
    ),
    'no type': ('', '', '', 'cdr', bytes(8), r'type \(none\) of /odd'),
    'a private type': ('my_msgs/msg/Odd', 'unknown', '', 'cdr', bytes(8), 'my_msgs/msg/Odd of'),
    'an odd definition': (
        'std_msgs/msg/Int32',
        'ros2msg',
        'int32[<=3\n---\n?',
        'cdr',
        bytes(8),
        'definition of std_msgs/msg/Int32 of /odd',
    ),
    'an odd IDL': (
        'std_msgs/msg/Int32',
        'ros2idl',
        'module std_msgs { module msg { struct Int32 { map<string, long> m; }; }; };',
        'cdr',
        bytes(8),
        'definition of std_msgs/msg/Int32 of /odd',
    ),
    'a binary definition': (
        'std_msgs/msg/Int32',
        'ros2msg',
        b'\xff\xfe',
        'cdr',
        bytes(8),
        'definition of std_msgs/msg/Int32 of /odd',
    ),
}


@pytest.mark.parametrize('kind', FOREIGN)
@pytest.mark.parametrize('form', ['loose', 'chunked'])
def test_a_foreign_topic_spoils_nothing_and_is_named(kind, form, tmp_path):
    name, encoding, definition, serialization, data, complaint = FOREIGN[kind]
    recording = McapBytes()
    recording.add('/odd', name, encoding, definition, serialization, [(1, data)], qos='{[')
    path = tmp_path / 'x.mcap'
    path.write_bytes(getattr(standard(recording), form)())
    assert words(path, topics=['/word']) == WORDS
    assert words(path) == WORDS
    with Bag(path) as bag:
        assert list(bag.topics) == ['/word']
        assert re.search(complaint, bag.left_out['/odd'])
    with pytest.raises(UserError, match=complaint) as caught:
        Bag(path, ['/odd'])
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize(('encoding', 'text'), [('unknown', ''), ('ros2msg', '---\n---')])
def test_a_foreign_topic_spoils_no_sqlite3_either(encoding, text, tmp_path):
    folder = write(tmp_path / 'x', 'db3')
    with sqlite3.connect(folder / 'x.db3') as database:
        add = 'INSERT INTO {} VALUES ({})'
        database.execute(
            add.format('topics', '9, "/odd", "my_msgs/srv/Odd_Event", "cdr", "{[", ""')
        )
        database.execute(
            add.format('message_definitions', '9, "my_msgs/srv/Odd_Event", ?, ?, ""'),
            (encoding, text),
        )
        database.execute(add.format('messages', '99, 9, 1, "x"'))
    database.close()
    assert words(folder / 'x.db3') == WORDS
    assert words(folder) == WORDS


def test_a_format_of_another_topic_spoils_no_folder(tmp_path):
    folder = write(tmp_path / 'x', declared=[('/odd', 'std_msgs/msg/Empty')])
    metadata(folder, 'serialization_format: cdr(?=.*name: /word)', 'serialization_format: json')
    assert words(folder) == WORDS


def test_a_replay_of_all_leaves_the_foreign_topic_out_and_says_so(tmp_path, capfd):
    path = tmp_path / 'x.mcap'
    recording = McapBytes().add('/odd', 'Imu', 'jsonschema', '{}', 'json', [(1, b'{}')])
    path.write_bytes(standard(recording).loose())
    assert main(['replay', str(path), '--wait', '0', '--rate', '1000']) == 0
    assert "the messages of /odd are serialised as 'json'" in capfd.readouterr().out


def test_topics_without_a_leading_slash_are_the_same_topics(tmp_path):
    with rosbag1.Writer(tmp_path / 'x.bag') as writer:
        for i, topic in enumerate(('word', '/word')):
            connection = writer.add_connection(topic, 'std_msgs/msg/String', typestore=ROS1)
            data = ROS1.serialize_ros1(
                ROS1.types['std_msgs/msg/String'](str(i)), STRING.__msgtype__
            )
            writer.write(connection, i + 1, data)
    write(tmp_path / 'x', topic='word')
    for asked in ([], ['word'], ['/word'], ['//word/']):
        assert words(tmp_path / 'x.bag', topics=asked) == ['0', '1']
        assert words(tmp_path / 'x', topics=asked) == WORDS
    assert recorded_topics(tmp_path / 'x.bag') == {'/word'}


def test_declared_is_not_recorded(tmp_path):
    """A bag whose /tf has no message has no transforms, which may be none too few."""
    declared = [('/tf', 'tf2_msgs/msg/TFMessage'), ('/tf_static', 'tf2_msgs/msg/TFMessage')]
    folder = write(tmp_path / 'x', declared=declared)
    assert recorded_topics(folder) == {'/word'}
    problems = []
    assert list(recorded_transforms(folder, problems.append)) == []
    assert not problems
    with pytest.raises(UserError, match='has no messages on topic /tf; it has /word'):
        Bag(folder, ['/tf'])


def test_transforms_that_cannot_be_read_are_told(tmp_path):
    problems = []
    folder = write(tmp_path / 'x', topic='/tf')
    assert list(recorded_transforms(folder, problems.append)) == []
    assert problems == ['expected tf2_msgs/msg/TFMessage on /tf, got std_msgs/msg/String']


def split(folder):
    """Two files of which the first by name is recorded last."""
    for name, first in (('b', 0), ('a', NUMBER)):
        part = write(folder.parent / name, 'db3', first=first)
        folder.mkdir(exist_ok=True)
        shutil.move(part / f'{name}.db3', folder)
        shutil.copy(part / 'metadata.yaml', folder)
    return folder


def test_split_bags(tmp_path):
    folder = split(tmp_path / 'x')
    # metadata.yaml is that of the second alone
    assert words(folder) == ['4', '5', '6', '7']
    with Bag(folder) as bag:
        assert bag.notes == ['metadata.yaml does not name b.db3: left out']
    metadata(folder, '- a.db3', '- b.db3\n  - a.db3')
    metadata(folder, 'message_count: 4', 'message_count: 8')
    assert words(folder) == [str(i) for i in range(8)]
    (folder / 'metadata.yaml').rename(tmp_path / 'metadata.yaml')
    assert words(folder) == [str(i) for i in range(8)]
    (tmp_path / 'metadata.yaml').rename(folder / 'metadata.yaml')
    (folder / 'b.db3').write_bytes(b'no database' * 100)
    with pytest.raises(UserError, match='cannot read .*b.db3: file is not a database'):
        Bag(folder)
    (folder / 'b.db3').unlink()
    with pytest.raises(UserError, match='metadata.yaml names b.db3, which is not there'):
        Bag(folder)


@pytest.mark.parametrize('plugin', PLUGINS)
def test_files_of_a_split_bag_that_overlap_in_time_come_in_order(plugin, tmp_path):
    """The third lies within the first, the second begins last."""
    folder = write(tmp_path / 'x', plugin)
    for name, first in (('y', 9), ('z', 1)):
        shutil.move(write(tmp_path / name, plugin, first=first) / f'{name}.{plugin}', folder)
    metadata(folder, f'- x.{plugin}', f'- x.{plugin}\n  - y.{plugin}\n  - z.{plugin}')
    expected = ['0', '1', '1', '2', '2', '3', '3', '4', '9', '10', '11', '12']
    assert words(folder) == expected
    (folder / 'metadata.yaml').unlink()
    assert words(folder) == expected


@pytest.mark.parametrize('plugin', PLUGINS)
@pytest.mark.parametrize('mode', [CompressionMode.FILE, CompressionMode.MESSAGE])
def test_compressed_bags(plugin, mode, tmp_path):
    folder = write(tmp_path / 'x', plugin, compression=mode)
    assert words(folder) == WORDS
    (file,) = (file for file in folder.iterdir() if file.name != 'metadata.yaml')
    assert words(file) == WORDS
    (folder / 'metadata.yaml').unlink()
    assert words(folder) == WORDS


@pytest.mark.parametrize(
    'text', ['', '[1, 2]', 'rosbag2_bagfile_information: 3', '{', 'rosbag2_bagfile_information: {}']
)
def test_a_broken_metadata_is_named(text, tmp_path):
    folder = write(tmp_path / 'x')
    (folder / 'metadata.yaml').write_text(text)
    with pytest.raises(UserError, match=r'cannot read .*metadata\.yaml is not that of a bag') as e:
        Bag(folder)
    assert '\n' not in str(e.value)


def test_messages_that_a_killed_recorder_left_in_the_journal_are_read(tmp_path):
    """sqlite3 keeps the last messages in a file beside, which is merged when it is closed."""
    folder = write(tmp_path / 'x', 'db3')
    code = (
        'import os, sqlite3, sys\n'
        'database = sqlite3.connect(sys.argv[1], isolation_level=None)\n'
        'database.execute("PRAGMA journal_mode=WAL")\n'
        'database.execute("INSERT INTO messages (topic_id, timestamp, data) '
        'SELECT topic_id, timestamp + 4000000000, data FROM messages")\n'
        'os._exit(0)\n'
    )
    subprocess.run([sys.executable, '-c', code, folder / 'x.db3'], check=True)
    assert (folder / 'x.db3-wal').stat().st_size
    assert words(folder / 'x.db3') == WORDS + WORDS
    assert words(folder) == WORDS + WORDS


@pytest.mark.parametrize('options', [{}, {'statistics': False}, {'counts': False}])
def test_chunks_without_an_index_of_their_messages(options, tmp_path):
    path = tmp_path / 'x.mcap'
    path.write_bytes(standard(McapBytes()).chunked(**options))
    assert words(path) == WORDS
    assert words(path, topics=['/word']) == WORDS


@pytest.mark.parametrize('profile', ['', 'ros2', 'other'])
def test_the_profile_of_a_file_says_nothing_about_its_topics(profile, tmp_path):
    path = tmp_path / 'x.mcap'
    path.write_bytes(standard(McapBytes(profile)).loose())
    assert words(path) == WORDS


def test_messages_of_ros1_in_mcap(tmp_path):
    data = bytes(ROS1.serialize_ros1(ROS1.types['std_msgs/msg/String']('old'), STRING.__msgtype__))
    recording = McapBytes('ros1')
    recording.add('/old', 'std_msgs/String', 'ros1msg', 'string data', 'ros1', [(1, data)])
    path = tmp_path / 'x.mcap'
    path.write_bytes(recording.loose())
    assert words(path, '/old') == ['old']


def test_a_file_that_was_not_closed_is_read_as_far_as_it_is_whole(tmp_path, capfd):
    path = tmp_path / 'x.mcap'
    whole = standard(McapBytes()).loose(is_closed=False)
    for end, number in ((len(whole), 4), (len(whole) - 1, 3), (len(whole) - 40, 3)):
        path.write_bytes(whole[:end])
        read = []
        with Bag(path) as bag, pytest.raises(IncompleteBag, match='not closed, its end is lost'):
            for _, _, message in bag.messages():
                read.append(message.data)
        assert read == WORDS[:number]
    assert main(['replay', str(path), '--wait', '0', '--rate', '1000']) == 2
    assert 'its end is lost' in capfd.readouterr().err


def test_damage_in_one_chunk_is_told_from_the_messages_before(tmp_path):
    content = standard(McapBytes()).chunked()
    at = content.index(cdr('2'))
    path = tmp_path / 'x.mcap'
    path.write_bytes(content[: at - 30] + b'\xff' * 8 + content[at - 22 :])
    read = []
    with Bag(path) as bag, pytest.raises(UserError, match='cannot read'):
        for _, _, message in bag.messages():
            read.append(message.data)
    assert read == ['0', '1']


def test_odd_names_of_files(tmp_path):
    folder = write(tmp_path / 'x', 'db3')
    odd = Path(shutil.copy(folder / 'x.db3', tmp_path / 'a #1? 50%.db3'))
    assert words(odd) == WORDS
