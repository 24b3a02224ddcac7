"""What the tables teach the image encoder, and what would be left if they taught nothing.

`nox -s bench -- distillation` makes a phantom of `--subjects` people at the joint crop of the preset `default`,
trains every arm below with `--seeds` seeds, embeds all scans by each, and asks `spinmark probe` how well the
true structure is read on held-out people. Every step is a command of spinmark and an artefact in `--folder`:
what is there already is left alone, so a run that was cut short goes on where it ended.

Each stage has a budget of `--steps` steps of 16 people. An arm of two stages starts from the first stage of
its seed, so that `self-supervised` and `distilled` had as many steps and the same start.

    untrained        the encoder as it was initialised
    self-supervised  two stages of contrast between views
    distilled        one such stage, then one with the teacher
    shuffled         as distilled, every training subject given another's table
    nuisance         as distilled, the teacher told of site, machine and noise alone
    missing          as distilled, half of the observed cells taken away before anything was fitted
    demographic      as distilled, the teacher told of demographics alone
    without-ROLE     as distilled, the teacher not told of the variables of one role
    parts            as distilled, the embedding in a part that the table explains and one that it does not
    coupling-C       as distilled, in a phantom whose tables follow the disease in a share C of the knees; at
                     0 the tables say nothing of the images (zero coupling)
    supervised-...   from scratch in two stages' steps on KL, on pain, on all variables of the teacher's roles
    teacher, pixels, radiomics: what needs no encoder (radiomics: volumes and intensities of structures)

The last line is one JSON object: the lower 95 % bounds of the gain in mean R2 over the true structural latents
(distilled minus self-supervised) with 50 and 200 labelled joints, the share of the gain that is kept with
half of the cells missing, the site's predictability over that of self-supervision, and the interval of the
gain at zero coupling.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from _distillation_report import COUPLINGS, SELF, Gains, draw, figures_of, tables

ROOT = Path(__file__).parents[1]
PRESET = ROOT / "configs" / "pretrain" / "demo.yaml"
DISTIL = ROOT / "configs" / "distil" / "demo.yaml"
SUPERVISED = ROOT / "configs" / "pretrain" / "supervised.yaml"
PROBE = ROOT / "configs" / "probe" / "demo.yaml"
ALWAYS = ("untrained", SELF, "distilled")
BASELINES = ("pixels", "radiomics", "teacher")


@dataclass(frozen=True)
class Job:
    """A command and what it needs.

    Args:
        name: What it makes, in a word or two.
        words: The command's words after `spinmark`.
        out: What it writes.
        after: What has to be there before.
    """

    name: str
    words: tuple[str, ...]
    out: Path
    after: tuple[Path, ...] = ()


def words_of(**options: object) -> tuple[str, ...]:
    """Options as words of a command line; `__` stands for a dot."""
    found: list[str] = []
    for name, value in options.items():
        found += [f"--{name.replace('__', '.').replace('from_', 'from')}", str(value)]
    return tuple(found)


class Study:
    """The artefacts of the study and the commands that make them.

    Args:
        folder: Where everything lies.
        subjects: People of the phantom.
        steps: Steps of a stage.
        seeds: Seeds of every arm.
        phantom_seed: That of the phantom.
        arms: The arms that are wanted beside those that all are compared with; none for all.
    """

    def __init__(
        self,
        folder: Path,
        subjects: int,
        steps: int,
        seeds: int,
        phantom_seed: int,
        arms: Iterable[str] = (),
    ) -> None:
        self.folder = folder
        self.steps = steps
        self.seeds = range(seeds)
        self._subjects, self._phantom_seed = subjects, phantom_seed
        self.cohort = folder / "cohort-1"
        self.split = folder / "split"
        self.truth = folder / "phantom-1" / "truth"
        self.runs: dict[str, list[Path]] = {}
        self._arms = set(arms)

    def wants(self, arm: str) -> bool:
        """Whether an arm is asked for."""
        return not self._arms or arm in {*self._arms, *ALWAYS}

    def made_up(self) -> list[Job]:
        """The phantoms, their cohorts and one split for all."""
        jobs = []
        for share in (1.0, *(c for c in COUPLINGS if self.wants(f"coupling-{c:g}"))):
            phantom, cohort = (self.folder / f"{kind}-{share:g}" for kind in ("phantom", "cohort"))
            size = words_of(
                subjects=self._subjects, seed=self._phantom_seed, table_coupling=share, out=phantom
            )
            size += words_of(preset="default")
            if share != 1.0:
                # Readings of the images themselves would tell of them whatever the coupling.
                size += words_of(moaks_share=0.0, write_labels="false")
            jobs.append(Job(f"phantom {share:g}", ("phantom", *size), phantom))
            words = ("ingest", *words_of(release=phantom / "release", out=cohort))
            if share == 1.0:
                words += words_of(labels=self.truth / "labels", label_maps__codes="phantom")
            jobs.append(Job(f"cohort {share:g}", words, cohort, (phantom,)))
        split = ("split", *words_of(config=ROOT / "configs/split/demo.yaml"))
        split += words_of(cohort=self.cohort, out=self.split)
        return [*jobs, Job("split", split, self.split, (self.cohort,))]

    def _train(
        self, arm: str, seed: int, command: str, config: Path, cohort: Path, **options: object
    ) -> Job:
        run = self.folder / "runs" / f"{arm}-{seed}"
        self.runs.setdefault(arm, []).append(run)
        start = options.get("from_")
        settings = {"optim__steps": self.steps, "monitor__every": 0, **options}
        words = (command, *words_of(config=config, cohort=cohort, split=self.split, out=run))
        words += words_of(seed=seed, trainer__threads=1, **settings)
        needs = (cohort, self.split, *((start,) if isinstance(start, Path) else ()))
        return Job(f"{arm}, seed {seed}", words, run, needs)

    def _second(
        self,
        arm: str,
        command: str,
        config: Path,
        first: list[Job],
        options: Mapping[str, object],
        share: float | None = None,
    ) -> list[Job]:
        """The second stage of an arm from each first one, on a cohort of some coupling."""
        if not self.wants(arm):
            return []
        if arm == "coupling-0":
            share = 0.0
        cohort = self.cohort if share is None else self.folder / f"cohort-{share:g}"
        # Another seed: the second stage must not draw the first one's views again.
        return [
            self._train(arm, seed + 100, command, config, cohort, from_=job.out, **options)
            for seed, job in zip(self.seeds, first, strict=True)
        ]

    def training(self) -> list[Job]:
        """Every arm, a job a seed; what the first claims need comes first."""
        first = [self._train("first", seed, "pretrain", PRESET, self.cohort) for seed in self.seeds]
        nothing: dict[str, object] = {"optim__steps": 0}
        jobs = [
            *first,
            *(
                self._train("untrained", seed, "pretrain", PRESET, self.cohort, **nothing)
                for seed in self.seeds
            ),
            *self._second(SELF, "pretrain", PRESET, first, {}),
        ]
        for arm, options in TAUGHT.items():
            told = {
                name: str(value).replace("NUISANCE", str(self.nuisance))
                for name, value in options.items()
            }
            jobs += self._second(arm, "distil", DISTIL, first, told)
        for share in COUPLINGS[1:]:
            jobs += self._second(f"coupling-{share:g}", "distil", DISTIL, first, {}, share)
        whole: dict[str, object] = {"optim__steps": 2 * self.steps}
        for name, labels in SUPERVISED_ON.items():
            told = {"objective__labels": f"[{labels}]"}
            for seed in self.seeds if self.wants(f"supervised-{name}") else ():
                jobs.append(
                    self._train(
                        *(f"supervised-{name}", seed, "pretrain", SUPERVISED, self.cohort),
                        **whole,
                        **told,
                    )
                )
        return jobs

    @property
    def nuisance(self) -> Path:
        """What the teacher of nuisances is told, a row a scan."""
        return self.folder / "nuisance.parquet"

    def embeddings(self) -> list[Job]:
        """The embeddings of every run, all of the first cohort's scans."""
        return [
            Job(
                f"embed {run.name}",
                ("embed", *words_of(cohort=self.cohort, run=run, out=self.embedded(run))),
                self.embedded(run),
                (run,),
            )
            for arm, runs in self.runs.items()
            if arm != "first"
            for run in runs
        ]

    def baselines(self) -> list[Job]:
        """What needs no encoder: voxels, shapes and intensities of structures, the teacher itself."""
        taught = self.runs["distilled"][0]
        asked = {
            "pixels": words_of(voxel_pca=128, split=self.split),
            "radiomics": words_of(radiomics="true", split=self.split),
            "teacher": words_of(teacher=taught),
        }
        jobs = []
        for name in BASELINES:
            out = self.folder / "embeddings" / name
            words = ("embed", *words_of(cohort=self.cohort, out=out), *asked[name])
            jobs.append(Job(name, words, out, (taught,)))
        return jobs

    def embedded(self, run: Path) -> Path:
        """Where the embeddings of a run lie."""
        return self.folder / "embeddings" / run.name


