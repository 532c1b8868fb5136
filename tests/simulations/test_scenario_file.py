"""simulations.scenario_file: what a scenario says, and what is said about a bad one."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import Refused
from simulations import scenario_file
from simulations.scenario import (
    NS,
    Adversary,
    Arrival,
    Churn,
    Duration,
    Fault,
    Group,
    Jobs,
    Outputs,
    Pipe,
    Scenario,
    Simulation,
    Topology,
)
from simulations.scenario_checks import Known
from simulations.scenario_file import changed, find, load, read, shipped, text_of

HEAD = "version: 1\nname: x\nsimulation: {duration: 10m}\n"
PEOPLE = "population: {providers: {n: 10}}\n"
START = HEAD + PEOPLE
KNOWN = Known(
    latencies={"ethereum-2025": ("europe", "asia")}, gpus=("steam-2024",), strategies=("covert-flash", "lazy-auditor")
)
HERE = Path()
MINUTE = 60 * NS
WHOLE = (
    """\
version: 1
name: whole
about: "everything: at once"
simulation:
  {duration: 2h, settle: 1m30s, warmup: 250ms, seeds: 3..5, wire: checked, replicas: shared, gossip: direct,
   checks: [ledger, epochs], stop_on_violation: no}
topology:
  latency: uniform
  delay: 20ms
  jitter: 0.25
  loss: 0.5%
  replay: 1%
  bandwidth: {home: 80%x50Mbit/20Mbit, rack: 0.2x1 Gbit}
  nat: {public: 50%, cone: .35, symmetric: 15%}
  relay: false
""".replace(": .35", ": 0.35")
    + """\
population:
  validators: {n: 1, stake: 50}
  stewards: {n: 2}
  providers:
    {n: 1_000, slots: 2, gpus: uniform, price: 0.6, price_spread: 0.4, undercut: 10%, straggle: 5%, corrupt: 1%,
     offer_interval: 30s, churn: {model: weibull, k: 0.61, scale: 3.66h, down: 5m}}
workload:
  jobs:
    {arrival: burst 10 0.5/m, chunks: 20, reduce: true, chunk_time: lognormal 90s 0.6, output: 64MiB, price_max: 1.5,
     audit: 25%, limit: 7}
  messages: {per_second: 0.5, size: 1KiB}
faults:
  - {at: 30m, partition: {groups: [europe, rest], last: 5m, one_way: true}}
  - {every: 10m, until: 1h, kill: {role: provider, n: 1, last: 30s, power_cut: 50%}}
  - {at: 1h, clock: {share: 10%, jump: -288s}}
  - {at: 1h, clock: {role: steward, n: 1, drift: -500ppm}}
  - {at: 0s, clog: {n: 3, delay: 1500ms}}
  - {at: 5m, disk: {n: 1, mode: rot}}
  - {at: 6m, loss: {packets: 30%, last: 1m}}
  - {at: 7m, corrupt: {share: 5%, chunks: 50%}}
adversaries:
  - {strategy: covert-flash, n: 40, at: 10m, options: {power: 0.5, mode: loud, depth: 3}}
