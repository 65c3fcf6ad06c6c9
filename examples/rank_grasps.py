"""The best grasps on a completed cloud: python rank_grasps.py [CLOUD.ply]

CLOUD.ply is what `python -m nvs_ros complete` writes with -o; without it, the cloud of a bottle.
"""

import sys
from pathlib import Path

import numpy as np

from nvs_ros.completion.export import read_cloud
from nvs_ros.evaluation.grasps.clouds import true_points
from nvs_ros.evaluation.grasps.points import Points
from nvs_ros.evaluation.grasps.ranking import find_grasps
from nvs_ros.scenes.categories import make_object

if len(sys.argv) > 1:
    points = Points.of(read_cloud(Path(sys.argv[1])))
else:
    points = true_points(make_object('bottle', np.random.default_rng(0)), 0.2)

table_m = points.places[:, 2].min()  # z is up, and the object stands on its lowest point
for grasp in find_grasps(points, table_m=table_m):
    where, away = grasp.object_from_grasp[:3, 3], grasp.object_from_grasp[:3, 2]
    print(
        f'tips at {where.round(3)} m, coming along {away.round(2)}, open {grasp.opening_m:.3f} m, '
        f'score {grasp.score:.2f}, confidence {grasp.confidence:.2f}'
    )
