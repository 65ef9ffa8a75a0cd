#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Reads the JUnit file of ctest and prints three numbers: passed, failed, skipped.

A test that could not be started, or that is disabled, counts as failed. Those that failed or were
skipped are named on stderr, the skipped ones with the reason they gave.
"""
import re
import sys
import xml.etree.ElementTree


def main() -> int:
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        print(__doc__)
        return 2
    passed, failed, skipped = 0, [], []
    for case in xml.etree.ElementTree.parse(sys.argv[1]).getroot().iter("testcase"):
        status, name = case.get("status"), case.get("name")
        message = next((element.get("message") or "" for element in case.iter("skipped")), "")
        if status == "run":
            passed += 1
        elif status == "notrun" and message.startswith("SKIP_"):
            reason = re.search(r": Skipped\n(.*)", case.findtext("system-out") or "")
            skipped.append(f"{name}: {reason[1] if reason else 'no reason given'}")
        else:
            failed.append(name)
    for word, lines in (("failed", failed), ("skipped", skipped)):
        for line in lines:
            print(f"{word}: {line}", file=sys.stderr)
    print(passed, len(failed), len(skipped))
    return 0


if __name__ == "__main__":
    sys.exit(main())
