import csv
import io
from zipfile import ZipFile

import numpy as np
import pytest
from PIL import Image

from nvs_ros.errors import UserError
from nvs_ros.scenes.sweethome import (
    CREDIT_COLUMNS,
    Unusable,
    credits,
    load,
    load_catalogues,
    load_pictures,
    usable,
    write_credits,
)

LIST = """
name=Scopia catalog
license=\xa9 somebody

id#1=Scopia#box
name#1=Bill 10\\u20ac
tags#1=Money, Paper
category#1=Kitchen
model#1=/scopia/box/box.obj
width#1=20
depth#1=10
height#1=40
creator#1=Scopia & eTeks
doorOrWindow#1=false

id#2=Scopia#man
name#2=Man
category#2=Characters
model#2=/scopia/box/box.obj
width#2=1
depth#2=1
height#2=1

id#10=Scopia#sheet
name#10=Sheet
category#10=Office
model#10=/scopia/sheet/sheet.obj
width#10=20
depth#10=30
height#10=0.1

id#3=Scopia#lying
name#3=Lying box
category#3=Kitchen
model#3=/scopia/box/box.obj
modelRotation#3=1 0 0 0 0 1 0 -1 0
width#3=20
depth#3=40
height#3=10
"""
CORNERS = [(x, y, z) for z in (0, 1) for y in (0, 2) for x in (0, 1)]
SIDES = [(1, 3, 4, 2), (5, 6, 8, 7), (1, 2, 6, 5), (3, 7, 8, 4), (1, 5, 7, 3), (2, 4, 8, 6)]


def box(height=1.0):
    """A box of 1 x 2 x 1 with y up: front (z = 1) printed, top of glass."""
    text = 'mtllib box.mtl\nvt 0 0\nvt 1 0\nvt 1 1\nvt 0 1\n'
    text += ''.join(f'v {x} {y * height} {z}\n' for x, y, z in CORNERS)
    for number, side in enumerate(SIDES):
        material = {1: 'print', 3: 'glass'}.get(number, 'wood')
        text += f'usemtl {material}\nf ' + ' '.join(f'{c}/{i + 1}' for i, c in enumerate(side))
        text += '\n'
    return text


SOURCE = 'http://www.blendswap.com/blends/view/7'
MATERIALS = """
newmtl print
map_Kd ../print.png
newmtl wood
Kd 0.5 0.25 0
newmtl glass
Kd 0 0 1
d 0.0
"""


@pytest.fixture
def folder(tmp_path):
    picture = np.full((64, 64, 3), (0, 255, 0), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, format='PNG')
    (tmp_path / 'catalogues').mkdir()
    with ZipFile(tmp_path / 'catalogues' / 'Scopia.sh3f', 'w') as archive:
        archive.writestr('PluginFurnitureCatalog.properties', LIST.encode('latin-1'))
        archive.writestr('PluginFurnitureCatalog_fr.properties', 'name#1=Billet')
        archive.writestr('scopia/box/box.obj', box())
        archive.writestr('scopia/box/box.mtl', MATERIALS)
        archive.writestr('scopia/print.png', stream.getvalue())
        archive.writestr('scopia/box/Beside.PNG', stream.getvalue())
        archive.writestr('scopia/sheet/sheet.obj', box(0.001))
        archive.writestr(
            'scopia/box/7 - LICENSE.html', f'<a href="{SOURCE}">Box</a>: Creative Commons Zero'
        )
    return tmp_path / 'catalogues'


def test_catalogues_list_what_they_have_but_people(folder):
    entries = load_catalogues(folder)
    assert [entry.key for entry in entries] == ['Scopia#box', 'Scopia#lying', 'Scopia#sheet']
    first = entries[0]
    assert first.name == 'Bill 10€' and first.tags == ('Money', 'Paper')
    assert first.size_cm == (20, 10, 40) and first.licence == 'CC0-1.0'
    assert first.creator == 'Scopia & eTeks'
    assert len(load_catalogues(folder, excluded=())) == 4
    with pytest.raises(UserError, match='no .*sh3f'):
        load_catalogues(folder / 'nowhere')


def test_meshes_stand_upright_in_the_size_of_the_catalogue(folder):
    box, lying, _ = load_catalogues(folder)
    mesh = load(box)
    assert np.ptp(mesh.vertices, axis=0) == pytest.approx([0.5, 0.25, 1])
    assert mesh.vertices.min(0) == pytest.approx([-0.25, -0.125, -0.5])
    printed = mesh.texture_index == 0
    # The front of a catalogue's object looks towards -y when z is up.
    assert mesh.vertices[mesh.faces[printed]][..., 1] == pytest.approx(-0.125)
    assert (mesh.normals[printed][..., 1] < 0).all()
    across, _, up = np.moveaxis(mesh.vertices[mesh.faces[printed]], -1, 0)
    assert mesh.uv[printed] == pytest.approx(np.stack([across / 0.5 + 0.5, up + 0.5], -1))
    assert np.ptp(load(lying).vertices, axis=0) == pytest.approx([0.5, 1, 0.25])


def test_glass_is_frosted_and_wood_is_wood(folder):
    mesh = load(load_catalogues(folder)[0])
    top = mesh.vertices[mesh.faces][..., 2].min(1) > 0.49
    assert mesh.colors[top] == pytest.approx(0.85)
    bottom = mesh.vertices[mesh.faces][..., 2].max(1) < -0.49
    assert mesh.colors[bottom] == pytest.approx(np.tile([0.5, 0.25, 0], (2, 1)))


def test_thin_things_are_refused_and_what_was_read_is_kept(folder, tmp_path):
    cache = tmp_path / 'cache'
    entries = load_catalogues(folder)
    assert [entry.key for entry in usable(entries, cache)] == ['Scopia#box', 'Scopia#lying']
    files = {file.name: file.stat().st_mtime_ns for file in cache.iterdir()}
    assert len(files) == 3
    again = load(entries[0], cache)
    assert np.abs(again.vertices - load(entries[0]).vertices).max() < 1e-6
    for _ in range(2):
        with pytest.raises(Unusable, match='Scopia#sheet: thinner than 3%'):
            load(entries[2], cache)
    assert files == {file.name: file.stat().st_mtime_ns for file in cache.iterdir()}


def test_pictures_beside_the_meshes_come_once(folder):
    pictures = load_pictures(load_catalogues(folder), most=32)
    assert [picture.shape for picture in pictures] == [(32, 32, 3)]
    assert load_pictures(load_catalogues(folder), least=65) == []


def test_creators_are_named(folder, tmp_path):
    entries = load_catalogues(folder)
    rows = credits(entries)
    # The licence beside the mesh comes before its catalogue's.
    assert ('Bill 10€', 'Scopia & eTeks', 'CC0-1.0', 'Scopia catalog', SOURCE) in rows
    assert ('Sheet', 'Scopia catalog', 'CC-BY-3.0', 'Scopia catalog', '') in rows
    assert len(rows) == 3 and all(row[1] for row in rows)  # the catalogue where none is named
    write_credits(entries, tmp_path / 'credits.csv')
    with (tmp_path / 'credits.csv').open(newline='', encoding='utf-8') as file:
        assert [tuple(row) for row in csv.reader(file)] == [CREDIT_COLUMNS, *rows]
