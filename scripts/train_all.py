"""Make all embedded weights in one command on a machine with a GPU, within minutes, and go on from what it gave.

Command: python scripts/train_all.py --minutes 9 --out DIR [--start EARLIER] [--cool]
         python scripts/train_all.py --unpack DIR (then export as scripts/README.md says)

The first run renders on all cores and trains the autoencoder, then the U-Net with its text encoders; beside them on
the same device learn the judge (segmenter and place, then attributes and identity) and the encoders of the metrics
(CLIP and ViT). A run with ``--start`` keeps the autoencoder's encoder, renders other scenes, trains all the others on,
and then the interpolator of clips; in the run that shall be the last ``--cool`` lets the rates fall. DIR gets at most
eight files of at most 15 MiB each, some of them while training still runs: weights (see packing.py), ``sheet.png`` to
look at, and ``log.txt``.
"""

from __future__ import annotations

import argparse
import json
import os
import runpy
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

from packing import pack, read_pack, unpack, write_log, write_sheet

HERE = Path(__file__).resolve().parent
# A first run takes all but the last, a later one all but the first.
PARTS = ("vae", "unet", "judge", "clip", "vit", "seine")
FOLDERS = ("mini", "judge", "encoders", "seine")
# Of the minutes that are left after rendering: the autoencoder's, the first two judges', the interpolator's.
VAE_SHARE, FIRST_JUDGES, SEINE_SHARE = 0.3, 0.45, 0.35
HALF_SIZE, CROPS = 0.25, 0.25  # of the U-Net's minutes in a first run; of their steps
IMPORTS = 8.0  # seconds until a program counts its minutes
PACK_EVERY = 150.0
CLIP_BATCH = 256  # fills a GPU better than the 32 of a CPU
ENDLESS = 10**9


