"""Plays the person at the terminal: cabinet_person.py ANSWERS COMMAND...

ANSWERS are pairs PROMPT=TEXT separated by "|": when PROMPT has been printed, TEXT and a line end
are typed. Prints all that the terminal showed; the exit status is the command's.
"""
import os
import pty
import select
import signal
import sys
import time

answers = [pair.split("=", 1) for pair in sys.argv[1].split("|") if pair]
pid, terminal = pty.fork()
if pid == 0:
    os.execvp(sys.argv[2], sys.argv[2:])
seen = ""
asked_from = 0
limit = time.monotonic() + 120
while time.monotonic() < limit:
    ready, _, _ = select.select([terminal], [], [], 0.2)
    if not ready:
        continue
    try:
        piece = os.read(terminal, 4096)
    except OSError:
        break
    if not piece:
        break
    seen += piece.decode(errors="replace")
    while answers and answers[0][0] in seen[asked_from:]:
        prompt, text = answers.pop(0)
        asked_from = seen.index(prompt, asked_from) + len(prompt)
        os.write(terminal, text.encode() + b"\n")
else:
    os.kill(pid, signal.SIGKILL)  # it does not end
_, status = os.waitpid(pid, 0)
sys.stdout.write(seen.replace("\r\n", "\n"))
sys.exit(os.waitstatus_to_exitcode(status))
