#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Holds every #include to the arrows of src/LAYERS.

    scripts/check_layers.py [TREE]       check a tree (default: the one this script lies in)
    scripts/check_layers.py --self-test  plant each kind of violation and demand that it is found

What is checked:
  src/LAYER/...       includes own or lower layers, and public headers of own or lower layers
  include/tuco/...    includes public headers of own or lower layers, nothing private
  examples/, tools/   include public headers only (and files beside them)
  include/tuco/tuco.hpp leads to every public header,
  and src/LAYERS itself: every layer and header in it exists, every header is in it, no cycles.
Tests beside the code (_test.cpp) may use test/fixture and any public header. A benchmark may use
any public header too. Text inside comments is not an include.
"""
import pathlib
import re
import sys
import tempfile

INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]+(["<])([^">]+)[">]', re.M)
COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.S)
SOURCES = {".hpp", ".cpp", ".S", ".h"}


class Policy:
    """src/LAYERS as read: who lies directly below whom, and which layer owns a public header."""

    def __init__(self, text):
        self.below, self.header_layer, self.problems = {}, {}, []
        for number, line in enumerate(text.splitlines(), 1):
            line = line.split("#", 1)[0].strip()
            if not line:
                continue
            header = re.fullmatch(r"header\s+(\S+)\s+(\S+)", line)
            layer = re.fullmatch(r"(\w+)\s*<-\s*([\w\s]*?)\s*:\s*(.+)", line)
            if header:
                self.header_layer[header[1]] = header[2]
            elif layer:
                unknown = [name for name in layer[2].split() if name not in self.below]
                if unknown:  # Only layers named before: this is what rules out cycles.
                    self.problems.append(f"src/LAYERS:{number}: '{layer[1]}' stands on {unknown}, not named above it")
                self.below[layer[1]] = layer[2].split()
            else:
                self.problems.append(f"src/LAYERS:{number}: cannot read '{line}'")
        for name, layer in self.header_layer.items():
            if layer not in self.below:
                self.problems.append(f"src/LAYERS: header {name} belongs to unknown layer '{layer}'")

    def reach(self, layer):
        seen, todo = set(), [layer]
        while todo:
            name = todo.pop()
            if name not in seen:
                seen.add(name)
                todo += self.below.get(name, [])
        return seen


def includes(path):
    """Yields (line number, True if quoted, what) for each include outside comments."""
    text = path.read_text(encoding="utf-8", errors="replace")
    text = COMMENT.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), text)
    for match in INCLUDE.finditer(text):
        yield text.count("\n", 0, match.start()) + 1, match[1] == '"', match[2]


def files(root):
    return sorted(path for path in root.rglob("*") if path.suffix in SOURCES) if root.is_dir() else []


def check(tree):
    """Returns the list of violations, each a line to print."""
    policy = Policy((tree / "src/LAYERS").read_text(encoding="utf-8"))
    problems = policy.problems

    def wrong(path, line, what):
        problems.append(f"{path.relative_to(tree)}:{line}: {what}")

    public_root = tree / "include/tuco"
    # compat/ holds stand-ins for headers of the system: nobody includes them by that name.
    public = {name: path for path in files(public_root)
              if not (name := str(path.relative_to(public_root))).startswith("compat/")}
    for name in sorted(public.keys() - policy.header_layer.keys() - {"tuco.hpp"}):
        problems.append(f"include/tuco/{name}: not in src/LAYERS; add `header {name} <the layer that implements it>`")
    for name in sorted(policy.header_layer.keys() - public.keys()):
        problems.append(f"src/LAYERS: header {name} does not exist")

    def check_public(path, line, what, layer):
        """An include of <tuco/...> from `layer`."""
        name = what.removeprefix("tuco/")
        owner = policy.header_layer.get(name)
        if name == "tuco.hpp":
            wrong(path, line, "the umbrella is for users; include what is needed")
        elif name not in public:
            wrong(path, line, f"<{what}> does not exist")
        elif owner and layer and owner not in policy.reach(layer):
            wrong(path, line, f"<{what}> is implemented in {owner}, above {layer}")

    for path in files(tree / "src"):
        layer = path.relative_to(tree / "src").parts[0]
        if layer not in policy.below:
            wrong(path, 1, f"'{layer}' is not a layer of src/LAYERS")
            continue
        is_test, is_bench = path.stem.endswith("_test"), path.stem.endswith("_bench")
        for line, quoted, what in includes(path):
            first = what.split("/")[0]
            if first == "tuco":
                if not is_test and not is_bench:
                    check_public(path, line, what, layer)
            elif first in policy.below:
                if first not in policy.reach(layer):
                    wrong(path, line, f"{layer} may not include {first} (\"{what}\")")
            elif first == "fixture":
                if not is_test:
                    wrong(path, line, f'only a test may include "{what}"')
            elif quoted:
                wrong(path, line, f'"{what}" names no layer; private includes are relative to src/')

    for name, path in public.items():
        layer = None if name == "tuco.hpp" else policy.header_layer.get(name)
        for line, quoted, what in includes(path):
            if what.split("/")[0] == "tuco":
                check_public(path, line, what, layer)
            elif quoted or what.split("/")[0] in policy.below:
                wrong(path, line, f'a public header may not include the private "{what}"')

    reached, todo = set(), ["tuco.hpp"]
    while todo:
        name = todo.pop()
        if name in public and name not in reached:
            reached.add(name)
            todo += [what.removeprefix("tuco/") for _, _, what in includes(public[name]) if what.startswith("tuco/")]
    for name in sorted(public.keys() - reached):
        problems.append(f"include/tuco/{name}: not reached from the umbrella include/tuco/tuco.hpp")

    for folder in ("examples", "tools"):
        for path in files(tree / folder):
            for line, quoted, what in includes(path):
                beside = (path.parent / what).exists() or (tree / folder / what).exists()
                if what.split("/")[0] in policy.below or (quoted and not beside):
                    wrong(path, line, f'{folder}/ uses the public face only, not "{what}"')
    return problems


def self_test():
    """Plants one violation at a time into a small correct tree; each must be the one that is found."""
    layers = "a <- : bottom\nb <- a : middle\nc <- b : top\nheader x.hpp a\nheader y.hpp c\n"
    good = {
        "src/LAYERS": layers,
        "include/tuco/x.hpp": "#pragma once\n",
        "include/tuco/y.hpp": "#pragma once\n#include <tuco/x.hpp>\n",
        "include/tuco/tuco.hpp": "#include <tuco/x.hpp>\n#include <tuco/y.hpp>\n",
        "include/tuco/compat/errno.h": "#include_next <errno.h>\n",
        "src/a/a.hpp": "#include <vector>\n#include <tuco/x.hpp>\n",
        "src/c/c.cpp": '#include "a/a.hpp"\n#include <tuco/y.hpp>\n// #include "nowhere/z.hpp"\n',
        "src/a/a_test.cpp": '#include "a/a.hpp"\n#include "fixture/f.hpp"\n#include <tuco/tuco.hpp>\n',
        "examples/e/e.cpp": '#include <tuco/tuco.hpp>\n#include "beside.hpp"\n',
        "examples/e/beside.hpp": "",
    }
    planted = {
        "a layer includes one above": ("src/a/a.hpp", '#include "c/c.hpp"\n', "src/a/a.hpp:1: a may not include c"),
        "with angle brackets and spaces": ("src/a/a.hpp", "\n  #  include <b/b.hpp>\n", "src/a/a.hpp:2: a may not include b"),
        "a test includes one above": ("src/a/a_test.cpp", '#include "b/b.hpp"\n', "src/a/a_test.cpp:1: a may not include b"),
        "a public header of a higher layer": ("src/a/a.hpp", "#include <tuco/y.hpp>\n", "src/a/a.hpp:1: <tuco/y.hpp> is implemented in c"),
        "a public header that does not exist": ("src/c/c.cpp", "#include <tuco/no.hpp>\n", "src/c/c.cpp:1: <tuco/no.hpp> does not exist"),
        "the umbrella inside": ("src/c/c.cpp", "#include <tuco/tuco.hpp>\n", "src/c/c.cpp:1: the umbrella"),
        "a path relative to the file": ("src/c/c.cpp", '#include "c.hpp"\n', 'src/c/c.cpp:1: "c.hpp" names no layer'),
        "the fixture outside tests": ("src/c/c.cpp", '#include "fixture/f.hpp"\n', "src/c/c.cpp:1: only a test"),
        "public includes private": ("include/tuco/x.hpp", '#include "a/a.hpp"\n', "include/tuco/x.hpp:1: a public header"),
        "public includes private by brackets": ("include/tuco/x.hpp", "#include <a/a.hpp>\n", "include/tuco/x.hpp:1: a public header"),
        "public includes public above": ("include/tuco/x.hpp", "#include <tuco/y.hpp>\n", "include/tuco/x.hpp:1: <tuco/y.hpp>"),
        "a folder that is no layer": ("src/z/z.cpp", "", "src/z/z.cpp:1: 'z' is not a layer"),
        "a header on no list": ("include/tuco/new.hpp", "", "include/tuco/new.hpp: not in src/LAYERS"),
        "a header outside the umbrella": ("include/tuco/tuco.hpp", "#include <tuco/x.hpp>\n", "include/tuco/y.hpp: not reached"),
        "a listed header that is gone": ("src/LAYERS", layers + "header gone.hpp a\n", "src/LAYERS: header gone.hpp does not exist"),
        "a cycle": ("src/LAYERS", "a <- c : x\n" + layers, "src/LAYERS:1: 'a' stands on ['c']"),
        "a line without sense": ("src/LAYERS", layers + "b -> a\n", "src/LAYERS:6: cannot read"),
        "an example reaches inside": ("examples/e/e.cpp", '#include "a/a.hpp"\n', "examples/e/e.cpp:1: examples/ uses"),
    }
    failed = 0
    for title, (name, text, wanted) in [("nothing", (None, None, None)), *planted.items()]:
        with tempfile.TemporaryDirectory() as folder:
            tree = pathlib.Path(folder)
            for path, content in {**good, **({name: text} if name else {})}.items():
                (tree / path).parent.mkdir(parents=True, exist_ok=True)
                (tree / path).write_text(content, encoding="utf-8")
            found = check(tree)
        right = not found if wanted is None else any(line.startswith(wanted) for line in found)
        print(f"{'ok  ' if right else 'FAIL'} planted: {title}" + ("" if right else f"; found {found}"))
        failed += not right
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
    print(f"check_layers: {len(problems)} violations" if problems else "check_layers: every include follows src/LAYERS")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