TAUGHT: Mapping[str, Mapping[str, object]] = {
    "distilled": {},
    "coupling-0": {},
    "shuffled": {"shuffle_tables": "true"},
    "nuisance": {"teacher__roles": "[]", "teacher__arrays": "[NUISANCE]"},
    "missing": {"teacher__missing": 0.5},
    "demographic": {"teacher__roles": "[demographic]"},
    "without-demographic": {"teacher__roles": "[symptom, function]"},
    "without-symptom": {"teacher__roles": "[demographic, function]"},
    "without-function": {"teacher__roles": "[demographic, symptom]"},
    "parts": {"transfer__parts__table": 64, "transfer__parts__terms": "{orthogonal: 5.0}"},
}
"""What the teacher is told in each arm that is distilled."""

SUPERVISED_ON: Mapping[str, str] = {
    "kl": "XRKL",
    "pain": "WOMKP",
    "all": "demographic, symptom, function",
}


def write_nuisance(cohort: Path, out: Path, seed: int = 0) -> None:
    """Write site and machine of every scan as columns of zeros and ones, and as many of noise."""
    import numpy as np
    import pandas as pd

    from spinmark_data.cohort.reader import Cohort

    if out.exists():
        return
    opened = Cohort.open(cohort)
    scans = opened.scans(opened.sequences[0]).reset_index(drop=True)
    columns = pd.get_dummies(scans[["site", "scanner"]].astype(str), dtype=float)
    noise = np.random.default_rng(seed).normal(size=columns.shape)
    columns = columns.join(
        pd.DataFrame(noise, columns=[f"noise_{i}" for i in range(noise.shape[1])])
    )
    columns.insert(0, "scan_id", scans["scan_id"].astype(str))
    columns.to_parquet(out, index=False)


