"""Who holds which blob."""

from __future__ import annotations

import pytest

from protocol import wire
from protocol.errors import Unavailable
from protocol.jobspec import Manifest, OutputFile
from simulations.library import Library


def test_only_holders_read() -> None:
    library = Library()
    digest = library.put(1, b"content")
    assert library.has(1, digest) and not library.has(2, digest)
    assert library.read(1, digest) == b"content" and library.size(digest) == 7
    with pytest.raises(Unavailable):
        library.read(2, digest)
    library.copy(2, digest)
    assert library.read(2, digest) == b"content"
    library.drop(1, digest)
    assert not library.has(1, digest) and library.has(2, digest)


def test_a_manifest_names_its_files() -> None:
    library, file = Library(), wire.digest(b"big")
    library.hold(1, file, 1 << 40)
    manifest = library.put(1, wire.encode(Manifest((OutputFile("out.bin", file, 1 << 40),))))
    assert library.files(manifest) == [(file, 1 << 40)]
    assert library.files(file) == [], "nobody knows the content of a blob of which only the size is kept"
