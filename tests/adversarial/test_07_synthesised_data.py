"""Attack 07: data made up so that the update comes out as wanted.

Which records a step learns from follows from the job's seed, and every record is a leaf below the data set's root.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from node.guest.work.records import DataNotInRoot, Records, root_of
from node.guest.work.training import Named, schedule
from protocol.errors import Refused
from tests.adversarial import small_training as small
from verifier import training
from verifier.score import ACCEPT


class Forger(small.Small):
    """Learns from records of its own."""

    def gradients(self, parameters: Named, records: npt.NDArray[np.uint8]) -> tuple[float, Named]:
        return super().gradients(parameters, small.rows(b"forged")[: len(records)])


def test_a_made_up_record_is_not_in_the_root(tmp_path: Path) -> None:
    root = small.lay_out(tmp_path)
    data = small.rows()
    kept = Records(tmp_path / "records.bin", data.shape[1], root)
    for place in (0, 77, len(data) - 1):
        training.check_record(root, data[place].tobytes(), place, kept.count, kept.path(place))
        forged = bytes([data[place][0] ^ 1]) + data[place].tobytes()[1:]
        with pytest.raises(Refused) as refused:
            training.check_record(root, forged, place, kept.count, kept.path(place))
        assert refused.value.code == "data_not_in_root"
        with pytest.raises(Refused) as refused:
            training.check_record(root, data[place].tobytes(), (place + 1) % kept.count, kept.count, kept.path(place))
        assert refused.value.code == "data_not_in_root"


def test_another_data_set_does_not_even_start(tmp_path: Path) -> None:
    small.lay_out(tmp_path, data=small.rows(b"forged"))
    with pytest.raises(DataNotInRoot, match="data_not_in_root"):
        Records(tmp_path / "records.bin", small.INPUTS + 1, root_of(small.rows()))


def test_what_was_learned_from_made_up_records_is_rejected(tmp_path: Path) -> None:
    states, _ = small.chain(small.work(tmp_path), 1)
    replayed = small.unit(small.work(tmp_path, kind=small.Twin), states[0], 0)
    code, ppm = small.verdict(states[0], small.unit(small.work(tmp_path, kind=Forger), states[0], 0), replayed, "sgd")
    assert code == "gradient_differs"
    assert ppm == 0


def test_nobody_chooses_the_records(tmp_path: Path) -> None:
    """Two machines read the same rows; another seed, step or count gives others."""
    rows = schedule(b"s" * 32, 3, 256, 32)
    assert len(set(rows.tolist())) == 32
    assert np.array_equal(rows, small.work(tmp_path, kind=small.Twin).rows(3))
    assert not np.array_equal(rows, schedule(b"t" * 32, 3, 256, 32))
    assert not np.array_equal(rows, schedule(b"s" * 32, 4, 256, 32))


def test_the_records_of_the_schedule_are_accepted(tmp_path: Path) -> None:
    states, told = small.chain(small.work(tmp_path), 1)
    replayed = small.unit(small.work(tmp_path, kind=small.Twin), states[0], 0)
    code, ppm = small.verdict(states[0], (states[1], told[0]), replayed, "sgd")
    assert (code, ppm >= ACCEPT) == ("within_tolerance", True)
