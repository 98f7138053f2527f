"""A toy Monte Carlo and its reconstruction: small programs that really compute, for DAGs and demos. Python alone.

    toy.py simulate --events 500 --seed 7 --out FOLDER/sim-7.json
    toy.py merge --out FOLDER/qa.json FOLDER/sim-*.json
    toy.py cluster FOLDER --hits-per-chunk 400     the last line of its output is the list of chunks, as JSON
    toy.py track FOLDER --chunk 3
    toy.py compare FOLDER
    toy.py clean FOLDER --keep-days 14

Each writes its product under another name first, so that one that is stopped and begun again never leaves half a file.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import resource
import shutil
import sys
import time
from pathlib import Path

BINS = {"pt": (40, 0.0, 4.0), "eta": (36, -1.8, 1.8), "multiplicity": (30, 0.0, 60.0)}
SLOPE = 1.6
CHI2_MAX = 3.0


def save(path: Path, document: object) -> None:
    """All of it or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_name(f".{path.name}.{os.getpid()}")
    half.write_text(json.dumps(document), encoding="utf-8")
    half.replace(path)


def load(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def empty() -> dict[str, list[float]]:
    return {name: [0.0] * bins for name, (bins, _, _) in BINS.items()}


def fill(histograms: dict[str, list[float]], name: str, value: float) -> None:
    bins, low, high = BINS[name]
    index = int((value - low) / (high - low) * bins)
    if 0 <= index < bins:
        histograms[name][index] += 1.0


def used(began: float) -> dict[str, float]:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "cpu_s": round(usage.ru_utime + usage.ru_stime, 3),
        "wall_s": round(time.monotonic() - began, 3),
        "mem_mib": round(usage.ru_maxrss / 1024, 1),
        "jobs": 1,
    }


def simulate(events: int, seed: int, out: Path) -> None:
    """Tracks with an exponential pt and a gaussian eta."""
    began, chance, histograms, tracks = time.monotonic(), random.Random(seed), empty(), []
    for event in range(events):
        count = max(1, round(chance.gauss(24, 7)))
        fill(histograms, "multiplicity", count)
        for _ in range(count):
            pt, eta = chance.expovariate(SLOPE), chance.gauss(0, 0.7)
            fill(histograms, "pt", pt)
            fill(histograms, "eta", eta)
            tracks.append([event, round(pt, 4), round(eta, 4)])
        if event % 100 == 0:
            print(f"event {event} of {events}", flush=True)
    save(out, {"events": events, "histograms": histograms, "tracks": tracks, "resources": used(began)})
    print(f"{events} events, {len(tracks)} tracks")


def merge(files: list[Path], out: Path, what: str) -> None:
    """`qa` sums histograms, `resources` what the jobs used."""
    if not files:
        sys.exit("ERROR: there is nothing to merge")
    total, histograms, events = {"cpu_s": 0.0, "wall_s": 0.0, "mem_mib": 0.0, "jobs": 0}, empty(), 0
    for one in map(load, sorted(files)):
        events += one["events"]
        for name, bins in one["histograms"].items():
            histograms[name] = [a + b for a, b in zip(histograms[name], bins, strict=True)]
        for name, amount in one["resources"].items():
            total[name] = max(total[name], amount) if name == "mem_mib" else total[name] + amount
    save(out, {"events": events, "histograms": histograms} if what == "qa" else {"events": events, "resources": total})
    print(f"merged {len(files)} files, {events} events")


def cluster(folder: Path, hits_per_chunk: int) -> None:
    """How many chunks there are depends on what was simulated: nobody knows before."""
    chance, hits = random.Random(1), []
    for path in sorted(folder.glob("sim-*.json")):
        hits += [[path.stem, *track] for track in load(path)["tracks"] if chance.random() < 0.95]
    chunks = [hits[begin : begin + hits_per_chunk] for begin in range(0, len(hits), hits_per_chunk)]
    for number, chunk in enumerate(chunks):
        save(folder / f"chunk-{number}.json", chunk)
    print(f"{len(hits)} hits in {len(chunks)} chunks")
    print(json.dumps(list(range(len(chunks)))))


def track(folder: Path, chunk: int) -> None:
    """Measured with the resolution of the detector."""
    began, chance, histograms = time.monotonic(), random.Random(chunk + 1000), empty()
    hits = json.loads((folder / f"chunk-{chunk}.json").read_text(encoding="utf-8"))
    for _, _, pt, eta in hits:
        fill(histograms, "pt", pt * chance.gauss(1, 0.02))
        fill(histograms, "eta", eta + chance.gauss(0, 0.01))
    save(folder / f"reco-{chunk}.json", {"events": 0, "histograms": histograms, "resources": used(began)})
    print(f"chunk {chunk}: {len(hits)} tracks")


def compare(folder: Path) -> None:
    """Chi-square per bin of each reconstructed shape against the simulated one."""
    truth, seen = load(folder / "qa.json")["histograms"], load(folder / "reco.json")["histograms"]
    result = {}
    for name in ("pt", "eta"):
        scale = sum(truth[name]) / max(1.0, sum(seen[name]))
        pairs = [(a, b * scale) for a, b in zip(truth[name], seen[name], strict=True) if a + b > 10]
        chi2 = sum((a - b) ** 2 / (a + b * scale) for a, b in pairs) / max(1, len(pairs))
        efficiency = sum(seen[name]) / max(1.0, sum(truth[name]))
        good = math.isfinite(chi2) and chi2 < CHI2_MAX
        result[name] = {"chi2_per_bin": round(chi2, 3), "efficiency": round(efficiency, 4), "good": good}
        print(f"{name}: chi2 per bin {chi2:.3f}, efficiency {efficiency:.3f}" + ("" if good else " ERROR: too far off"))
    save(folder / "compare.json", result)


def clean(folder: Path, keep_days: float, now: float) -> None:
    """Old results: a folder whose newest file is older than that. One that is gone already is no error."""
    gone = 0
    for run in sorted(folder.iterdir()) if folder.is_dir() else []:
        times = [path.stat().st_mtime for path in (run, *run.glob("*")) if path.exists()]
        if run.is_dir() and not run.is_symlink() and times and max(times) < now - keep_days * 86_400:
            shutil.rmtree(run, ignore_errors=True)
            gone += 1
            print(f"removed {run.name}")
    print(json.dumps({"removed": gone}))


def main() -> None:
    parser = argparse.ArgumentParser(description="A toy Monte Carlo.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    verb = verbs.add_parser("simulate")
    verb.add_argument("--events", type=int, default=500)
    verb.add_argument("--seed", type=int, default=1)
    verb.add_argument("--out", type=Path, required=True)
    verb = verbs.add_parser("merge")
    verb.add_argument("files", type=Path, nargs="*")
    verb.add_argument("--out", type=Path, required=True)
    verb.add_argument("--what", choices=("qa", "resources"), default="qa")
    verb = verbs.add_parser("cluster")
    verb.add_argument("folder", type=Path)
    verb.add_argument("--hits-per-chunk", type=int, default=4000)
    verb = verbs.add_parser("track")
    verb.add_argument("folder", type=Path)
    verb.add_argument("--chunk", type=int, required=True)
    verbs.add_parser("compare").add_argument("folder", type=Path)
    verb = verbs.add_parser("clean")
    verb.add_argument("folder", type=Path)
    verb.add_argument("--keep-days", type=float, default=14.0)
    given = vars(parser.parse_args())
    verb_name = given.pop("verb")
    if verb_name == "clean":
        given["now"] = time.time()
    globals()[verb_name](**given)


if __name__ == "__main__":
    main()
