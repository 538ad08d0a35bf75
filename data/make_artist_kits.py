"""Make data/artist-kits, the meshes that come with the code, from a corpus with licences.

    python data/make_artist_kits.py ../shared/corpus data/artist-kits

Kept: at most 800 faces, a licence file found in the source or in another copy of the same pack (not the author's word alone). The
corpus's splits, which are by source pack, stay; train loses every shape that val or test has. The licence list and the card are
written from the rows that ship, so that their counts are true.
"""

from __future__ import annotations

import shutil
import sys
from collections import Counter, defaultdict
from pathlib import Path

# Run as a script: the checkout, not data/, is where the package is.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import pyarrow.parquet as pq

from meshgpt.train.prepare import PrepareOptions, PrepareReport, prepare_entries
from meshgpt.train.shards import check_free, replaced
from meshgpt.train.sources import Entry, entries

SPLITS = ("train", "val", "test")
TEXTS = ("words", "pack", "licence", "licence_evidence", "author", "source_repo", "source_path", "commit")
LICENCES, CARD = "LICENSES.md", "README.md"
MOST_MEGABYTES = 12


def main(corpus: Path, out: Path) -> None:
    check_free(out, overwrite=True, ours=[LICENCES, CARD, *(f"{name}.parquet" for name in SPLITS)])
    with replaced(out) as made:
        reports = {name: make_split(corpus, name, made) for name in SPLITS}
        rows = {name: pq.read_table(made / f"{name}.parquet", columns=["n_faces", *TEXTS]).to_pylist() for name in SPLITS}
        megabytes = sum(report.bytes for report in reports.values()) / 1e6
        if megabytes > MOST_MEGABYTES:
            raise SystemExit(f"the three files have {megabytes:.1f} MB together, more than {MOST_MEGABYTES}; lower max_faces")
        notes = notes_of((corpus / LICENCES).read_text(encoding="utf-8"))
        (made / LICENCES).write_text(licences([row for split in rows.values() for row in split], notes), encoding="utf-8")
        (made / CARD).write_text(card(rows, reports, megabytes), encoding="utf-8")
    for name, report in reports.items():
        print(f"{name:5} {report.kept:5} meshes {report.faces:8,} faces {report.bytes / 1e6:5.2f} MB")
    print(f"      {megabytes:.2f} MB together in {out}")


def make_split(corpus: Path, name: str, made: Path) -> PrepareReport:
    """Write one split; a split may hold no shape of those that come after it in SPLITS."""
    apart = tuple(corpus / f"{other}.parquet" for other in SPLITS[SPLITS.index(name) + 1 :])
    options = PrepareOptions(max_faces=800, exclude=apart, texts=TEXTS, workers=0, shard_megabytes=1000.0)
    report = prepare_entries(filter(has_licence_file, entries(corpus / f"{name}.parquet")), made / name, options)
    (made / name / report.shards[0]).rename(made / f"{name}.parquet")
    shutil.rmtree(made / name)
    return report


def has_licence_file(entry: Entry) -> bool:
    return not entry.metadata["licence_evidence"].startswith("author:")


def notes_of(text: str) -> dict[str, str]:
    """Author to the lines that stand between the heading and the list: where the licence is stated."""
    notes = {}
    for section in text.split("\n## ")[1:]:
        heading, *lines = section.splitlines()
        notes[heading.split(": ")[0]] = "\n".join(line for line in lines if line and not line.startswith("- "))
    return notes