outputs: {metrics: csv, trace: 1%, events: yes, plots: [makespan]}
"""
)


def test_every_key() -> None:
    found = read(WHOLE, HERE)
    people = found.population
    assert found.simulation == Simulation(
        duration=7200 * NS, settle=90 * NS, warmup=NS // 4, seeds=(3, 4, 5), wire="checked", replicas="shared",
        gossip="direct", checks=("ledger", "epochs"), stop_on_violation=False,
    )  # fmt: skip
    assert found.topology == Topology(
        latency="uniform", delay=20_000_000, jitter=0.25, loss=0.005, replay=0.01, relay=False,
        bandwidth={
            "home": Pipe(share=0.8, up=20_000_000, down=50_000_000), "rack": Pipe(share=0.2, up=10**9, down=10**9)
        },
        nat={"public": 0.5, "cone": 0.35, "symmetric": 0.15},
    )  # fmt: skip
    assert people.validators == Group(n=1, slots=0, stake=50_000_000)
    assert people.stewards == Group(n=2, slots=0)
    assert people.providers == Group(
        n=1000, slots=2, gpus="uniform", price=600_000, price_spread=0.4, undercut=0.1, straggle=0.05, corrupt=0.01,
        offer_interval=30 * NS, churn=Churn(model="weibull", k=0.61, scale=13_176 * NS, down=300 * NS),
    )  # fmt: skip
    assert found.workload.jobs == Jobs(
        arrival=Arrival(model="burst", per_hour=30.0, burst=10), chunks=20, reduce=True, output=64 << 20, audit=0.25,
        chunk_time=Duration(model="lognormal", value=90 * NS, sigma=0.6), price_max=1_500_000, limit=7,
    )  # fmt: skip
    assert found.workload.messages is not None and found.workload.messages.per_second == 0.5
    assert found.outputs == Outputs(metrics="csv", trace=0.01, events=True, plots=("makespan",))
    options: dict[str, float | int | str] = {"power": 0.5, "mode": "loud", "depth": 3}
    assert found.adversaries == (Adversary(strategy="covert-flash", n=40, at=600 * NS, options=options),)


def test_every_fault() -> None:
    assert read(WHOLE, HERE).faults == (
        Fault(kind="partition", at=30 * MINUTE, groups=("europe",), last=5 * MINUTE, one_way=True),
        Fault(kind="kill", every=10 * MINUTE, until=60 * MINUTE, role="provider", n=1, amount=0.5),
        Fault(kind="clock", at=60 * MINUTE, share=0.1, amount=-288.0),
        Fault(kind="clock", at=60 * MINUTE, role="steward", n=1, drift_ppm=-500.0),
        Fault(kind="clog", at=0, n=3, amount=1.5),
        Fault(kind="disk", at=5 * MINUTE, n=1, disk="rot"),
        Fault(kind="loss", at=6 * MINUTE, amount=0.3, last=MINUTE),
        Fault(kind="corrupt", at=7 * MINUTE, share=0.05, amount=0.5),
    )


def test_what_is_written_reads_as_the_same() -> None:
    scenario = read(WHOLE, HERE)
    assert read(text_of(scenario), HERE) == scenario
    assert read(text_of(read(START, HERE)), HERE) == read(START, HERE)


SHARES = st.integers(0, 1000).map(lambda n: n / 1000)
SPANS = st.integers(1, 10**15)


@given(
    duration=st.integers(2, 10**16), loss=SHARES, price=st.integers(0, 10**12), spread=st.floats(0, 10),
    last=SPANS, every=SPANS, jump=st.integers(-(10**6), 10**6).filter(bool), up=st.integers(1_000, 10**12),
)  # fmt: skip
def test_any_values_survive_being_written(
    duration: int, loss: float, price: int, spread: float, last: int, every: int, jump: int, up: int
) -> None:
    spread = round(spread, 12)
    before = changed(
        read(START, HERE),
        {
            "simulation.duration": f"{duration}ns",
            "topology.loss": loss,
            "topology.bandwidth": {"a": f"1x{up}bit"},
            "population.providers.price_spread": spread,
            "population.providers.price": f"{price // 10**6}.{price % 10**6:06}",
            "faults": [{"every": f"{every}ns", "clock": {"n": 1, "jump": f"{jump}s", "last": f"{last}ns"}}],
        },
    )
    assert before.simulation.duration == duration
    assert before.population.providers.price == price
    assert before.faults[0].last == last and before.faults[0].amount == float(jump)
    assert read(text_of(before), HERE) == before


@given(text=st.text(alphabet=st.characters(codec="utf-8"), max_size=60))
def test_any_value_is_read_or_refused(text: str) -> None:
    before = read(START, HERE)
    for key in ("population.providers.n", "simulation.duration", "workload.jobs", "faults", "topology.nat", "x.y"):
        try:
            assert isinstance(changed(before, {key: text}), Scenario)
        except Refused as error:
            assert error.fix and error.code in ("bad_scenario", "unknown_key", "missing_key")


def test_changes_are_dotted_keys() -> None:
    before = read(WHOLE, HERE)
    after = changed(
        before,
        {
            "population.providers.n": 2e3,
            "simulation.seeds": range(2),
            "faults.1.kill.last": "5m",
            "workload.messages.per_second": 2,
            "topology.relay": True,
        },
    )
    assert after.population.providers.n == 2000
    assert after.simulation.seeds == (0, 1)
    assert after.faults[1].last == 5 * MINUTE
    assert after.workload.messages is not None and after.workload.messages.per_second == 2
    assert after.topology.relay
    assert changed(after, {}) == after


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("population.providerz.n", 3, "unknown key `providerz`"),
        ("population.providers.n", -3, "expected a whole number from 0"),
        ("population.providers.n", 1.5, "expected a whole number from 0"),
        ("population.providers.n", float("nan"), "found `nan`"),
        ("faults.9.at", "1m", "numbered from 0; there is no 9"),
        ("faults.first.at", "1m", "there is no first"),
        ("name.x", 1, "there is nothing below name"),
        ("", 1, "is no key"),
        ("faults.1.kill.n", 5000, "5000 are hit, and there are 1000 providers"),
    ],
)
def test_a_bad_change_is_refused_like_a_bad_file(key: str, value: object, says: str) -> None:
    with pytest.raises(Refused) as caught:
        changed(read(WHOLE, HERE), {key: value})
    assert says in caught.value.detail
    assert caught.value.fix


BAD = [
    (START + "nmae: y\n", "5:1: nmae: unknown key `nmae`", "Did you mean `name`?"),
    (START + "seed: 3\n", "5:1: seed: unknown key", "simulation.seeds"),
    (START + "zebra: 3\n", "5:1: zebra: unknown key", "Known keys"),
    (HEAD, "1:1: population: expected", "Add `population"),
    (HEAD + "population: {providers: {}}\n", "4:25: population.providers.n: expected", "Add `n"),
    (HEAD + "population: {providers: {n: ten}}\n", "4:29: population.providers.n: expected a whole number", "Write"),
    (HEAD + "population: {providers: {n: 1, gpu: a}}\n", "4:32: population.providers.gpu: unknown", "`gpus`"),
    (HEAD + "population: {providers: {n: 1}, stewards: {n: 1, gpus: a}}\n", "stewards.gpus: unknown", "providers"),
    ("version: 2\nname: x\n", "1:10: version: expected `1`", "version: 1"),
    (START + "workload: {jobs: {arrival: poisson -20/h}}\n", "5:28: workload.jobs.arrival: expected", "poisson 20/h"),
    (START + "workload: {jobs: {chunks: 3}}\n", "5:18: workload.jobs.arrival: expected", "Add"),
    (START + "topology: {nat: {public: 90%, cone: 90%}}\n", "add up to 1.8, not to 1", "100%"),
    (START + "topology: {bandwidth: {a: 50%x1Gbit}}\n", "add up to 0.5, not to 1", "100%"),
    (START + "topology: {bandwidth: {a: 1Gbit}}\n", "5:27: topology.bandwidth.a: expected", "x50Mbit"),
    (START + "topology: {latency: ethereum-2052}\n", "there is no latency table", "`ethereum-2025`"),
    (START + "faults: [{kill: {n: 1}}]\n", "5:10: faults[0]: the fault has no time", "Add `at"),
    (START + "faults: [{at: 1m}]\n", "found none of them", "one entry"),
    (START + "faults: [{at: 1m, kill: {n: 1}, loss: {packets: 1%}}]\n", "found kill and loss", "one entry"),
    (START + "faults: [{at: 10m, kill: {n: 1}}]\n", "5:15: faults[0].at: 10m is not before", "earlier"),
    (START + "faults: [{at: 5m, until: 4m, kill: {n: 1}}]\n", "4m is not between `at`, 5m, and 10m", "until"),
    (START + "faults: [{at: 1m, kill: {role: king, n: 1}}]\n", "5:32: faults[0].kill.role: expected one of", ""),
    (START + "faults: [{at: 1m, kill: {}}]\n", "neither `n` nor `share`", "n: 1"),
    (START + "faults: [{at: 1m, kill: {n: 1, share: 10%}}]\n", "both `n` and `share`", "n: 1"),
    (START + "faults: [{at: 1m, kill: {n: 99}}]\n", "99 are hit, and there are 11 peers", "at most 11"),
    (START + "faults: [{at: 1m, clog: {n: 1}}]\n", "faults[0].clog.delay: expected a time", "delay"),
    (START + "faults: [{at: 1m, clock: {n: 1}}]\n", "neither jumps nor drifts", "jump"),
    (START + "faults: [{at: 1m, partition: {groups: [europa]}}]\n", "no region or role `europa`", "`europe`"),
    (START + "adversaries: [{strategy: covert-flahs, n: 1}]\n", "5:26: adversaries[0].strategy: there is no", "flash`"),
    (START + "adversaries: [{strategy: covert-flash}]\n", "neither `n` nor `share`", "n: 10"),
    (START + "adversaries: [{strategy: covert-flash, n: 1, at: 1h}]\n", "1h is not before the end", "earlier"),
    (HEAD + "population: {providers: {n: 1}, validators: {n: 0}}\n", "nobody keeps the ledger", "validator"),
    (HEAD + "population: {providers: {n: 0}}\nworkload: {jobs: {arrival: poisson 1/h}}\n", "no providers", "Have some"),
    (HEAD + "population: {providers: {n: 1, churn: {model: weibull}}}\n", "churn.scale: a weibull churn needs", "Add"),
    (HEAD + "population: {providers: {n: 1, churn: {model: trace}}}\n", "churn.trace: a trace needs", "Add"),
    (START.replace("10m", "0s"), "3:24: simulation.duration: expected a time", "more than none"),
    (START.replace("10m", "10m, warmup: 10m"), "the warm-up is not over", "shorter"),
    (START.replace("10m", "10m, seeds: [1, 1]"), "simulation.seeds[1]: expected each value once", "Leave"),
    (START.replace("10m", "10m, seeds: [1.5]"), "3:37: simulation.seeds[0]: expected a whole number", ""),
    (START.replace("10m", "10m, seeds: 7"), "3:36: simulation.seeds: expected a list", "[7]"),
]


@pytest.mark.parametrize(("text", "says", "fix"), BAD, ids=range(len(BAD)))
def test_a_refusal_says_where_what_and_what_to_do(text: str, says: str, fix: str) -> None:
    with pytest.raises(Refused) as caught:
        read(text, HERE, "s.yaml", KNOWN)
    assert caught.value.detail.startswith("s.yaml:")
    assert says in caught.value.detail
    assert fix in caught.value.fix and caught.value.fix


def test_a_trace_is_found_beside_its_scenario(tmp_path: Path) -> None:
    text = HEAD + "population: {providers: {n: 1, churn: {model: trace, trace: hosts.tab}}}\n"
    with pytest.raises(Refused, match=r"hosts\.tab") as caught:
        read(text, tmp_path)
    assert caught.value.code == "no_trace"
    (tmp_path / "hosts.tab").write_text("1\t1\tn\t1\thost\t1\t0\t600\tend\n")
    churn = read(text, tmp_path).population.providers.churn
    assert churn is not None and churn.trace == str(tmp_path / "hosts.tab")
    (tmp_path / "hosts.tab").write_text("1\t1\tn\t1\thost\tmaybe\t0\t600\tend\n")
    with pytest.raises(Refused, match="maybe") as caught:
        read(text, tmp_path)
    assert caught.value.code == "bad_trace"


def test_the_nine_named_scenarios() -> None:
    names = [
        "baseline", "churn", "covert-flash", "eclipse", "flash-crowd", "lazy-audit", "partition", "price-war",
        "pull-the-plug",
    ]  # fmt: skip
    assert [one.name for one in shipped()] == names
    for one in shipped():
        scenario = load(find(one.name))
        assert scenario.name == one.name
        assert one.about
        assert scenario.simulation.settle or "liveness" not in scenario.simulation.checks, "it could not be shown"
        assert sum(1 for line in one.path.read_text().splitlines() if "#" in line) >= 1
        assert read(text_of(scenario), HERE) == scenario


def test_a_name_that_is_almost_right(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="no scenario `chrun`") as caught:
        find("chrun")
    assert "`churn`" in caught.value.fix
    with pytest.raises(Refused, match="cannot be read"):
        load(find(str(tmp_path / "none.yaml")))


def test_the_shipped_scenarios_are_in_the_package() -> None:
    assert scenario_file.FOLDER.parent == Path(scenario_file.__file__).parent
