#!/usr/bin/env python3
"""What augmentation is worth: accuracy of a small classifier with and without it.

    python3 benches/utility/run.py --data ag_news,cfpb_complaints,banking77 --seeds 5

    rows ─ draw with a seed ─> private ─ pipeline.toml ─> augmented ─┐
                                  └──────────────────────────────────┴ train.toml ─> test accuracy

Each stage is one `noisegate run`; its outcome is kept in target/noisegate/utility/ under a name
made of all that went in but the program itself (`--stamp`), so that a second call only runs what
is new. A classifier of private rows alone trains for 24 epochs; beside samples 12 suffice, since
each has several times as many steps. Writes table-BASE.md, .json and .svg. Python's standard
library alone; the data sets are those of ../shared/data.
"""

import argparse
import hashlib
import json
import pathlib
import random
import re
import shutil
import subprocess
import sys
import time

from memory import Watch
from table import costs, markdown, record, svg

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
DATA = ROOT.parent / "shared" / "data"
OUT = ROOT / "target" / "noisegate" / "utility"

FROM_NEITHER = {"steps.cluster.reads.samples": "synthesise.samples", "exports.augmented.from": "augment.samples"}
JUDGED = {"steps.judge.with.mode": "cross-fit", "steps.augment.with.rivals": 3}


def epsilon(total, centroids=0.25):
    """`total` shared out between samples and centroids."""
    return {"params.epsilon_samples": total * (1 - centroids), "params.epsilon_centroids": total * centroids}


def alone(total):
    """`total` and its delta for the samples; the steps of the centroids are left out."""
    return {"params.epsilon_samples": total, "params.delta": 1e-5, "without": ["centroids", "relabel", "relabel-augmented"]}


# Of `done.json`.
FORMAT = 2
# The plugin that augments, unless told otherwise: small enough to be adapted.
WRITER = "tiny-lm"

# `workflow`: what makes the samples; the rest overrides it. `train`: overrides of train.toml.
# `rows`: whether the classifier also sees the private rows.
ARMS = {
    "local-only": {"help": "private rows alone, 24 epochs"},
    "local-long": {"help": "private rows alone, 72 epochs", "train": {"steps.train.with.epochs": 72}},
    "public-only": {"help": "augmented from the names of the labels, with the teacher's labels, beside private rows", "workflow": "open.toml", "demonstrations": "names", "steps.augment.with.adapt_epochs": 0},
    "samples-only": {"help": "the released samples, relabelled by centroids, without private rows", "workflow": "pipeline.toml", "rows": False, **epsilon(8), "exports.augmented.from": "relabel.samples", "without": ["cluster", "judge", "augment", "relabel-augmented"]},
    "fdkt-8": {"help": "FDKT with centroids, epsilon 8, with the teacher's labels", "workflow": "pipeline.toml", **epsilon(8)},
    "fdkt-8-asked": {"help": "as fdkt-8, but with the labels that the writer was asked for, at weight 0.3", "workflow": "pipeline.toml", **epsilon(8), "exports.augmented.from": "augment.samples", "without": ["relabel-augmented"], "labels": "as-asked"},
    "public-asked": {"help": "as public-only, but with the labels that the writer was asked for, at weight 0.3", "workflow": "open.toml", "demonstrations": "names", "steps.augment.with.adapt_epochs": 0, "labels": "as-asked"},
    "fdkt-8-named": {"help": "as fdkt-8, but a sentence with its name stands in for the samples of a label that is lost in the noise, and labels are as asked or as the centroids say, at weight 0.3", "workflow": "pipeline.toml", **epsilon(8), "stand_ins": "names.jsonl", "labels": "as-asked"},
    "names": {"help": "a sentence with each label's name beside private rows; no writer and no release", "samples": "names.jsonl", "labels": "as-asked"},
    "agree": {"help": "as fdkt-8, but with the centroids' labels, and only samples that a classifier of the private rows agrees with", "workflow": "pipeline.toml", **epsilon(8), "labels": "agree"},
    "as-made": {"help": "as fdkt-8, but with the centroids' labels", "workflow": "pipeline.toml", **epsilon(8), "labels": "as-made"},
    "fdkt-3": {"help": "FDKT with centroids, epsilon 3, with the teacher's labels", "workflow": "pipeline.toml", **epsilon(3)},
    "fdkt-1": {"help": "FDKT with centroids, epsilon 1, with the teacher's labels", "workflow": "pipeline.toml", **epsilon(1)},
    "no-filter": {"help": "epsilon 8, no centroids, no judge", "workflow": "pipeline.toml", **alone(8), **FROM_NEITHER},
    "no-cluster": {"help": "epsilon 8 with centroids, no clusters", "workflow": "pipeline.toml", **epsilon(8), "steps.judge.reads.clusters": "relabel.samples", "without": ["cluster"]},
    "paper": {"help": "epsilon 8, judged by the language model, no centroids, labels as made", "workflow": "pipeline.toml", **alone(8), **FROM_NEITHER, **JUDGED, "labels": "as-made"},
    "reference": {"help": "the released code's settings: epsilon 3, batches of 2, DP-Adam, one pass, labels as made", "workflow": "pipeline.toml", **alone(3), **FROM_NEITHER, **JUDGED, "batch": 2, "labels": "as-made"},
    "not-private": {"help": "augmented from the private rows themselves: an upper bound that protects nothing", "workflow": "open.toml", "demonstrations": "rows"},
}
# Where a sample's label comes from: the input that `train` reads, and its settings.
LABELS = {
    "teacher": ("label.samples", {"steps.train.with.epochs": 12}),
    "agree": ("agree.samples", {"steps.train.with.released_weight": 0.4, "steps.train.with.released_labels": "as-private"}),
    "as-made": ("data.augmented", {"steps.train.with.epochs": 12}),
    "as-asked": ("data.augmented", {"steps.train.with.epochs": 12, "steps.train.with.released_weight": 0.3}),
}
NEEDS = {"label.samples": ["teacher", "label"], "agree.samples": ["alone", "agree"], "data.augmented": []}
NOT_SETS = {"help", "workflow", "rows", "without", "demonstrations", "stand_ins", "samples", "batch", "train", "labels"}


