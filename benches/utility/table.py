#!/usr/bin/env python3
"""The table of run.py as Markdown and as a plot.

    python3 benches/utility/table.py benches/utility/figures/scratch-500.json
"""

import json
import math
import pathlib
import statistics
import sys

# Student's t at 95 %, by the number of values.
T = {2: 12.71, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365, 9: 2.306, 10: 2.262}


def student(count):
    """Student's t at 95 % for the mean of `count` values.

    Above the table by Abramowitz and Stegun, "Handbook of Mathematical Functions", 1964, 26.7.5."""
    if count in T:
        return T[count]
    z, degrees = 1.959964, count - 1
    terms = [z, (z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96, (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384]
    return sum(term / degrees**power for power, term in enumerate(terms))


def spread(values):
    """Mean and half-width of its 95 % interval, in points."""
    values = list(values)
    mean = 100 * statistics.mean(values)
    if len(values) < 2:
        return mean, math.nan
    return mean, 100 * student(len(values)) * statistics.stdev(values) / math.sqrt(len(values))


def accuracies(results, name, arm):
    """By seed."""
    return {one["seed"]: one["accuracy"] for one in results[name].get(arm, [])}


def gains(results, name, arm, first):
    """Over the first arm, by seed, where both were run."""
    own, base = accuracies(results, name, arm), accuracies(results, name, first)
    return {seed: own[seed] - base[seed] for seed in sorted(own.keys() & base.keys())}


def cell(pair, sign=""):
    mean, half = pair
    return f"{mean:{sign}.1f}" + ("" if math.isnan(half) else f" ± {half:.1f}")


def markdown(document):
    """Accuracy in per cent with its 95 % interval; in brackets the gain over the first arm, paired by seed."""
    results, arms = document["results"], list(document["arms"])
    names = list(results)
    lines = [f"| {document['settings']['rows']} private rows, {document['settings']['base']} | draws | " + " | ".join(names) + " | mean gain |"]
    lines.append("|---" * (3 + len(names)) + "|")
    for arm in arms:
        row, gained, draws = [], [gains(results, name, arm, arms[0]) for name in names], set()
        for name, gain in zip(names, gained):
            values = list(accuracies(results, name, arm).values())
            draws.add(len(values))
            text = cell(spread(values)) if values else "-"
            if arm != arms[0] and gain:
                text += f" ({cell(spread(gain.values()), '+')})"
            row.append(text)
        whole = set.intersection(*map(set, gained))
        mean = "" if arm == arms[0] or not whole else cell(spread([statistics.mean(gain[seed] for gain in gained) for seed in sorted(whole)]), "+")
        lines.append(f"| {arm} | {' to '.join(map(str, sorted({min(draws), max(draws)})))} | " + " | ".join(row) + f" | {mean} |")
    lines += ["", *(f"- `{arm}`: {text}" for arm, text in document["arms"].items()), ""]
    return "\n".join(lines)


def costs(document):
    """Seconds and MiB of each step of the last seed, for each data set and arm."""
    lines = ["| data | arm | step | seconds | MiB |", "|---|---|---|---|---|"]
    for name, arms in document["results"].items():
        for arm, seeds in arms.items():
            stages = seeds[-1]["stages"]
            for stage in stages:
                lines += [f"| {name} | {arm} | {step} | {took:.1f} | {stage['memory_mib'][step] or '-'} |" for step, took in stage["steps"].items()]
            total, most = sum(stage["seconds"] for stage in stages), max(size or 0 for stage in stages for size in stage["memory_mib"].values())
            lines.append(f"| {name} | {arm} | **all** | {total:.1f} | {most} |")
    return "\n".join(lines) + "\n"


def svg(document):
    """A bar for each arm and data set, with its interval."""
    results, arms = document["results"], list(document["arms"])
    bar, gap, left, height = 16, 26, 150, 18
    shapes, y = [], 20
    for name in results:
        shapes.append(f'<text x="8" y="{y + 4}" font-weight="bold">{name}</text>')
        y += gap - 8
        for arm in arms:
            values = list(accuracies(results, name, arm).values())
            if not values:
                continue
            mean, half = spread(values)
            shapes.append(f'<text x="{left - 8}" y="{y + 12}" text-anchor="end">{arm}</text>')
            shapes.append(f'<rect x="{left}" y="{y}" width="{4 * mean:.1f}" height="{bar}" fill="#4a7fb5"/>')
            if not math.isnan(half):
                shapes.append(f'<path d="M{left + 4 * (mean - half):.1f} {y + bar / 2} h{8 * half:.1f}" stroke="#222" stroke-width="2"/>')
            shapes.append(f'<text x="{left + 4 * mean + 4 * (0 if math.isnan(half) else half) + 6:.1f}" y="{y + 12}">{mean:.1f}</text>')
            y += height + 2
        y += gap - 8
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="640" height="{y}" font-family="sans-serif" font-size="12">'
    return head + "<title>Test accuracy in per cent, 95 % intervals</title>" + "".join(shapes) + "</svg>\n"


def record(path, document):
    """Adds the accuracies of a document to a file of them, where they are kept by data set, arm and seed."""
    old = json.loads(path.read_text()) if path.is_file() else {"settings": document["settings"], "arms": {}, "results": {}}
    if old["settings"] != document["settings"]:
        sys.exit(f"{path}: made with other settings: {old['settings']} instead of {document['settings']}")
    old["arms"] |= document["arms"]
    for name, arms in document["results"].items():
        for arm, ones in arms.items():
            known = {one["seed"]: one for one in old["results"].setdefault(name, {}).get(arm, [])}
            known |= {one["seed"]: {key: one[key] for key in ("seed", "accuracy", "macro_f1")} for one in ones}
            old["results"][name][arm] = [known[seed] for seed in sorted(known)]
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(old, indent=1) + "\n")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    print(markdown(json.loads(pathlib.Path(sys.argv[1]).read_text())))
