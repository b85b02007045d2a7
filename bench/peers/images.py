"""Avatar sets beside sharp and Pillow: same sizes, format and quality, one core, medians; bytes and SSIM of each.

`images.py --photo FILE --ours PROGRAM --folder FOLDER [--rounds N]` prints one JSON document. PROGRAM is the example `throughput` of
orrery-picture-worker; BENCH_NODE_MODULES names the folder in which `npm install sharp` was run.
"""

import argparse
import io
import json
import os
import pathlib
import statistics
import subprocess
import time

import numpy
from PIL import Image, ImageOps, __version__ as pillow_version

SIDES = [512, 256, 64]
HERE = pathlib.Path(__file__).parent


def make_inputs(photo, folder):
    """A baseline and a progressive JPEG of 12 megapixels, a PNG and a WebP of 2 megapixels."""
    picture = Image.open(photo).convert("RGB")
    small = picture.resize((1632, 1224), Image.Resampling.LANCZOS)
    files = {name: folder / name for name in ("baseline.jpg", "progressive.jpg", "small.png", "small.webp")}
    picture.save(files["baseline.jpg"], quality=90, subsampling=2)
    picture.save(files["progressive.jpg"], quality=90, subsampling=2, progressive=True)
    small.save(files["small.png"], compress_level=6)
    small.save(files["small.webp"], quality=90, method=4)
    return files


def pillow_set(data):
    made = []
    picture = Image.open(io.BytesIO(data))
    # What Pillow has for large JPEGs: decoding at a part of the size.
    picture.draft("RGB", (SIDES[0], SIDES[0]))
    picture = ImageOps.exif_transpose(picture).convert("RGB")
    base = ImageOps.fit(picture, (SIDES[0], SIDES[0]), Image.Resampling.LANCZOS)
    for side in SIDES:
        variant = base if side == SIDES[0] else base.resize((side, side), Image.Resampling.LANCZOS)
        out = io.BytesIO()
        variant.save(out, "WEBP", quality=82, method=2)
        made.append(out.getvalue())
    return made


def run_pillow(rounds, folder, files):
    found = {}
    for name, path in files.items():
        data = path.read_bytes()
        times = []
        for _ in range(rounds):
            start = time.perf_counter()
            made = pillow_set(data)
            times.append((time.perf_counter() - start) * 1000)
        for side, variant in zip(SIDES, made):
            (folder / f"pillow-{name}-{side}.webp").write_bytes(variant)
        found[name] = {"pillow_ms": statistics.median(times)}
    return found


def run_lines(command, files):
    found = {}
    done = subprocess.run([*command, *map(str, files.values())], check=True, capture_output=True, text=True)
    for line in done.stdout.splitlines():
        record = json.loads(line)
        found[record.pop("input")] = record
    return found


def windows(plane, size=8):
    """Means over all windows of `size` x `size`, by sums along both axes."""
    total = numpy.pad(plane.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    return (total[size:, size:] - total[:-size, size:] - total[size:, :-size] + total[:-size, :-size]) / size**2


def ssim(a, b):
    """Structural similarity of two planes of 0 to 255 (Wang et al. 2004), uniform windows of 8 x 8."""
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    mean_a, mean_b = windows(a), windows(b)
    var_a, var_b = windows(a * a) - mean_a**2, windows(b * b) - mean_b**2
    covariance = windows(a * b) - mean_a * mean_b
    top = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    return float((top / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))).mean())


def luma(picture):
    return numpy.asarray(picture.convert("RGB"), dtype=numpy.float64) @ [0.299, 0.587, 0.114]


def score(folder, files, peers):
    """Bytes and SSIM against a resize of the whole picture by Lanczos' filter."""
    found = {}
    for name, path in files.items():
        whole = Image.open(path).convert("RGB")
        for side in SIDES:
            reference = luma(ImageOps.fit(whole, (side, side), Image.Resampling.LANCZOS))
            for peer in peers:
                variant = folder / f"{peer}-{name}-{side}.webp"
                record = found.setdefault(name, {}).setdefault(peer, {"bytes": 0, "ssim": {}})
                record["bytes"] += variant.stat().st_size
                record["ssim"][str(side)] = ssim(reference, luma(Image.open(variant)))
    return found


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--photo", type=pathlib.Path, required=True)
    parser.add_argument("--ours", required=True)
    parser.add_argument("--folder", type=pathlib.Path, required=True)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    # One core for everything that is measured.
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    options.folder.mkdir(parents=True, exist_ok=True)
    files = make_inputs(options.photo, options.folder)
    rounds = str(options.rounds)
    times = {}
    runs = [
        run_lines([options.ours, rounds, str(options.folder)], files),
        run_pillow(options.rounds, options.folder, files),
    ]
    peers = ["ours", "pillow"]
    if os.environ.get("BENCH_NODE_MODULES"):
        runs.append(run_lines(["node", str(HERE / "images.mjs"), rounds, str(options.folder)], files))
        peers.append("sharp")
    for run in runs:
        for name, record in run.items():
            times.setdefault(name, {}).update(record)
    print(json.dumps({"pillow": pillow_version, "times": times, "scores": score(options.folder, files, peers)}))


if __name__ == "__main__":
    main()