def digest(*parts):
    return hashlib.sha256("\n".join(map(str, parts)).encode()).hexdigest()[:16]


def unpack(name, part):
    """The rows of a shared data set, as text lines."""
    packed = DATA / f"{name}.{part}.jsonl.zst"
    return subprocess.run(["zstd", "-dc", packed], check=True, capture_output=True, text=True).stdout.splitlines()


def labels(name):
    return ROOT / "workflows" / "labels" / f"{name}.txt"


def label_names(name):
    return labels(name).read_text().splitlines()


def noisegate(options, workflow, sets):
    """Runs a workflow; its summary, and the seconds and the largest memory in MiB of each step."""
    line = [str(options.binary), "--home", str(options.home), "--plugins", str(ROOT / "plugins"), "run", str(workflow), "--json"]
    for key, value in sets.items():
        line += ["--set", f"{key}={value}"]
    began = time.time()
    process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    watch = Watch(process)
    out, err = process.communicate()
    if process.returncode != 0:
        sys.exit(f"{' '.join(line)}\n{out}{err}")
    summary = json.loads(out.strip().splitlines()[-1])
    seconds = {step["step"]: round(step["seconds"], 1) for step in summary["steps"]}
    memory = watch.by_step(options.home / "runs" / summary["run"] / "events.jsonl")
    return {"summary": summary, "seconds": round(time.time() - began, 1), "steps": seconds, "memory_mib": memory}


def kept(name, key):
    """Whether a stage's outcome is there."""
    return (OUT / f"{name}-{key}-{FORMAT}" / "done.json").is_file()


def stage(name, key, make):
    """The folder of a stage's outcome; `make` fills it if it is not there."""
    folder = OUT / f"{name}-{key}-{FORMAT}"
    if not kept(name, key):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        (folder / "done.json").write_text(json.dumps(make(folder)))
    return folder, json.loads((folder / "done.json").read_text())


def draw(name, options, seed):
    """The private rows, drawn with `seed`, and the test rows, the same for all seeds."""
    def make(folder):
        train, test = unpack(name, "train"), unpack(name, "test")
        random.Random(seed).shuffle(train)
        random.Random(0).shuffle(test)
        (folder / "private.jsonl").write_text("\n".join(train[:options.rows]) + "\n")
        (folder / "test.jsonl").write_text("\n".join(test[:options.test_rows]) + "\n")
        named = [{"text": f"This text is about {one.replace('_', ' ')}.", "label": one} for one in label_names(name)]
        (folder / "names.jsonl").write_text("".join(json.dumps(row) + "\n" for row in named))
    content = [hashlib.sha256((DATA / f"{name}.{part}.jsonl.zst").read_bytes()).hexdigest() for part in ("train", "test")]
    return stage("rows", digest(name, *content, options.rows, options.test_rows, seed), make)[0]


def workflow(file, without):
    """A workflow file without the sections of some steps or data sets."""
    sections = (HERE / file).read_text().split("\n\n")
    text = "\n\n".join(one for one in sections if not any(one.startswith((f"[steps.{name}]", f"[{name}]")) for name in without))
    path = OUT / f"{digest(text)}-{file}"
    path.write_text(text)
    return path


def plugins():
    return [hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(ROOT.glob("plugins/*/plugin.toml"))]


