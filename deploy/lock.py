"""Write the hashes into the requirements files, of every file that the registry has of each pin.

    pip install uv && python deploy/lock.py && git diff --stat

With them pip takes no file that is not one of these (its --require-hashes is on by itself where there are hashes).
Run it after a pin was changed; comments and order stay. requirements-parity.txt has none, and says why.
"""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
FILES = ("requirements.txt", *(f"requirements-{name}.txt" for name in ("runtime", "app", "dev", "extras")))
PIN = re.compile(r"^([A-Za-z0-9_.-]+)==([^\s#\\]+)\s*\\?\s*(#.*)?$")
OPTIONS = ("--generate-hashes", "--no-deps", "--no-header", "--no-annotate", "--universal", "--quiet")


def plain(name: str) -> str:
    """A package's name as every registry spells it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def hashes(path: Path) -> dict[str, list[str]]:
    """Package -> its lines of hashes, as uv's resolver reads them from the registry."""
    command = ["uv", "pip", "compile", *OPTIONS, "--python-version", "3.11", str(path)]
    found: dict[str, list[str]] = {}
    name = ""
    for line in subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines():
        if match := PIN.match(line.strip()):
            name = plain(match[1])
        elif line.strip().startswith("--hash="):
            found.setdefault(name, []).append(line.strip().removesuffix("\\").strip())
    return found


def locked(text: str, known: dict[str, list[str]]) -> str:
    """The requirements with the hashes of each pin, a comment behind a pin on a line of its own above it."""
    lines: list[str] = []
    for line in text.splitlines():
        match = PIN.match(line)
        if line.strip().startswith("--hash="):
            continue
        if not match:
            lines.append(line)
            continue
        lines += [match[3]] if match[3] else []
        lines += [f"{match[1]}=={match[2]} \\"] + [f"    {one} \\" for one in known[plain(match[1])]]
        lines[-1] = lines[-1].removesuffix(" \\")
    return "\n".join(lines) + "\n"


def main() -> int:
    for name in FILES:
        path = ROOT / name
        path.write_text(locked(path.read_text(encoding="utf-8"), hashes(path)), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
