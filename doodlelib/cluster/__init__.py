"""The same work on many machines, by Ray: drawings prepared, a model trained, notebooks swept.

Each function places on a cluster what runs on one machine as well. All nodes need this package,
and the folders that are named must be seen by all of them (a shared file system). ``python -m
doodlelib.cluster`` is their command line.
"""

from doodlelib.cluster.prepare import connected, prepare
from doodlelib.cluster.train import sweep, train
