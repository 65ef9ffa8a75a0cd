# SPDX-License-Identifier: Apache-2.0
"""Goroutines in gdb: of a live process or a core, with or without debug information.

    (gdb) source tuco.py
    (gdb) info goroutines            all, as a list; `info goroutines IO wait` those whose state holds that
    (gdb) goroutine 18 bt            a command in the context of goroutine 18: bt, up, info locals, print x ...
    (gdb) goroutine all bt           for each
    (gdb) tuco-core FILE             as generate-core-file, with the stacks of all goroutines

What is read, and how it is found, is docs/design/debug_descriptor.md. A parked goroutine has no thread. So
that nothing of the process is changed, and cores can be looked at too, no register is set: an unwinder of
ours answers, for frame 0 of the selected thread, that its caller is the parked goroutine. Its frames
are then #1 and up, and all of gdb's commands work in them.
"""
import os
import re
import struct

import gdb
import gdb.unwinder

G_FIELDS = ("id parent status reason flags pins wait_object wait_since sp fp pc stack_low stack_high stack_top name "
            "created_file created_function created_line created_pc start worker locked_worker switches cpu_ticks "
            "epoch stack_high_water").split()
M_FIELDS = "next number tid goroutine in_use attention".split()
SIZE = 2720
WAITING = "waiting"


def read(address, size):
    return bytes(gdb.selected_inferior().read_memory(address, size))


def number(data, offset=0, size=8):
    return int.from_bytes(data[offset:offset + size], "little")


def c_string(data):
    return data.split(b"\0", 1)[0].decode(errors="replace")


def string_at(address):
    if not address:
        return ""
    out = b""
    while b"\0" not in out and len(out) < 4096:
        step = min(64, 4096 - address % 4096)  # never over a page that may not be there
        try:
            out += read(address, step)
        except gdb.MemoryError:
            return "?"
        address += step
    return c_string(out)


class Descriptor:
    """tuco_debug_v1 of the process that gdb looks at."""

    def __init__(self):
        try:
            at = int(gdb.parse_and_eval("(unsigned long)&tuco_debug_v1"))
        except gdb.error:
            raise gdb.GdbError("no tuco_debug_v1: this program has no tuco, or gdb has not read its symbols")
        data = read(at, SIZE)
        if c_string(data[:16]) != "tuco_debug_v1" or number(data, 16, 4) < SIZE:
            raise gdb.GdbError("tuco_debug_v1 is not what this script knows")
        if number(data, 24, 4) == 0:
            raise gdb.GdbError("the runtime has not been started")
        self.files = {}
        words = struct.unpack_from("<11Q", data, 32)
        self.registry, self.epoch, _, self.workers = words[:4]
        fields = [struct.unpack_from("<II", data, 120 + 8 * i) for i in range(36)]
        self.g = dict(zip(G_FIELDS, fields))
        self.m = dict(zip(M_FIELDS, fields[len(G_FIELDS):]))
        self.statuses = [c_string(data[416 + 16 * i:432 + 16 * i]) for i in range(number(data, 408, 4))]
        self.reasons = [c_string(data[672 + 32 * i:704 + 32 * i]) for i in range(number(data, 412, 4))]

    def goroutines(self):
        segment_bytes, slab_bytes, record_bytes, per_slab, segments, directory = struct.unpack("<6Q", read(self.registry, 48))
        epoch = number(read(self.epoch, 4), 0, 4)
        id_at, epoch_at = self.g["id"][0], self.g["epoch"][0]
        for i in range(segments):
            segment = number(read(directory + 8 * i, 8))
            for slab in range(segment, segment + segment_bytes, slab_bytes):
                try:
                    data = read(slab, slab_bytes)
                except gdb.MemoryError:
                    continue  # a core need not hold what was given back
                if not any(data):
                    continue
                for k in range(per_slab):
                    at = k * record_bytes
                    if number(data, at + id_at) and number(data, at + epoch_at, 4) == epoch:
                        yield Goroutine(self, data[at:at + record_bytes])

    def threads(self):
        """Kernel thread id and number of each worker, by the address of its record."""
        out, at = {}, number(read(self.workers, 8))
        field = lambda name: number(read(at + self.m[name][0], self.m[name][1]), 0, self.m[name][1])
        while at:
            if field("in_use"):
                out[at] = (field("tid"), field("number"))
            at = field("next")
        return out


class Goroutine:
    def __init__(self, descriptor, record):
        self.descriptor, self.record = descriptor, record
        self.id = self.field("id")
        self.name = c_string(record[descriptor.g["name"][0]:][:descriptor.g["name"][1]])
        status = self.field("status")
        self.status = descriptor.statuses[status] if status < len(descriptor.statuses) else "???"

    def field(self, name):
        offset, size = self.descriptor.g[name]
        return number(self.record, offset, size)

    def state(self):
        if self.status != WAITING:
            return self.status
        reason = self.field("reason")
        return self.descriptor.reasons[reason] if reason < len(self.descriptor.reasons) else "unknown wait reason"

    def creator(self):
        # Many were started at few places.
        at, known = self.field("created_file"), self.descriptor.files
        if at not in known:
            known[at] = string_at(at)
        file, line = known[at], self.field("created_line")
        return f"{os.path.basename(file)}:{line}" if file and self.field("parent") else ""


