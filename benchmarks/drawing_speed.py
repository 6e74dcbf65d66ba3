"""How fast scenes are drawn, on one core: python -m benchmarks.drawing_speed [SCENES]

Prints a table: size, images a second by the clock, images a second of processor time (which another load on
the machine disturbs less), and the slowest scene.
"""

import sys
import time

import cv2

from training.data import scenes

SIZES = ((128, 256), (256, 512), (512, 1024))


def main(count: int) -> None:
    cv2.setNumThreads(1)
    for index in range(8):  # sprites and noise are made once
        scenes.draw(1, index, (128, 256))
    print(f"| size | images/s | images/s of CPU time | slowest of {count} |")
    print("|---|---|---|---|")
    for size in SIZES:
        wall, used, slowest = 0.0, 0.0, 0.0
        for index in range(count):
            start, before = time.perf_counter(), time.process_time()
            scenes.draw(0, index, size)
            wall += time.perf_counter() - start
            spent = time.process_time() - before
            used += spent
            slowest = max(slowest, spent)
        print(f"| {size[0]}x{size[1]} | {count / wall:.1f} | {count / used:.1f} | {slowest * 1000:.0f} ms |")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100)