def run_job(job: Job, log: Path) -> None:
    """Run a command as a process of its own.

    Raises:
        SystemExit: The command failed; its last words are shown.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    # Two runs of one thread each take less time together than one of two threads after the other.
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    with log.open("w") as file:
        command = [sys.executable, "-m", "spinmark", *job.words]
        code = subprocess.run(
            command, stdout=file, stderr=subprocess.STDOUT, env={**os.environ, **threads}
        ).returncode
    if code:
        tail = "\n".join(log.read_text().splitlines()[-4:])
        raise SystemExit(f"{job.name}: exit {code}; {log} ends with\n{tail}")


def run_all(jobs: Iterable[Job], logs: Path, at_once: int) -> None:
    """Run jobs, so many at once, each after those that make what it needs."""
    waiting, made, running = list(jobs), set[Path](), {}
    ours = {job.out for job in waiting}
    with ThreadPoolExecutor(at_once) as pool:
        while waiting or running:
            ready = [j for j in waiting if all(p in made or p not in ours for p in j.after)]
            for job in ready[: at_once - len(running)]:
                waiting.remove(job)
                log = logs / f"{job.name.replace(', seed ', '-').replace(' ', '-')}.log"
                running[pool.submit(run_job, job, log)] = (job, time.perf_counter())
            finished = [future for future in running if future.done()]
            for future in finished:
                job, begun = running.pop(future)
                future.result()
                made.add(job.out)
                print(f"{job.name}: {time.perf_counter() - begun:.0f} s", flush=True)
            if not finished:
                time.sleep(0.2)


def probe(study: Study) -> Path:
    """Score every arm on the test subjects, by one command."""
    out = study.folder / "probe"
    words: list[str] = ["probe", "--config", str(PROBE)]
    words += words_of(cohort=study.cohort, split=study.split, truth=study.truth, out=out)
    words += ["--against", f"[{SELF}]"]
    for arm, runs in study.runs.items():
        if arm != "first":
            words += [f"--embeddings.{arm}", f"[{', '.join(str(study.embedded(r)) for r in runs)}]"]
    for name in BASELINES:
        words += [f"--embeddings.{name}", str(study.folder / "embeddings" / name)]
    words += ["--runs.distilled", f"[{', '.join(map(str, study.runs['distilled']))}]"]
    run_job(Job("probe", tuple(words), out), study.folder / "logs" / "probe.log")
    return out


def main() -> None:
    """Make what is not there yet, score it and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--subjects", type=int, default=1000, help="people of the phantom (1000)")
    parser.add_argument("--steps", type=int, default=300, help="steps of a stage (300)")
    parser.add_argument("--seeds", type=int, default=3, help="seeds of every arm (3)")
    parser.add_argument("--phantom-seed", type=int, default=11, help="seed of the phantom (11)")
    parser.add_argument("--jobs", type=int, default=2, help="commands at once (2)")
    parser.add_argument(
        "--folder",
        type=Path,
        default=Path(tempfile.gettempdir()) / "spinmark-bench-distillation",
        help="folder that keeps every artefact",
    )
    parser.add_argument("--arms", default="", help="only these arms, by commas (all)")
    args = parser.parse_args()
    folder = args.folder.resolve()
    asked = tuple(filter(None, args.arms.split(",")))
    study = Study(folder, args.subjects, args.steps, args.seeds, args.phantom_seed, asked)
    begun = time.perf_counter()
    logs = folder / "logs"
    run_all(study.made_up(), logs, args.jobs)
    write_nuisance(study.cohort, study.nuisance)
    run_all([*study.training(), *study.embeddings(), *study.baselines()], logs, args.jobs)
    out = probe(study)
    gains = Gains(out)
    arms = [arm for arm in study.runs if arm not in ("first", SELF)]
    told = tables(gains, out, [*arms, *BASELINES])
    (folder / "table.md").write_text(told)
    print(f"\n{told}")
    if not asked:
        draw(gains, folder / "dose-response.png")
    minutes = (time.perf_counter() - begun) / 60
    print(f"{minutes:.0f} minutes; {folder}/table.md, {folder}/dose-response.png, {out}")
    wanted = all(study.wants(arm) for arm in ("missing", "coupling-0"))
    print(json.dumps(figures_of(gains) if wanted else {"arms": asked}))


if __name__ == "__main__":
    sys.exit(main())
