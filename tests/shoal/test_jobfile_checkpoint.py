"""`checkpoint` of a job file: on, off, or how often, for what, and how large."""

from __future__ import annotations

import pytest

from protocol.errors import Refused
from protocol.jobspec import Checkpoint
from protocol.units import SECOND, Micros
from protocol.yaml_nodes import Node, Pairs
from protocol.yaml_values import pairs
from shoal import jobfile
from shoal.jobfile_checkpoint import read_checkpoint
