"""Observed addresses: two subnets must agree, liars and crowds of one owner do not count, what is newest wins."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from protocol.overlay.endpoint import subnet
from protocol.overlay.observed import AGREE_MIN, LIFETIME, OBSERVERS_MAX, AddressChanged, Observation, Observations
from protocol.units import MINUTE, SECOND, Micros, PeerId

NOW = Micros(1_800_000_000 * SECOND)
HOME = "192.168.1.10"


def peer(number: int) -> PeerId:
    return PeerId(number.to_bytes(32, "big"))


def said(
    number: int,
    seen: str,
    observer: str = "",
    port: int = 4301,
    stable: bool = True,
    at: int = 0,
    inbound: bool = False,
) -> Observation:
    """Peer `number`, at 11.<number>.0.1 unless said otherwise, sees us at `seen` ("ip:port")."""
    ip, _, seen_port = seen.rpartition(":")
    looked = f"/ip4/{observer or f'11.{number}.0.1'}/tcp/4001"
    return Observation(
        peer(number), looked, f"/ip4/{ip}/tcp/{seen_port}", port, stable, Micros(NOW + at), is_inbound=inbound
    )


def test_one_observer_is_nobody() -> None:
    seen = Observations([HOME])
    assert seen.receive(said(1, "44.1.2.3:4301")) == []
    assert (seen.external, seen.candidates(), seen.nat().kind) == ("", (), "unknown")


def test_two_of_different_subnets_confirm() -> None:
    seen = Observations([HOME])
    seen.receive(said(1, "44.1.2.3:4301"))
    assert seen.receive(said(2, "44.1.2.3:4301")) == [AddressChanged("", "44.1.2.3")]
    assert seen.candidates() == ("/ip4/44.1.2.3/tcp/4301",)
    nat = seen.nat()
    assert (nat.kind, nat.keeps_port, nat.external, nat.is_carrier) == ("cone", True, "44.1.2.3", None)


def test_a_crowd_in_one_subnet_is_one_observer() -> None:
    seen = Observations([HOME])
    for number in range(1, 40):
        seen.receive(said(number, "66.6.6.6:4301", observer=f"12.34.{number}.1"))
    assert (seen.external, seen.candidates()) == ("", ())


def test_a_cone_may_change_the_port() -> None:
    seen = Observations([HOME])
    for number in (1, 2, 3):
        seen.receive(said(number, "44.1.2.3:29001"))
    assert (seen.nat().kind, seen.nat().keeps_port) == ("cone", False)
    assert seen.candidates() == ("/ip4/44.1.2.3/tcp/29001",)


def test_a_port_per_destination_is_symmetric() -> None:
    seen = Observations([HOME])
    for number in (1, 2, 3):
        seen.receive(said(number, f"44.1.2.3:{30_000 + number}"))
    assert seen.nat().kind == "symmetric"
    assert seen.candidates() == ()
    assert seen.external == "44.1.2.3"


def test_other_ports_tell_the_address_only() -> None:
    seen = Observations([HOME])
    for number in (1, 2):
        seen.receive(said(number, f"44.1.2.3:{50_000 + number}", port=50_000 + number, stable=False))
    assert (seen.external, seen.candidates(), seen.nat().kind) == ("44.1.2.3", (), "unknown")


def test_who_dialled_us_confirms_a_way_in_but_no_kind() -> None:
    seen = Observations([HOME])
    for number in (1, 2):
        seen.receive(said(number, "44.1.2.3:5000", stable=False, inbound=True))
    assert seen.candidates() == ("/ip4/44.1.2.3/tcp/5000",)
    assert seen.nat().kind == "unknown"


def test_no_nat() -> None:
    seen = Observations(["44.1.2.3"])
    for number in (1, 2):
        seen.receive(said(number, "44.1.2.3:4301"))
    assert seen.nat().kind == "none"


def test_carriers() -> None:
    seen = Observations([HOME])
    assert seen.nat("100.64.3.4").is_carrier
    assert seen.nat("10.0.0.3").is_carrier
    assert seen.nat("44.1.2.3").is_carrier is None
    for number in (1, 2):
        seen.receive(said(number, "44.1.2.3:4301"))
    assert seen.nat("44.1.2.3").is_carrier is False
    assert seen.nat("44.9.9.9").is_carrier is True


def test_a_new_address_wins_against_many_old_words() -> None:
    seen = Observations([HOME])
    for number in range(1, 20):
        seen.receive(said(number, "44.1.2.3:4301"))
    assert seen.receive(said(1, "44.7.7.7:4301", at=MINUTE)) == []
    assert seen.receive(said(2, "44.7.7.7:4301", at=MINUTE)) == [AddressChanged("44.1.2.3", "44.7.7.7")]
    assert seen.nat().kind == "cone"


def test_old_words_end_and_silence_changes_nothing() -> None:
    seen = Observations([HOME])
    for number in (1, 2):
        seen.receive(said(number, "44.1.2.3:4301"))
    assert seen.tick(Micros(NOW + LIFETIME)) == []
    assert (len(seen), seen.external, seen.candidates()) == (0, "44.1.2.3", ())


def test_a_word_is_renewed_or_replaced() -> None:
    seen = Observations([HOME])
    for number in (1, 2):
        seen.receive(said(number, "44.1.2.3:4301"))
    for number in (1, 2):
        seen.seen_again(said(number, "44.1.2.3:4301", at=MINUTE))
    seen.tick(Micros(NOW + LIFETIME))
    assert seen.candidates() == ("/ip4/44.1.2.3/tcp/4301",)
    changes = [
        change for number in (1, 2) for change in seen.seen_again(said(number, "44.5.5.5:1", port=0, stable=False))
    ]
    assert changes == [AddressChanged("44.1.2.3", "44.5.5.5")]
    assert seen.candidates() == ()


def test_a_word_without_a_port_is_replaced_by_one_that_tells_the_router() -> None:
    seen = Observations([HOME])
    for number in (1, 2):
        seen.receive(said(number, "44.1.2.3:4301", port=0, stable=False))
    assert (seen.nat().kind, seen.candidates()) == ("unknown", ())
    for number in (1, 2):
        seen.seen_again(said(number, "44.1.2.3:4301"))
    assert (seen.nat().kind, seen.candidates()) == ("cone", ("/ip4/44.1.2.3/tcp/4301",))
    for number in (1, 2):
        seen.seen_again(said(number, "44.1.2.3:4301", port=0, stable=False))
    assert seen.nat().kind == "cone", "a word that says less does not take away what was known"


def test_one_observer_tells_where_to_knock() -> None:
    """Whoever punches needs the port, and one connection from the listening port is enough to know it."""
    seen = Observations([HOME])
    seen.receive(said(1, "44.1.2.3:21965"))
    assert seen.mappings() == (), "nobody confirms the address"
    seen.receive(said(2, "44.1.2.3:50000", port=50000, stable=False))
    assert (seen.mappings(), seen.candidates()) == (("/ip4/44.1.2.3/tcp/21965",), ())
    seen.receive(said(3, "66.6.6.6:80", at=SECOND))
    assert seen.mappings() == ("/ip4/44.1.2.3/tcp/21965",), "a lie names no other machine"
    seen.receive(said(4, "44.1.2.3:30000", at=2 * SECOND))
    assert seen.mappings() == ("/ip4/44.1.2.3/tcp/30000", "/ip4/44.1.2.3/tcp/21965")
    for number in range(5, 20):
        seen.receive(said(number, f"44.1.2.3:{number}", observer=f"11.4.{number}.1", at=3 * SECOND))
    assert seen.mappings() == ("/ip4/44.1.2.3/tcp/5", "/ip4/44.1.2.3/tcp/21965"), "a crowd is one observer"


def test_other_interfaces_make_old_words_void() -> None:
    seen = Observations([HOME])
    for number in (1, 2):
        seen.receive(said(number, "44.1.2.3:4301"))
    seen.moved([HOME])
    assert len(seen) == 2
    seen.moved(["10.9.8.7"])
    assert len(seen) == 0


def test_nonsense_and_neighbours_on_this_machine_are_ignored() -> None:
    seen = Observations(["127.0.0.1"])
    good = said(1, "44.1.2.3:4301")
    for looked, observed in (
        ("/ip4/127.0.0.1/tcp/4001", good.observed),
        ("", good.observed),
        (good.observer_address, "rubbish"),
        (good.observer_address, "/ip6/2001:db8::1/tcp/4301"),
        ("/dns4/example.org/tcp/4001", good.observed),
    ):
        seen.receive(Observation(good.observer, looked, observed, 4301, True, NOW))
    assert len(seen) == 0


words = st.tuples(
    st.integers(0, 200), st.sampled_from(["44.1.2.3", "44.5.6.7", "66.6.6.6"]), st.integers(0, 5), st.booleans()
)


@given(st.lists(words, max_size=200))
def test_bounded_and_never_moved_by_one_subnet(heard: list[tuple[int, str, int, bool]]) -> None:
    seen = Observations([HOME])
    newest: dict[PeerId, tuple[str, str]] = {}
    for step, (number, ip, block, stable) in enumerate(heard):
        observer = f"11.{block}.{number % 250}.1"
        changes = seen.receive(said(number, f"{ip}:4301", observer=observer, stable=stable, at=step))
        newest.pop(peer(number), None)
        newest[peer(number)] = (subnet(observer), ip)
        while len(newest) > OBSERVERS_MAX:
            del newest[next(iter(newest))]
        assert len(seen) <= OBSERVERS_MAX
        for change in changes:
            assert len({block for block, named in newest.values() if named == change.after}) >= AGREE_MIN
