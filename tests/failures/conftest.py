"""The stands on which jobs are cut and go on: those of the node agent's own tests."""

from __future__ import annotations

from tests.node.protection import conftest as stands

causes = stands.causes
images = stands.images
plain_runtimes = stands.plain_runtimes
asked_before_the_loop = stands.asked_before_the_loop
stand_of = stands.stand_of