def licences(rows: list[dict], notes: dict[str, str]) -> str:
    """LICENSES.md: by author, the packs, how many meshes of each, and from which repository and commit."""
    packs: dict[tuple[str, str], dict[str, Counter]] = defaultdict(lambda: defaultdict(Counter))
    for row in rows:
        packs[row["author"], row["licence"]][row["pack"]][row["source_repo"]] += 1
    parts = [
        "# Licences and attribution\n",
        f"{len(rows)} meshes. Each row carries licence, evidence of it, author, source repository, path and commit. "
        "CC0-1.0 and MIT-0 need no attribution; it is given here all the same.\n",
    ]
    totals = {key: sum(sum(repos.values()) for repos in of.values()) for key, of in packs.items()}
    for author, licence in sorted(packs, key=lambda key: (-totals[key], key)):
        parts.append(f"## {author}: {licence} ({totals[author, licence]} meshes)\n")
        if note := notes.get(author):
            parts.append(note + "\n")
        parts.append("\n".join(pack_line(pack, repos) for pack, repos in sorted(packs[author, licence].items())) + "\n")
    commits = sorted({(row["source_repo"], row["commit"]) for row in rows})
    parts.append("## Commits\n")
    parts.append("\n".join(f"- {repo} @ {commit}" for repo, commit in commits) + "\n")
    return "\n".join(parts)


def pack_line(pack: str, repos: Counter) -> str:
    return f"- {pack}: " + ", ".join(
        f"{number} from {repo}" for repo, number in sorted(repos.items(), key=lambda item: (-item[1], item[0]))
    )


def card(rows: dict[str, list[dict]], reports: dict[str, PrepareReport], megabytes: float) -> str:
    """README.md: what ships, in the form that the Hugging Face hub and `datasets` read."""
    lines = ["| split | meshes | faces | median faces | packs |", "|---|---|---|---|---|"]
    for name, split in rows.items():
        faces = sorted(row["n_faces"] for row in split)
        packs = len({row["pack"] for row in split})
        lines.append(f"| {name} | {len(split):,} | {sum(faces):,} | {faces[len(faces) // 2]} | {packs} |")
    left: Counter = Counter()
    for report in reports.values():
        left.update(report.skipped)
    kinds = Counter(row["licence"] for split in rows.values() for row in split)
    return TEXT_OF_CARD.format(
        table="\n".join(lines),
        megabytes=f"{megabytes:.1f}",
        licences=", ".join(f"{number:,} {kind}" for kind, number in kinds.most_common()),
        left=", ".join(f"{number:,} {reason}" for reason, number in left.most_common()),
    )


TEXT_OF_CARD = """---
license: [cc0-1.0, mit-0]
pretty_name: Artist kits
tags: [3d, mesh, low-poly]
configs:
- config_name: default
  data_files:
  - {{split: train, path: train.parquet}}
  - {{split: validation, path: val.parquet}}
  - {{split: test, path: test.parquet}}
---

# Artist kits

Low-poly meshes that people built by hand for games: furniture, buildings, vehicles, plants, food, tools. At most 800 triangles each,
{megabytes} MB together. {licences}; `LICENSES.md` says whose.

{table}

## Columns

- `vertices`: x, y, z in the cube [-0.5, 0.5], y up, centred, longest side 0.95; equal ones made one; ordered by (y, z, x). The floats are
  the artist's (16 bits from the corpus), not rounded to bins.
- `faces`: triangles, counterclockwise from outside as the source has them; lowest vertex first, in order. No degenerate or repeated face.
- `n_vertices`, `n_faces`, `id`, `words` (from the file name), `pack`, `licence`, `licence_evidence`, `author`,
  `source_repo`, `source_path`, `commit`.

## How it was made

`python data/make_artist_kits.py CORPUS data/artist-kits`, which calls `meshgpt prepare`'s own functions. Only meshes with a licence file
in their repository (`file: ...`), or in another repository that holds the same pack (`pack: ...`).
Left out after that: {left}.
The splits are by source pack, and no shape of `val` or `test` is in `train` (equal canonical corners at 128 bins).

## What to know before using it

Few makers, hence few styles: flat shading, hard edges, no texture in the data. Many meshes are open, non-manifold or made of parts that
intersect; they are as the artists left them. Modular pieces (walls, roads, roofs) are many, people and animals few.

```python
from datasets import load_dataset

kits = load_dataset("data/artist-kits")
```
"""


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit("pass the corpus and the folder to write: python data/make_artist_kits.py ../shared/corpus data/artist-kits")
    main(Path(sys.argv[1]), Path(sys.argv[2]))