def augmented(options, name, seed, arm):
    """The file of samples that an arm adds, and what making it took."""
    here, count = draw(name, options, seed), len(label_names(name))
    sets = {key: value for key, value in arm.items() if key not in NOT_SETS}
    sets |= {"params.seed": seed, "params.augmented": -(-options.augmented // count)}
    if arm["workflow"] == "open.toml":
        source = "names.jsonl" if arm["demonstrations"] == "names" else "private.jsonl"
        sets |= {"data.demonstrations": here / source, "data.demonstrations.labels": labels(name)}
    else:
        sets |= {"params.samples": -(-options.samples // count), "data.private": here / "private.jsonl"}
        sets |= {"data.private.labels": labels(name), "data.private.units_public": options.rows}
    if options.writer != WRITER:
        sets |= {"steps.augment.reads.model": f"plugin:{options.writer}", "steps.augment.with.style": "completion", "steps.augment.with.adapt_epochs": 0}
    without = list(arm.get("without", []))
    if "stand_ins" in arm:
        sets |= {"steps.relabel.reads.stand_ins": "data.stand_ins"}
        sets |= {"data.stand_ins": here / arm["stand_ins"], "data.stand_ins.labels": labels(name)}
    else:
        without.append("data.stand_ins")
    if "batch" in arm:
        rate = arm["batch"] / options.rows
        sets |= {"steps.synthesise.with.sampling_rate": rate, "steps.synthesise.with.steps": round(1 / rate)}
    file = workflow(arm["workflow"], without)
    key = digest(file.read_text(), sorted((k, str(v)) for k, v in sets.items()), plugins(), options.stamp)
    def make(folder):
        return noisegate(options, file, sets | {"exports.augmented": folder / "augmented.jsonl"})
    folder, done = stage("samples", key, make)
    return folder / "augmented.jsonl", done


def training(options, name, seed, arm, base):
    """The workflow that trains and scores an arm's classifier, its overrides, and what its samples took."""
    here, took = draw(name, options, seed), {}
    sets = {"params.seed": seed, "data.test": here / "test.jsonl", "data.test.labels": labels(name)}
    reads = []
    if arm.get("rows", True):
        reads.append("data.private")
        sets |= {"data.private": here / "private.jsonl", "data.private.labels": labels(name)}
    if "workflow" in arm or "samples" in arm:
        if "workflow" in arm:
            samples, took = augmented(options, name, seed, arm)
        else:
            samples = here / arm["samples"]
        source, settings = LABELS[arm.get("labels", "teacher") if reads else "as-made"]
        reads.append(source)
        sets |= {"data.augmented": samples, "data.augmented.labels": labels(name)} | settings
    sets |= arm.get("train", {})
    needed = [step for source in reads for step in NEEDS.get(source, [])]
    unused = {step for steps in NEEDS.values() for step in steps} - set(needed)
    absent = {f"[steps.{step}]" for step in unused}
    absent |= {f"[{key}]" for key in ("data.private", "data.augmented") if key not in sets}
    text = (HERE / "train.toml").read_text()
    sections = [one for one in text.split("\n\n") if one.split("\n")[0] not in absent]
    text = "\n\n".join(sections).replace('["data.private", "label.samples"]', json.dumps(reads))
    if base == "minilm":
        text = text.replace(" }\nwith = { epochs = 24", f', base = "plugin:minilm" }}\nwith = {{ epochs = {options.epochs}')
        sets.pop("steps.train.with.epochs", None)
    if options.teachers > 1 and "[steps.teacher]" in text:
        text = several_teachers(text, options.teachers, seed)
    return text, sets, took


def several_teachers(text, count, seed):
    """The workflow with `count` teachers, each of a seed of its own, whose mean labels."""
    sections = text.split("\n\n")
    place = next(place for place, one in enumerate(sections) if one.startswith("[steps.teacher]"))
    for number in range(2, count + 1):
        more = sections[place].replace("[steps.teacher]", f"[steps.teacher-{number}]")
        sections.insert(place + 1, more.replace('"{{ params.seed }}"', str(1000 * number + seed)))
    models = ["teacher.model", *(f"teacher-{number}.model" for number in range(2, count + 1))]
    return "\n\n".join(sections).replace('model = "teacher.model"', f"model = {json.dumps(models)}")


# Sections of train.toml that are an arm's own, beside the teacher that arms share.
OWN = ("data.augmented", "steps.label", "steps.train", "steps.test")


def together(parts):
    """One workflow that trains the teacher once for several arms: `parts` by arm, text and overrides."""
    sections, sets = {}, {}
    for arm, (text, own) in parts.items():
        def named(match):
            return f"{match[0]}-{arm}"
        for section in text.split("\n\n"):
            head = section.split("\n")[0]
            if head.strip("[]") in OWN:
                section = re.sub(r"data\.augmented|steps\.(label|train|test)\b|(?<=\")(label|train)(?=\.)", named, section)
            sections[section] = None
        sets |= {re.sub("^(" + "|".join(map(re.escape, OWN)) + r")(?=$|\.)", named, key): value for key, value in own.items()}
    return "\n\n".join(section.rstrip("\n") for section in sections) + "\n", sets


def score(options, name, seed, arms, base):
    """Test accuracy of the classifier of each arm, and what its samples took. Arms that need the teacher share it."""
    parts = {arm: training(options, name, seed, ARMS[arm], base) for arm in arms}
    keys = {}
    for arm, (text, sets, _) in parts.items():
        known = [hashlib.sha256(pathlib.Path(v).read_bytes()).hexdigest() for k, v in sets.items() if k.count(".") == 1 and k.startswith("data.")]
        settings = sorted((k, str(v)) for k, v in sets.items() if k.count(".") > 1 or k.startswith("params."))
        keys[arm] = digest(text, known, settings, options.stamp)
    shared = [arm for arm, (text, _, _) in parts.items() if "[steps.teacher]" in text and not kept("score", keys[arm])]
    if len(shared) > 1:
        text, sets = together({arm: parts[arm][:2] for arm in shared})
        file = OUT / f"{digest(text)}-train.toml"
        file.write_text(text)
        done = noisegate(options, file, sets)
        for arm in shared:
            own = [one | {"step": "test"} for one in done["summary"]["scores"] if one["step"] == f"test-{arm}"]
            stage("score", keys[arm], lambda _: done | {"summary": done["summary"] | {"scores": own}})
    results = {}
    for arm, (text, sets, took) in parts.items():
        file = OUT / f"{digest(text)}-train.toml"
        file.write_text(text)
        done = stage("score", keys[arm], lambda _: noisegate(options, file, sets))[1]
        scores = done["summary"]["scores"][0]
        stages = [{key: one[key] for key in ("seconds", "steps", "memory_mib")} for one in (took, done) if one]
        results[arm] = {"accuracy": scores["accuracy"], "macro_f1": scores["macro_f1"], "stages": stages}
    return results


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="ag_news,cfpb_complaints,banking77")
    parser.add_argument("--rows", type=int, default=500, help="private rows")
    parser.add_argument("--test-rows", type=int, default=100_000, help="test rows at most")
    parser.add_argument("--seeds", type=int, default=5, help="how many")
    parser.add_argument("--arms", default=",".join(ARMS))
    parser.add_argument("--base", default="scratch", choices=["scratch", "minilm"])
    parser.add_argument("--epochs", type=int, default=4, help="of a MiniLM student")
    parser.add_argument("--teachers", type=int, default=1, help="how many MiniLMs label together")
    parser.add_argument("--writer", default=WRITER, help="the plugin that augments; one other than tiny-lm goes on with texts and is not adapted")
    parser.add_argument("--samples", type=int, default=400, help="released samples, of all labels together")
    parser.add_argument("--augmented", type=int, default=3000, help="augmented samples, of all labels together")
    parser.add_argument("--binary", type=pathlib.Path, default=ROOT / "target/release/noisegate")
    parser.add_argument("--home", type=pathlib.Path, default=OUT / "home", help="noisegate's home; two calls at a time need one each")
    parser.add_argument("--costs", action="store_true", help="print time and memory of each step, of the last seed")
    parser.add_argument("--record", type=pathlib.Path, help="a file of accuracies to add these to")
    parser.add_argument("--first", type=int, default=1, help="the first seed")
    parser.add_argument("--stamp", default="", help="any text; a new one forgets what was kept")
    options = parser.parse_args()
    OUT.mkdir(parents=True, exist_ok=True)
    results, document = {}, {}
    for seed in range(options.first, options.first + options.seeds):
        for name in options.data.split(","):
            for arm, result in score(options, name, seed, options.arms.split(","), options.base).items():
                results.setdefault(name, {}).setdefault(arm, []).append({"seed": seed} | result)
                print(f"seed {seed}  {name:16} {arm:14} {result['accuracy']:.4f}", flush=True)
            settings = {key: str(getattr(options, key)) for key in ("base", "rows", "test_rows", "samples", "augmented")}
            settings |= {key: str(getattr(options, key)) for key in ("epochs", "teachers", "writer") if getattr(options, key) != parser.get_default(key)}
            document = {"settings": settings, "arms": {arm: ARMS[arm]["help"] for arm in options.arms.split(",")}, "results": results}
            if options.record:
                record(options.record, document)
        (OUT / f"table-{options.base}.json").write_text(json.dumps(document, indent=1))
        (OUT / f"table-{options.base}.md").write_text(markdown(document))
        (OUT / f"table-{options.base}.svg").write_text(svg(document))
    print(markdown(document))
    if options.costs:
        print(costs(document))


if __name__ == "__main__":
    main()
