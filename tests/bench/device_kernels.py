# SPDX-License-Identifier: MIT
"""Kernels of one evaluation, as ncu saw them: TSV, by name with the longest first, or in the order that they ran.

    ncu --csv --print-units base --metrics gpu__time_duration.sum,dram__bytes_read.sum,dram__bytes_write.sum ... >FILE
    python3 device_kernels.py FILE            name, how many, microseconds, share of all, GB/s of device memory
    python3 device_kernels.py --each FILE     one a line: microseconds, MB of device memory, grid, name
"""
import csv
import re
import sys

TIME, READ, WRITTEN = "gpu__time_duration.sum", "dram__bytes_read.sum", "dram__bytes_write.sum"


def kernels(path):
    """(name, grid, nanoseconds, bytes) of each, in order."""
    with open(path) as file:
        lines = file.read().split("\n")
    first = next(i for i, line in enumerate(lines) if line.startswith('"ID"'))
    found = {}
    for row in csv.DictReader(lines[first:]):
        kernel = found.setdefault(int(row["ID"]), {"name": row["Kernel Name"], "grid": row["Grid Size"]})
        kernel[row["Metric Name"]] = float(row["Metric Value"].replace(",", ""))
    for number in sorted(found):
        k = found[number]
        name = re.sub(r"^void |\(.*|<unnamed>::", "", k["name"])
        yield name, k["grid"], k[TIME], k.get(READ, 0) + k.get(WRITTEN, 0)


def main(arguments):
    each = arguments[:1] == ["--each"]
    listed = list(kernels(arguments[-1]))
    if each:
        for name, grid, time, size in listed:
            print(f"{time / 1e3:.1f}\t{size / 1e6:.1f}\t{grid}\t{name}")
        return
    kinds = {}
    for name, _, time, size in listed:
        count, all_time, all_size = kinds.get(name, (0, 0, 0))
        kinds[name] = (count + 1, all_time + time, all_size + size)
    whole = sum(time for _, _, time, _ in listed)
    print(f"all\t{len(listed)}\t{whole / 1e3:.1f}\t100.0 %\t{sum(size for *_, size in listed) / whole:.0f}")
    for name, (count, time, size) in sorted(kinds.items(), key=lambda kind: -kind[1][1]):
        print(f"{name}\t{count}\t{time / 1e3:.1f}\t{100 * time / whole:.1f} %\t{size / time:.0f}")


if __name__ == "__main__":
    main(sys.argv[1:])
