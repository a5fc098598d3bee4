"""The command of the reference decoder: frames, dumps and vectors; see README.md."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import frames
import store
import vectors
from chunks import read_chunk, read_headline
from frames import Message, Value, WireError
from segments import DamagedError


def show(value: Value) -> str:
    """One line for a value: numbers and texts as they are, bytes in hexadecimal, long ones by their size."""
    if isinstance(value, bytes):
        return value.hex() if len(value) <= 32 else f"({len(value)} bytes)"
    return repr(value)


def show_message(message: Message) -> None:
    """Print a message, its fields, and what its bytes hold."""
    name = message.kind.name
    print(name, *(f"{field}={show(value)}" for field, value in message.values.items()))
    if name == "CHUNK":
        for run in read_chunk(message, frames.IMAGE_MAX).runs:
            print(f"  {run}")
    elif name == "RESUME":
        frames.check_resume(message)
    elif name == "HEADLINE":
        for field, value in read_headline(message).items():
            print(f"  {field}={show(value)}")
    elif name == "ERROR":
        print(f"  {frames.error_name(message.number('code'))}")
    elif name == "DECLINE":
        print(f"  {frames.decline_name(message.number('code'))}")


def show_frames(path: Path) -> int:
    """Decode the frames of one direction in the file at path, each by itself, and print them."""
    try:
        for item in frames.iter_messages(path.read_bytes()):
            if isinstance(item, Message):
                show_message(item)
            else:
                print(f"(skipped an unknown message of {item.length} bytes)")
    except (WireError, EOFError) as error:
        print(f"failed: {error}")
        return 1
    return 0


def check_dump(folder: Path, output: Path | None) -> int:
    """Verify the dump in folder and restore its image to output; that of a part gets `.incomplete` added [S-41]."""
    try:
        dump = store.read_dump(folder)
        if output is not None and not dump.complete:
            output = output.with_name(output.name + ".incomplete")
        if output is None:
            totals = store.restore(dump, None)
        else:
            with output.open("x+b") as image:
                totals = store.restore(dump, image)
    except (DamagedError, OSError) as error:
        print(f"damaged: {error}")
        return 1
    state = "complete" if dump.complete else "incomplete"
    print(f"{state} offset={dump.end.offset} chunks={dump.end.chunks} chain={dump.end.chain.hex()}")
    print(*(f"{name}={count}" for name, count in sorted(totals.items())))
    if output is not None:
        print(f"restored {output}")
    return 0


def run_vectors(paths: list[Path]) -> int:
    """Run the vectors at paths and say ok, skipped or failed for each; a folder stands for all that it holds."""
    failed = 0
    for path in paths:
        for file in sorted(path.rglob("*.vector")) if path.is_dir() else [path]:
            try:
                vectors.run_vector(file)
                print(f"ok {file}")
            except vectors.UnknownVectorError as error:
                print(f"skipped {file}: {error}")
            except (vectors.VectorError, OSError) as error:
                failed += 1
                print(f"failed {file}: {error}")
    return 1 if failed else 0


def main(arguments: list[str]) -> int:
    """Run the command; 0 if everything was good, 1 if not, 2 for wrong usage."""
    parser = argparse.ArgumentParser(prog="decode.py", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("frames", help="decode the frames of one direction")
    one.add_argument("file", type=Path)
    one = commands.add_parser("dump", help="verify a dump's folder, restore its image")
    one.add_argument("folder", type=Path)
    one.add_argument("-o", dest="output", type=Path, metavar="IMAGE", help="a new file")
    one = commands.add_parser("vector", help="run vectors")
    one.add_argument("files", type=Path, nargs="+", metavar="FILE")
    options = parser.parse_args(arguments)
    if options.command == "frames":
        return show_frames(options.file)
    if options.command == "dump":
        return check_dump(options.folder, options.output)
    return run_vectors(options.files)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
