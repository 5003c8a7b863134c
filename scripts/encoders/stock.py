"""What is drawn once and learnt from many times: shards of one size, each made in one go and kept."""

from __future__ import annotations

import argparse
import multiprocessing
from collections.abc import Callable
from pathlib import Path

import numpy as np

SHARD = 1000
Draw = Callable[[int, int, Path], None]


def shard_paths(folder: Path, name: str, count: int) -> list[tuple[int, int, Path]]:
    """List number, size and file of each shard of so many drawings; only a last, smaller one says its size."""
    jobs = []
    for number in range(-(-count // SHARD)):
        size = min(SHARD, count - number * SHARD)
        part = "" if size == SHARD else f"-{size}"
        jobs.append((number, size, folder / "data" / f"{name}-{number:05d}{part}.npy"))
    return jobs


def draw_missing(jobs: list[tuple[int, int, Path]], draw: Draw, workers: int = 1) -> list[Path]:
    """Draw the shards that are not there yet, in so many processes; gives all files in order."""
    missing = [(draw, *job) for job in jobs if not job[-1].exists()]
    if workers < 2 or len(missing) < 2:
        for job in missing:
            print(f"{_draw_job(job)} done", flush=True)
    else:
        # Nothing here has touched a GPU, so the processes may be forks and start at once.
        with multiprocessing.get_context("fork").Pool(workers) as pool:
            for name in pool.imap_unordered(_draw_job, missing):
                print(f"{name} done", flush=True)
    return [job[-1] for job in jobs]


def draw_as_asked(about: str | None, count: int, make: Callable[..., object]) -> None:
    """Read the command line, and draw; ``make`` takes how many, and ``workers``."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--count", type=int, default=count)
    parser.add_argument("--workers", type=int, default=1, help="processes")
    choice = parser.parse_args()
    make(choice.count, workers=choice.workers)


def keep(path: Path, content: np.ndarray) -> None:
    """Write an array whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp.npy")
    np.save(temporary, content)
    temporary.replace(path)


def _draw_job(job: tuple[Draw, int, int, Path]) -> str:
    draw, number, size, path = job
    draw(number, size, path)
    return path.name