class ParkedUnwinder(gdb.unwinder.Unwinder):
    """While `target` is set: the caller of frame 0 is that goroutine."""

    def __init__(self):
        super().__init__("tuco")
        self.target = None

    def __call__(self, pending):
        if self.target is None or pending.level() != 0:
            return None
        aarch64 = "aarch64" in gdb.selected_inferior().architecture().name()
        sp, pc, fp = ("sp", "pc", "x29") if aarch64 else ("rsp", "rip", "rbp")
        word = gdb.lookup_type("unsigned long")
        # Frame 0 gets an identity at the inner end of the goroutine's stack: gdb takes a stack whose frames do
        # not follow each other upwards for a corrupt one.
        inner = gdb.Value(self.target.field("sp") - 8).cast(word)
        info = pending.create_unwind_info(FrameId(inner, pending.read_register(pc)))
        for register, name in ((sp, "sp"), (pc, "pc"), (fp, "fp")):
            info.add_saved_register(register, gdb.Value(self.target.field(name)).cast(word))
        return info


class FrameId:
    def __init__(self, sp, pc):
        self.sp, self.pc = sp, pc


parked = ParkedUnwinder()
gdb.unwinder.register_unwinder(None, parked, replace=True)


def invalidate():
    gdb.invalidate_cached_frames()


def in_parked(goroutine, command):
    parked.target = goroutine
    invalidate()
    try:
        gdb.newest_frame().older().select()
        if re.match(r"(bt|backtrace|where)\b", command):
            # Frame 0 is the thread's, which has nothing to do with it.
            text = gdb.execute(command, to_string=True)
            print(re.sub(r"\A#0 .*?(?=^#1 |\Z)", "", text, flags=re.S | re.M), end="")
        else:
            gdb.execute(command)
    finally:
        parked.target = None
        invalidate()


def in_thread(tid, command):
    before = gdb.selected_thread()
    for thread in gdb.selected_inferior().threads():
        if thread.ptid[1] == tid:
            try:
                thread.switch()
                gdb.execute(command)
            finally:
                before.switch()
            return
    print(f"its thread {tid} is not there")


def run_in(goroutine, threads, command):
    if goroutine.status == "running":
        tid = threads.get(goroutine.field("worker"), (0, 0))[0]
        in_thread(tid, command)
    elif goroutine.field("switches") == 0:
        print("it has not begun: no stack")
    else:
        in_parked(goroutine, command)


class InfoGoroutines(gdb.Command):
    """List goroutines: info goroutines [PART OF A STATE]"""

    def __init__(self):
        super().__init__("info goroutines", gdb.COMMAND_STACK)

    def invoke(self, argument, from_tty):
        descriptor = Descriptor()
        threads = descriptor.threads()
        for g in sorted(descriptor.goroutines(), key=lambda g: g.id):
            state = g.state()
            if argument and argument not in state:
                continue
            mark, where = " ", ""
            if g.status == "running":
                tid, m = threads.get(g.field("worker"), (0, 0))
                mark, where = "*", f"m={m} thread {tid}"
            elif g.status == WAITING and g.field("wait_object"):
                where = f"on {g.field('wait_object'):#x}"
            created = g.creator()
            parts = [f"{mark} {g.id:<5}", f"{state:<24}", f'"{g.name}"' if g.name else "", where,
                     f"created by goroutine {g.field('parent')} at {created}" if created else ""]
            print("  ".join(part for part in parts if part).rstrip())


class GoroutineCommand(gdb.Command):
    """Run a command in a goroutine's context: goroutine ID COMMAND, goroutine all COMMAND"""

    def __init__(self):
        super().__init__("goroutine", gdb.COMMAND_STACK, gdb.COMPLETE_NONE)

    def invoke(self, argument, from_tty):
        match = re.match(r"(all|\d+)\s+(\S.*)", argument)
        if not match:
            raise gdb.GdbError("usage: goroutine ID COMMAND, or: goroutine all COMMAND")
        which, command = match.groups()
        descriptor = Descriptor()
        threads = descriptor.threads()
        found = False
        for g in sorted(descriptor.goroutines(), key=lambda g: g.id):
            if which != "all" and g.id != int(which):
                continue
            found = True
            if which == "all":
                name = f' "{g.name}"' if g.name else ""
                print(f"\ngoroutine {g.id}{name} [{g.state()}]:")
            run_in(g, threads, command)
        if not found:
            raise gdb.GdbError(f"no goroutine {which}")


class TucoCore(gdb.Command):
    """Write a core with the stacks of all goroutines: tuco-core FILE

    generate-core-file gives up a mapping at its first unreadable page, and between the stacks lie guards."""

    def __init__(self):
        super().__init__("tuco-core", gdb.COMMAND_SUPPORT, gdb.COMPLETE_FILENAME)

    def invoke(self, argument, from_tty):
        if not argument:
            raise gdb.GdbError("usage: tuco-core FILE")
        gdb.execute(f"generate-core-file {argument}")
        filled = 0
        with open(argument, "r+b") as core:
            header = core.read(64)
            table, entry, count = number(header, 32), number(header, 54, 2), number(header, 56, 2)
            core.seek(table)
            data = core.read(entry * count)
            segments = []
            for i in range(count):
                kind, _, offset, address, _, file_size, _, _ = struct.unpack_from("<IIQQQQQQ", data, i * entry)
                if kind == 1 and file_size:
                    segments.append((address, address + file_size, offset))
            for g in Descriptor().goroutines():
                low, high = g.field("stack_low"), g.field("stack_high")
                if g.status != "running" and low < g.field("sp") < high:
                    low = g.field("sp") - 128  # what lies below is nobody's
                for start, end, offset in segments:
                    if low and start <= low and high <= end:
                        core.seek(offset + low - start)
                        core.write(read(low, high - low))
                        filled += 1
        print(f"and the stacks of {filled} goroutines")


InfoGoroutines()
GoroutineCommand()
TucoCore()