@dataclass
class Run:
    """One run: what it may use, and what happened.

    Attributes:
        choice: the command line.
        work: where the programs work; has folders mini, judge, encoders, seine and output.
        end: when training must be over, seconds since 1970.
        failed: stages that ended badly.
        took: seconds of each stage.
        ready: is set as soon as the autoencoder will not change any more.
    """

    choice: argparse.Namespace
    work: Path
    end: float
    failed: list[str] = field(default_factory=list)
    took: dict[str, float] = field(default_factory=dict)
    ready: threading.Event = field(default_factory=threading.Event)

    def do(self, name: str, script: str, *options: object, until: float | None = None) -> bool:
        """Run a program of these scripts, until a time where one is given; says whether it went well."""
        arguments = [str(option) for option in options]
        if until is not None:
            minutes = max(0.01, (until - time.time() - IMPORTS) / 60)
            arguments += ["--minutes", f"{minutes:.3f}", "--steps", str(self.choice.steps)]
        began = time.time()
        limit = max(60.0, (until or self.end) - began + 45)
        print(f"{name}: {script} {' '.join(arguments)}", flush=True)
        log = self.work / "output" / f"{name}.txt"
        fine = (run_here if self.choice.serial else run_apart)(HERE / script, arguments, log, limit)
        self.took[name] = time.time() - began
        print(f"{name}: {'done' if fine else 'FAILED'} after {self.took[name]:.0f} s", flush=True)
        if not fine:
            self.failed.append(name)
            print("\n".join(log.read_text(errors="replace").splitlines()[-15:]), flush=True)
        return fine

    def both(self, *jobs: Callable[[], object]) -> None:
        """Do jobs at the same time, or in serial runs one after the other."""
        if self.choice.serial:
            for job in jobs:
                job()
            return
        threads = [threading.Thread(target=job, daemon=True) for job in jobs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def run_apart(script: Path, arguments: list[str], log: Path, limit: float) -> bool:
    """Run a program as a process of its own that is stopped after ``limit`` seconds; says whether it went well."""
    with log.open("ab") as file:
        process = subprocess.Popen([sys.executable, str(script), *arguments], stdout=file, stderr=file)
        try:
            return process.wait(limit) == 0
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            return False


def take_modules() -> dict[str, ModuleType]:
    """Take the modules of these scripts out of what is imported: several folders have modules of one name."""
    ours = {name: one for name, one in sys.modules.items() if str(HERE) in str(getattr(one, "__file__", ""))}
    return {name: sys.modules.pop(name) for name in ours if name != "__main__"}


def run_here(script: Path, arguments: list[str], log: Path, _: float) -> bool:
    """Run a program within this process: for trials, since nothing large is imported twice."""
    modules, arguments_kept, path_kept = take_modules(), sys.argv, list(sys.path)
    sys.argv, fine = [str(script), *arguments], True
    sys.path.insert(0, str(script.parent))
    with log.open("a") as file, redirect_stdout(file):
        try:
            runpy.run_path(str(script), run_name="__main__")
        except (Exception, SystemExit):
            fine = False
            file.write(traceback.format_exc())
    sys.argv, sys.path[:] = arguments_kept, path_kept
    take_modules()
    sys.modules.update(modules)
    return fine


def render(run: Run, count: int) -> bool:
    """Render scenes: the first shard always, which measures, and beyond it others in each run."""
    skip = run.choice.round * (run.choice.renders // run.choice.shard)
    options = ("--count", count, "--shard", run.choice.shard, "--skip", skip, "--workers", run.choice.workers)
    return run.do(f"render-{count}", "mini/render.py", *options)


def train_base(run: Run) -> None:
    """Autoencoder, latents, U-Net; then the folder of the base, and on it the interpolator."""
    choice, wanted = run.choice, run.choice.parts
    cool = ["--cool"] if choice.cool else []
    try:
        # What one wave of all processes renders is enough to begin with; the rest comes while the autoencoder learns.
        render(run, min(choice.renders, max(choice.shard, choice.workers * choice.shard)))
        if "vae" in wanted:
            until = time.time() + VAE_SHARE * (run.end - time.time())
            frozen = ["--decoder-only"] if choice.round else []
            options = ("--size", choice.size_of_vae, "--cool", *frozen)
            run.both(
                lambda: run.do("vae", "mini/train_vae.py", *options, until=until), lambda: render(run, choice.renders)
            )
        else:
            render(run, choice.renders)
    finally:
        run.ready.set()
    if "unet" in wanted:
        run.do("encode", "mini/encode.py")
        later = SEINE_SHARE * (run.end - time.time()) if "seine" in wanted else 0.0
        first = [
            "--preview-steps",
            choice.preview_steps,
            *(["--half", HALF_SIZE, "--crops", CROPS] if not choice.round else []),
        ]
        options = ("--size-of-unet", choice.size_of_unet, *first, *cool, *(["--compile"] if choice.compile else []))
        run.do("unet", "mini/train_unet.py", *options, until=run.end - later)
    if "seine" in wanted:
        train_seine(run)


def train_seine(run: Run) -> None:
    """Export the base and train the interpolator on it; it always cools, since each base needs its own."""
    base, clips = run.work / "base", run.choice.clips
    if not run.do("export", "mini/export.py", "--out", base):
        return
    held = max(1, min(50, clips // 20))
    for stream, count in (("base", clips), ("heldout", held)):
        options = ("--count", count, "--stream", stream, "--workers", run.choice.workers)
        run.do(f"clips-{stream}", "seine/render_clips.py", *options)
    options = ("--base", base, "--adopt", "--cool", "--preview-steps", run.choice.preview_steps)
    run.do("seine", "seine/train.py", *options, until=run.end)


def train_judge(run: Run) -> None:
    """Segmenter and place; then, with the masks that the segmenter finds, attributes and identity."""
    choice, assets = run.choice, run.work / "judge" / "export"
    data = ("--scenes", choice.scenes, "--groups", choice.groups)
    run.do("judge-data", "judge/data.py", *data, "--heldout", 0, "--workers", choice.workers)
    half = time.time() + FIRST_JUDGES * (run.end - time.time())
    helpers = ("--workers", max(1, choice.workers // 4), *(["--cool"] if choice.cool else []))

    def teach(name: str, trips: int, until: float) -> None:
        options = (*data, "--assets", assets, "--trips", trips, *helpers)
        run.do(name, "judge/train.py", "--only", name, *options, until=until)

    # Pictures make a round trip through an autoencoder only while nobody trains it.
    trips = 4 if choice.round and "vae" not in choice.parts else 0
    run.both(lambda: teach("segmenter", trips, half), lambda: teach("place", trips, half))
    run.do("judge-masks", "judge/train.py", "--steps", 0, "--export", "--assets", assets)
    run.ready.wait(max(1.0, run.end - time.time()))
    run.both(lambda: teach("attributes", 4, run.end), lambda: teach("identity", 4, run.end))


def train_encoders(run: Run) -> None:
    """The encoders of the metrics: the CLIP on pairs of scenes, beside it the ViT on instances cut out of scenes."""
    choice = run.choice
    cool = ["--cool"] if choice.cool else []

    def teach_clip() -> None:
        if run.do("pairs", "encoders/pairs.py", "--count", choice.pairs, "--workers", choice.workers):
            options = ("--pairs", choice.pairs, "--batch", CLIP_BATCH, *cool)
            run.do("clip", "encoders/train_clip.py", *options, until=run.end)

    def teach_vit() -> None:
        if run.do("cutouts", "encoders/cutouts.py", "--count", choice.cutouts, "--workers", choice.workers):
            run.do("vit", "encoders/train_vit.py", "--instances", choice.cutouts, *cool, until=run.end)

    jobs: dict[str, Callable[[], object]] = {"clip": teach_clip, "vit": teach_vit}
    run.both(*(teach for name, teach in jobs.items() if name in choice.parts))


def give(run: Run) -> None:
    """Write what is there by now into the folder that travels back; what cannot be written stops nothing else."""
    for write in (pack, write_sheet, write_log):
        try:
            write(run.work, run.choice.out)
        except (OSError, ValueError, SystemExit) as error:
            print(f"{write.__name__}: {error}", flush=True)
            run.failed.append(write.__name__)


def profile(run: Run) -> None:
    """Print seconds and speed of each stage, as logged last."""
    for path in sorted(run.work.glob("*/*.log.jsonl")):
        entries = [json.loads(line) for line in path.read_text().splitlines()]
        for unit in ("images_per_second", "clips_per_second"):
            speeds = [entry[unit] for entry in entries if unit in entry]
            if speeds:
                name = path.name.removesuffix(".log.jsonl")
                print(f"{name:12s} {speeds[-1]:10.1f} {unit.replace('_per_second', '/s')}", flush=True)
    for name, seconds in run.took.items():
        print(f"{name:16s} {seconds:6.1f} s", flush=True)


def read_choice(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=9.0, help="of the whole run")
    parser.add_argument("--out", type=Path, help="folder of what comes back")
    parser.add_argument("--start", type=Path, help="what an earlier run gave")
    parser.add_argument("--unpack", type=Path, help="only write what a run gave as checkpoints into the working folder")
    parser.add_argument("--cool", action="store_true", help="let the rates fall to 2 percent: for the last run")
    parser.add_argument("--parts", type=lambda text: tuple(text.split(",")), help=f"some of {','.join(PARTS)}")
    parser.add_argument("--size-of-unet", default="wide", help="of models.py: SIZES; what was begun keeps its own")
    parser.add_argument("--size-of-vae", default="wide", help="of autoencoder.py: WIDTHS; likewise")
    parser.add_argument("--renders", type=int, default=60_000)
    parser.add_argument("--shard", type=int, default=2000, help="renders a file")
    parser.add_argument("--scenes", type=int, default=20_000, help="of the judge")
    parser.add_argument("--groups", type=int, default=2400, help="of look-alikes, of the judge")
    parser.add_argument("--pairs", type=int, default=40_000, help="scenes and their twins, of the CLIP")
    parser.add_argument("--cutouts", type=int, default=16_000, help="instances, of the ViT")
    parser.add_argument("--clips", type=int, default=4000)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes that render")
    parser.add_argument("--steps", type=int, default=ENDLESS, help="most steps of each network, for trials")
    parser.add_argument("--preview-steps", type=int, default=20)
    parser.add_argument("--compile", action="store_true", help="compile the U-Net with torch.compile")
    parser.add_argument("--work", type=Path, help="working folder; else a temporary one, or with --unpack the usual")
    parser.add_argument("--serial", action="store_true", help="one process, one stage after the other, for trials")
    parser.add_argument("--profile", action="store_true", help="print seconds and pictures a second of each stage")
    choice = parser.parse_args(arguments)
    if (choice.unpack is None) == (choice.out is None):
        parser.error("name either --out or --unpack")
    if unknown := set(choice.parts or ()) - set(PARTS):
        parser.error(f"--parts knows {', '.join(PARTS)}, not {', '.join(sorted(unknown))}")
    return choice


def begin(choice: argparse.Namespace, work: Path) -> Run:
    """Lay out the working folder, with what an earlier run gave, and tell the programs where it is."""
    for name in (*FOLDERS, "output"):
        (work / name).mkdir(parents=True, exist_ok=True)
    for name in FOLDERS:
        os.environ[f"D2PLAN_{name.upper()}_WORK"] = str(work / name)
    os.environ["OMP_NUM_THREADS"] = os.environ.get("OMP_NUM_THREADS", "2")
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    os.environ["PYTHONUNBUFFERED"] = "1"
    os.environ["PYTHONPATH"] = os.pathsep.join([str(HERE.parent / "src"), os.environ.get("PYTHONPATH", "")])
    choice.round = 0
    if choice.start:
        unpack(choice.start, work)
        choice.round = 1 + read_pack(choice.start)[1].get("run", {}).get("round", 0)
    choice.parts = choice.parts or (PARTS[1:] if choice.start else PARTS[:-1])
    (work / "round.json").write_text(json.dumps({"round": choice.round, "parts": choice.parts}))
    began = time.time()
    return Run(choice, work, began + 60 * choice.minutes - min(40.0, 6 * choice.minutes))


def train(run: Run) -> None:
    """Do all that is wanted; while it lasts, give from time to time what is there."""
    lanes = [lambda: train_base(run)]
    lanes += [lambda: train_judge(run)] if "judge" in run.choice.parts else []
    lanes += [lambda: train_encoders(run)] if {"clip", "vit"} & set(run.choice.parts) else []
    if run.choice.serial:
        run.both(*lanes)
        return
    threads = [threading.Thread(target=lane, daemon=True) for lane in lanes]
    for thread in threads:
        thread.start()
    given = time.time()
    while any(thread.is_alive() for thread in threads):
        time.sleep(0.5)
        if time.time() - given > PACK_EVERY and time.time() < run.end - 30:
            give(run)
            given = time.time()


def main(arguments: list[str] | None = None) -> int:
    """Unpack, or train and pack; gives the exit status."""
    choice = read_choice(arguments)
    if choice.unpack:
        work = choice.work or Path.home() / ".cache" / "d2plan"
        print(f"{work}: {', '.join(unpack(choice.unpack, work))}", flush=True)
        return 0
    work = choice.work or Path(tempfile.mkdtemp(prefix="d2plan-train-"))
    run = begin(choice, work)
    train(run)
    run.failed = [name for name in run.failed if name not in ("pack", "write_sheet", "write_log")]
    give(run)
    if choice.profile:
        profile(run)
    for path in sorted(choice.out.iterdir()):
        print(f"{path.name}: {path.stat().st_size / 2**20:.1f} MiB", flush=True)
    if run.failed:
        print(f"failed: {', '.join(run.failed)}", flush=True)
    if not choice.work:
        shutil.rmtree(work, ignore_errors=True)
    return 1 if run.failed else 0


if __name__ == "__main__":
    sys.exit(main())
