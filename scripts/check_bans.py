#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What may not be written, where, and why: one table, held by this script.

    scripts/check_bans.py [TREE]       check a tree (default: the one this script lies in)
    scripts/check_bans.py --self-test  plant each ban and demand that it is found
"""
import pathlib
import re
import sys
import tempfile

FOLDERS = ("include", "src", "test", "examples", "bench", "tools")
SOURCES = {".hpp", ".cpp", ".S", ".h"}
COMMENT_OR_TEXT = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"', re.S)

RUNTIME = r"(include/tuco/|src/(?!.*(_(test|bench)\.cpp|/test_\w+\.hpp)$)).*\.(hpp|cpp)"
SYSTEM_CALLS = ("read|write|readv|writev|pread|pwrite|open|openat|close|mmap|munmap|madvise|mprotect|poll|epoll_\\w+"
                "|socket|bind|listen|accept4?|connect|send|sendto|sendmsg|sendfile|recv|recvfrom|recvmsg|shutdown|eventfd"
                "|nanosleep|clock_nanosleep|usleep|sleep|syscall|futex|prctl|sigaction|sigaltstack|kill|tgkill|fcntl|pipe2?")

# (name, paths it holds in, paths excepted, pattern, why, a line that must be found)
BANS = [
    ("thread_local", RUNTIME, r"src/arch/.*", r"\b(thread_local|__thread)\b",
     "its address is cached over a switch; the one door is arch/thread_slot.hpp", "thread_local int x;"),
    ("errno", RUNTIME, r"src/(arch|os)/.*", r"^(?!.*\bsaved_errno\b).*\berrno\b",
     "its address is cached over a switch; functions of src/os return the error, signal handlers keep saved_errno", "return errno;"),
    ("system call", RUNTIME, r"src/((arch|os)/.*|base/fatal\.cpp)", rf"(?<![\w>:])::({SYSTEM_CALLS})\s*\(",
     "goes through src/os, so that it can be made to fail", "int n = ::read(fd, p, 1);"),
    ("syscall()", RUNTIME, r"src/(arch|os)/.*", r"(?<![\w:.>])syscall\s*\(",
     "goes through src/os, so that it can be made to fail", "long r = syscall(1);"),
    ("sleeping thread", RUNTIME, r"$^", r"\bthis_thread::sleep_",
     "the runtime waits on futexes and the poller", "std::this_thread::sleep_for(1ms);"),
    ("sleep in a test", r"(src/.*_test\.cpp|test/(conformance|fixture)/.*)", r"$^", r"\bthis_thread::sleep_",
     "tests wait for states, never for times", "std::this_thread::sleep_for(1ms);"),
    ("trace in a goroutine", r"test/.*", r"$^", r"\bSCOPED_TRACE\s*\(",
     "GoogleTest keeps them per thread, and a goroutine changes threads: say it in the failure", "SCOPED_TRACE(1);"),
    ("disabled test", r"(src|test)/.*\.cpp", r"$^", r"\bTEST\w*\(\s*\w+\s*,\s*DISABLED_",
     "a test that does not run is deleted or mended", "TEST(A, DISABLED_B) {}"),
    ("using namespace in a header", r"(include|src)/.*\.hpp", r"$^", r"^\s*using\s+namespace\b",
     "every includer would inherit it", "using namespace std;"),
]


def held(path, ban):
    return re.fullmatch(ban[1], path) and not re.fullmatch(ban[2], path)


def check(tree):
    problems = []
    for folder in FOLDERS:
        for file in sorted((tree / folder).rglob("*")):
            if file.suffix not in SOURCES or not file.is_file():
                continue
            path, text = str(file.relative_to(tree)), file.read_text(encoding="utf-8", errors="replace")
            if "SPDX-License-Identifier: Apache-2.0" not in text.split("\n", 1)[0]:
                problems.append(f"{path}:1: the first line is not the SPDX line")
            if file.suffix == ".hpp" and not re.search(r"^#pragma once$", text, re.M):
                problems.append(f"{path}:1: no #pragma once")
            code = COMMENT_OR_TEXT.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), text)
            for ban in BANS:
                if held(path, ban):
                    for match in re.finditer(ban[3], code, re.M):
                        line = code.count("\n", 0, match.start() + len(match[0]) - len(match[0].lstrip())) + 1
                        problems.append(f"{path}:{line}: {ban[0]}: {ban[4]}")
    return problems


def self_test():
    spdx = "// SPDX-License-Identifier: Apache-2.0\n"
    failed = 0

    def expect(title, files, wanted):
        nonlocal failed
        with tempfile.TemporaryDirectory() as folder:
            tree = pathlib.Path(folder)
            for path, text in files.items():
                (tree / path).parent.mkdir(parents=True, exist_ok=True)
                (tree / path).write_text(text, encoding="utf-8")
            found = check(tree)
        right = len(found) == len(wanted) and all(line.startswith(start) for line, start in zip(found, wanted))
        print(f"{'ok  ' if right else 'FAIL'} planted: {title}" + ("" if right else f"; found {found}"))
        failed += not right

    expect("nothing", {"src/a/a.hpp": spdx + "#pragma once\n// thread_local errno\nauto s = \"::read(\";\n"
                                             "int a = x::read(1) + y->send(2);\n"}, [])
    expect("no SPDX line", {"src/a/a.cpp": "int x;\n"}, ["src/a/a.cpp:1: the first line"])
    expect("no pragma", {"src/a/a.hpp": spdx}, ["src/a/a.hpp:1: no #pragma once"])
    for ban in BANS:
        path = next(path for path in ("src/a/a.hpp", "src/a/a.cpp", "src/a/a_test.cpp", "test/a/a.cpp") if held(path, ban))
        expect(ban[0], {path: spdx + "#pragma once\n" + ban[5] + "\n"}, [f"{path}:3: {ban[0]}"])
    return 1 if failed else 0


def main(arguments):
    if arguments == ["--self-test"]:
        return self_test()
    if len(arguments) > 1 or any(argument.startswith("-") for argument in arguments):
        print(__doc__)
        return 0 if arguments in (["--help"], ["-h"]) else 2
    tree = pathlib.Path(arguments[0]) if arguments else pathlib.Path(__file__).resolve().parent.parent
    problems = check(tree.resolve())
    for line in problems:
        print(line)
    print(f"check_bans: {len(problems)} violations" if problems else "check_bans: nothing forbidden found")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
