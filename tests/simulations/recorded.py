"""Recorders filled as a run fills them: for tests of what is made from recordings."""

from __future__ import annotations

from simulations import chance
from simulations.recorder import Recorder
from simulations.scenario import NS


def recorded(seed: int, peers: int = 40, is_attacked: bool = False, slow: float = 1.0) -> Recorder:
    """An hour: jobs of about ten minutes, a partition from minute 20 to 25, gossip of about 200 ms."""
    recorder, random = Recorder(), chance.stream(seed, "recorded", peers)
    for _ in range(4_000):
        recorder.observe("gossip/latency", int(slow * 2e8 * random.lognormvariate(0.0, 0.5)))
        recorder.observe("gossip/hops", 1 + int(4 * random.random()))
    for minute in range(61):
        is_cut = 20 <= minute < 25
        recorder.sample("peers/up", peers - (peers // 4 if is_cut else 0) - int(3 * random.random()), minute * 60 * NS)
        recorder.sample("jobs/running", min(8, minute // 2) + int(3 * random.random()), minute * 60 * NS)
    ended = [600 + number * 52 + 300 * random.random() for number in range(50)]
    for minute in range(61):
        done = sum(at <= minute * 60 for at in ended)
        recorder.sample("jobs/done", done, minute * 60 * NS)
        recorder.sample("chunks/done", 8 * done + int(8 * random.random()) * (done > 0), minute * 60 * NS)
    for end in ended:
        at = int(end * NS)
        recorder.sample("job/makespan", slow * 600 * random.lognormvariate(0.0, 0.35), at, 1)
        for _ in range(8):
            recorder.sample("chunk/run", 90 * random.lognormvariate(0.0, 0.6), at, 2)
    for peer in range(peers):
        kind = "provider" if peer % 5 else "result_copier"
        paid = 3 * random.lognormvariate(0.0, 0.4) * (0.25 if kind == "result_copier" else 1)
        recorder.sample(f"payout/{kind}", paid, 3_600 * NS, peer)
    if is_attacked:
        recorder.sample("attack/result_copier/cost", 12 + 3 * random.random(), 3_600 * NS)
        recorder.sample("attack/result_copier/gain", 1 + random.random(), 3_600 * NS)
        recorder.sample("attack/result_copier/detected_s", 300 + 200 * random.random(), 3_600 * NS)
        recorder.sample("attack/sybil/cost", 2 + random.random(), 3_600 * NS)
        recorder.sample("attack/sybil/gain", 4 + 3 * random.random(), 3_600 * NS)
    recorder.sample("fault/partition", 300, 1_200 * NS)
    recorder.count("gossip/duplicates", 12_000)
    return recorder
