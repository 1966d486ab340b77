"""Record the README's recipe on a real terminal, run twice, as docs/images/run.svg: python docs/scripts/recording.py.

The second run shows what is reused. Takes two minutes on two cores. The README's table is that of the first run.
"""

import fcntl
import os
import pty
import shutil
import struct
import subprocess
import sys
import tempfile
import termios
from itertools import groupby
from pathlib import Path

import pyte
from rich.console import Console
from rich.style import Style
from rich.text import Text

ROOT = Path(__file__).parents[2]
PICTURE = ROOT / "docs" / "images" / "run.svg"
COMMANDS = ("tunesmith run topics.yaml", "tunesmith run topics.yaml")
COLUMNS, ROWS = 116, 200
COLORS = {"default": None, "brown": "yellow"}
"""pyte's names of colours that rich calls otherwise."""


def recipe() -> str:
    """Return the README's recipe: its first YAML block."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    return readme.split("```yaml\n", 1)[1].split("```", 1)[0]


def record(folder: Path) -> pyte.Screen:
    """Run the commands one after the other and return the terminal's screen at the end."""
    screen = pyte.Screen(COLUMNS, ROWS)
    stream = pyte.ByteStream(screen)
    for command in COMMANDS:
        stream.feed(b"\x1b[1;32m$\x1b[0;1m " + command.encode() + b"\x1b[0m\r\n")
        if code := _run(command, folder, stream):
            print("\n".join(line.rstrip() for line in screen.display if line.strip()))
            sys.exit(f"{command} ended with exit code {code}")
        stream.feed(b"\r\n")
    return screen


def _run(command: str, folder: Path, stream: pyte.ByteStream) -> int:
    """Run one command on a terminal of its own, so that it prints as it does for a person; return its exit code."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, COLUMNS, 0, 0))
    programs = str(Path(sys.executable).parent)
    environment = os.environ | {
        "HOME": str(folder),
        "PATH": f"{programs}:{os.environ['PATH']}",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "TERM": "xterm-256color",
    }
    process = subprocess.Popen(command.split(), cwd=folder, env=environment, stdout=slave, stderr=slave, stdin=slave)
    os.close(slave)
    while chunk := _read(master):
        stream.feed(chunk)
    os.close(master)
    return process.wait()


def _read(master: int) -> bytes:
    try:
        return os.read(master, 65536)
    except OSError:  # Linux's end of file on a terminal
        return b""


def as_text(screen: pyte.Screen) -> Text:
    """Return what is on the screen with its colours, without empty lines at the end."""
    lines = []
    for row in range(screen.cursor.y):
        line = Text()
        cells = [screen.buffer[row][column] for column in range(COLUMNS)]
        for (color, bold), run in groupby(cells, key=lambda cell: (cell.fg, cell.bold)):
            line.append("".join(cell.data for cell in run), Style(color=_color(color), bold=bold))
        line.rstrip()
        lines.append(line)
    return Text("\n").join(lines)


def _color(name: str) -> str | None:
    if name in COLORS:
        return COLORS[name]
    if name.startswith("bright"):
        return f"bright_{name.removeprefix('bright')}"
    return f"#{name}" if len(name) == 6 and name != "yellow" else name


def main() -> None:
    """Write the picture."""
    with tempfile.TemporaryDirectory(prefix="support-") as made:
        folder = Path(made)
        for file in (ROOT / "deployments" / "recipes" / "support").glob("*.csv"):
            shutil.copy(file, folder)
        (folder / "topics.yaml").write_text(recipe(), encoding="utf-8")
        screen = record(folder)
    console = Console(record=True, width=COLUMNS, file=open(os.devnull, "w"))  # noqa: SIM115
    console.print(as_text(screen), soft_wrap=True)
    console.save_svg(str(PICTURE), title="tunesmith")
    print(f"wrote {PICTURE.relative_to(ROOT)}")
    print("\n".join(line.rstrip() for line in screen.display if line.strip()))


if __name__ == "__main__":
    main()
