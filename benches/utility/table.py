"""The table of run.py as Markdown and as a plot."""

import math
import statistics

# Student's t at 95 %, by the number of values.
T = {2: 12.71, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365, 9: 2.306, 10: 2.262}


def spread(values):
    """Mean and half-width of its 95 % interval, in points."""
    mean = 100 * statistics.mean(values)
    if len(values) < 2:
        return mean, math.nan
    return mean, 100 * T.get(len(values), 2.0) * statistics.stdev(values) / math.sqrt(len(values))


def accuracies(results, name, arm):
    return [one["accuracy"] for one in results[name][arm]]


def gains(results, name, arm, first):
    pairs = zip(accuracies(results, name, arm), accuracies(results, name, first))
    return [a - b for a, b in pairs]


def cell(pair, sign=""):
    mean, half = pair
    return f"{mean:{sign}.1f}" + ("" if math.isnan(half) else f" ± {half:.1f}")


def markdown(document):
    """Accuracy in per cent with its 95 % interval; in brackets the gain over the first arm, paired by seed."""
    results, arms = document["results"], list(document["arms"])
    names = list(results)
    seeds = len(results[names[0]][arms[0]])
    lines = [f"| {document['settings']['rows']} private rows, {document['settings']['base']}, {seeds} seeds | " + " | ".join(names) + " | mean gain |"]
    lines.append("|---" * (2 + len(names)) + "|")
    for arm in arms:
        row = []
        for name in names:
            text = cell(spread(accuracies(results, name, arm)))
            if arm != arms[0]:
                text += f" ({cell(spread(gains(results, name, arm, arms[0])), '+')})"
            row.append(text)
        by_seed = zip(*(gains(results, name, arm, arms[0]) for name in names))
        mean = "" if arm == arms[0] else cell(spread([statistics.mean(one) for one in by_seed]), "+")
        lines.append(f"| {arm} | " + " | ".join(row) + f" | {mean} |")
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
            mean, half = spread(accuracies(results, name, arm))
            shapes.append(f'<text x="{left - 8}" y="{y + 12}" text-anchor="end">{arm}</text>')
            shapes.append(f'<rect x="{left}" y="{y}" width="{4 * mean:.1f}" height="{bar}" fill="#4a7fb5"/>')
            if not math.isnan(half):
                shapes.append(f'<path d="M{left + 4 * (mean - half):.1f} {y + bar / 2} h{8 * half:.1f}" stroke="#222" stroke-width="2"/>')
            shapes.append(f'<text x="{left + 4 * mean + 4 * (0 if math.isnan(half) else half) + 6:.1f}" y="{y + 12}">{mean:.1f}</text>')
            y += height + 2
        y += gap - 8
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="640" height="{y}" font-family="sans-serif" font-size="12">'
    return head + "<title>Test accuracy in per cent, 95 % intervals</title>" + "".join(shapes) + "</svg>\n"
