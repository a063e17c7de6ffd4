"""The learner's code in a process of its own: limits on time, output and memory, and a verdict nobody else can give.

`examine` starts this file as a program. That keeps its standard output to itself, as the channel for the verdict, and
gives the learner's code another: whatever is printed arrives apart. Each line of the channel begins with a token that
only the two sides know, so a file that prints "[pass]", or ends the process with status 0, has passed nothing.
"""

import contextlib
import dataclasses
import importlib
import json
import os
import queue
import secrets
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
START_LIMIT = 120  # seconds to import torch on a busy machine; the learner's own time begins after that
OUTPUT_LIMIT = 100_000  # bytes
MEMORY_LIMIT = 4 * 2**30  # bytes
INSTALL = "python -m pip install -e ."


# --- our side -----------------------------------------------------------------------------------------------------


def examine(name: str, path: Path, seed: int, seconds: float = 20) -> tuple[dict, str]:
    """Check the file `path` with checks/<name>.py; (verdict, as a dict of what Verdict has; what the code printed)."""
    token, messages, printed = secrets.token_hex(16).encode(), queue.SimpleQueue(), bytearray()
    process = subprocess.Popen(
        [sys.executable, "-u", str(HERE / "sandbox.py"), name, str(path), str(seed)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    listener = threading.Thread(target=_listen, args=(process.stdout, token, messages), daemon=True)
    collector = threading.Thread(target=_collect, args=(process.stderr, printed, messages), daemon=True)
    try:
        listener.start()
        collector.start()
        with contextlib.suppress(BrokenPipeError), process.stdin:
            process.stdin.write(token + b"\n")
        verdict = _wait(process, messages, seconds)
    finally:
        _kill(process)
        collector.join(1)
        listener.join(1)
    return verdict, printed[:OUTPUT_LIMIT].decode(errors="replace")


def _listen(channel, token: bytes, messages: queue.SimpleQueue) -> None:
    with channel:
        while line := channel.readline(OUTPUT_LIMIT):  # the learner's code may find the channel, and flood it
            if line.startswith(token):
                with contextlib.suppress(ValueError):
                    messages.put(json.loads(line[len(token) :]))
    messages.put({"ended": True})


def _collect(output, printed: bytearray, messages: queue.SimpleQueue) -> None:
    with output:
        while chunk := output.read1(65536):
            printed += chunk
            if len(printed) > OUTPUT_LIMIT:
                messages.put({"storm": True})
                return


def _wait(process: subprocess.Popen, messages: queue.SimpleQueue, seconds: float) -> dict:
    part, so_far, deadline = "importing the file", _failed(""), time.monotonic() + START_LIMIT

    def failed(text: str) -> dict:
        return {**so_far, "text": f"{so_far['text']}\n{text}".lstrip("\n")}

    while True:
        try:
            message = messages.get(timeout=max(0, deadline - time.monotonic()))
        except queue.Empty:
            return failed(
                f"Your code was stopped after {seconds:g} s, at: {part}. Most often that is a loop that never ends; or "
                "a loop over single numbers where one array operation would do."
            )
        if "ready" in message:
            deadline = time.monotonic() + seconds
        elif "part" in message:
            part, so_far = message["part"], message["so_far"]
        elif "storm" in message:
            return failed(
                f"Your code was stopped because it printed more than {OUTPUT_LIMIT // 1000} kB, at: {part}. Take the "
                "print out of its loop, and check again."
            )
        elif "ended" in message:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(5)
            return failed(
                f"Your code ended its process (exit status {process.poll()}) before the check was done, at: {part}. "
                "Take out os._exit and whatever else ends or kills it; an answer is what a function returns."
            )
        else:
            return message


def _failed(text: str) -> dict:
    return dict(passed=False, text=text, tried=True, at="", right=[])


def _kill(process: subprocess.Popen) -> None:
    """End the process and whatever it has started itself."""
    with contextlib.suppress(OSError):
        os.killpg(process.pid, signal.SIGKILL) if hasattr(os, "killpg") else process.kill()
    process.wait()


# --- the other side -----------------------------------------------------------------------------------------------


def main(name: str, path: Path, seed: int) -> None:
    token, channel = sys.stdin.buffer.readline().strip(), os.dup(1)
    os.dup2(2, 1)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)

    def say(**message) -> None:
        with contextlib.suppress(OSError):  # the learner's code may have closed anything
            os.write(channel, token + json.dumps(message).encode() + b"\n")

    def begin(part: str, so_far) -> None:
        say(part=part, so_far=dataclasses.asdict(so_far))

    sys.path[0] = str(HERE.parent)
    sys.path.append(str(path.parent))
    try:
        judging, check = importlib.import_module("checks.judging"), importlib.import_module(f"checks.{name}")
    except ImportError as error:
        return say(**_failed(f"The check cannot start ({error}): install the project with `{INSTALL}`."))
    _limit_memory()
    say(ready=True)
    starter = (HERE.parent / "starter" / f"{name}.py").read_bytes()
    try:
        verdict = judging.judge(check, path.read_bytes(), starter, path, seed, begin)
        with contextlib.suppress(Exception):
            sys.stdout.flush()
        say(**dataclasses.asdict(verdict))
    finally:
        os._exit(0)  # no exit handler and no thread of the learner's gets a say; nor a traceback, of broken builtins


def _limit_memory() -> None:
    with contextlib.suppress(ImportError, ValueError, OSError):  # Windows has none
        import resource

        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_LIMIT, MEMORY_LIMIT))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
